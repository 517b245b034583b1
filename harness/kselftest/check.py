"""One check for each test of a collection: put into the guest, run within its time, judged, taken away."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandTimeout, UsageError
from harness.kselftest.build import Suite
from harness.kselftest.facts import Facts, Needs
from harness.kselftest.judge import Outcome, judge
from harness.kselftest.script import Listed
from harness.linux.klog import harmless
from harness.linux.ktap import OUTPUT_LIMIT_BYTES
from harness.paths import data_dir
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import PageSize

__all__ = ["choose", "suite_checks", "why_not"]

GUEST_DIR = "/tmp/kselftest"  # noqa: S108 - the guest's
PUT_S = 180
"""For what is ours to do between two tests: a guest that does not take it hangs."""
OUTPUT_KEPT_BYTES = 8 << 10
_RUNNER = "run.sh"


def choose(
    tests: Iterable[Listed], categories: tuple[str, ...], names: tuple[str, ...]
) -> tuple[Listed, ...]:
    """The tests of those categories, and of those those with these titles or programs; all for neither.

    Raises UsageError for a category or name that no test has.
    """
    tests = tuple(tests)
    for wanted, known, what in (
        (categories, [one.category for one in tests], "category"),
        (names, [name for one in tests for name in (one.title, one.program)], "test"),
    ):
        unknown = [word for word in wanted if word not in known]
        if unknown:
            raise UsageError(
                f"there is no {what} '{unknown[0]}' in this source's kselftest; there are "
                f"{', '.join(dict.fromkeys(known))}"
            )
    chosen = tuple(
        one
        for one in tests
        if (not categories or one.category in categories)
        and (not names or one.title in names or one.program in names)
    )
    if not chosen:
        raise UsageError(f"no test of {', '.join(categories)} is called {', '.join(names)}")
    return chosen


def suite_checks(suite: Suite, facts: Facts, tests: Iterable[Listed], memory_mib: int) -> tuple[Check, ...]:
    """A check for each test, in order, for one guest with that much RAM; the first is that of the source."""
    memory = dict.fromkeys(PageSize, memory_mib)
    return (
        Check(run=_same_source(suite), label=f"{suite.collection}/source", memory_mib=memory),
        *(
            Check(
                run=_Test(suite=suite, facts=facts, listed=listed, memory_mib=memory_mib),
                label=f"{suite.collection}/{listed.category}/{listed.title}",
                memory_mib=memory,
            )
            for listed in tests
        ),
    )


def why_not(
    listed: Listed, needs: Needs, suite: Suite, size: PageSize, memory_mib: int, lacks: Callable[[str], bool]
) -> str:
    """Why a test is not run; empty where it is. `lacks`: whether the kernel is known to lack an option."""
    if size in needs.not_here:
        return needs.not_here[size]
    if listed.is_destructive:
        return "it is destructive: the script runs it only when asked to"
    missing = next((why for name in (listed.program, *needs.also) if (why := suite.missing(name))), "")
    if missing:
        return missing
    wanted_mib = needs.memory_mib[size]
    if wanted_mib > memory_mib:
        return f"it needs {wanted_mib} MiB at {size.label}, and --memory gives {memory_mib}"
    absent = [f"CONFIG_{option}" for option in needs.options if lacks(option)]
    if absent:
        return f"it needs {', '.join(absent)}, and the kernel was built without"
    return ""


def _same_source(suite: Suite) -> Callable[[Subject, Evidence], None]:
    def source(subject: Subject, evidence: Evidence) -> None:
        """The tests are built from the source of the version that runs."""
        release = subject.kernel.release
        if not re.match(rf"{re.escape(suite.version)}(?![0-9])", release):
            raise UsageError(
                f"the tests are built from {suite.version} ({suite.origin}), and the kernel is {release}: "
                "what fails would say nothing. Give its source with --tree."
            )
        evidence.equal("version of the tests' source", suite.version, release[: len(suite.version)])

    return source


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """The function of a check."""

    suite: Suite
    facts: Facts
    listed: Listed
    memory_mib: int

    def __call__(self, subject: Subject, evidence: Evidence) -> None:
        """The test passes, but for what it is known to fail."""
        needs = self.facts.needs_of(self.listed)

        def lacks(option: str) -> bool:
            return subject.config is not None and subject.option(option) is None

        reason = why_not(self.listed, needs, self.suite, subject.page_size, self.memory_mib, lacks)
        if reason:
            evidence.not_here(f"not run: {reason}")
            return
        self._put(subject, needs)
        seen = len(subject.machine.console.events)
        self._run(subject, needs, evidence)
        for event in subject.machine.console.events[seen:]:
            if event.kind.is_finding:
                evidence.holds(f"kernel log: {event.kind.value}", False, wanted="none", seen=event.line)

    def _put(self, subject: Subject, needs: Needs) -> None:
        deadline = subject.deadline.sooner(PUT_S)
        shell = subject.machine.shell
        shell.run(f"rm -rf {GUEST_DIR} && mkdir {GUEST_DIR} && chmod 755 {GUEST_DIR}", deadline)
        shell.put(data_dir("guests") / "kselftest" / _RUNNER, f"{GUEST_DIR}/{_RUNNER}", deadline)
        for name in (self.listed.program, *needs.also):
            shell.put(self.suite.directory / name, f"{GUEST_DIR}/{Path(name).name}", deadline)

    def _run(self, subject: Subject, needs: Needs, evidence: Evidence) -> None:
        settings = [f"{name.replace('.', '/')}={value}" for name, value in needs.sysctl.items()]
        command = needs.run or self.listed.command
        words = shlex.join([f"./{_RUNNER}", str(needs.huge_mib), *settings, "--", command])
        try:
            done = subject.machine.shell.run(
                f"cd {GUEST_DIR} && sh {words}",
                subject.deadline.sooner(needs.limit_s),
                keep_bytes=OUTPUT_LIMIT_BYTES,
            )
        except CommandTimeout as error:
            if not error.guest_answers or subject.deadline.expired():
                raise
            # It is the test that hangs: the guest took the interrupt, and goes on to the next one.
            evidence.timed_out(self.listed.title, within_s=needs.limit_s, said=str(error))
            return
        tail = done.output[-OUTPUT_KEPT_BYTES:]
        cut = "[…]\n" if len(done.output) > len(tail) else ""
        evidence.output = f"{cut}{harmless(tail).rstrip()}\n[exit status {done.status}]"
        known = self.facts.known_for(self.listed, subject.page_size, subject.kernel.release)
        judge(Outcome(output=done.output, status=done.status, truncated=done.truncated), known, evidence)
