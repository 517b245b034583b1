"""One configuration after another, built in one output directory, so that each build reuses the last.

The configuration given is never edited: each one is it with some options off, put through the tree's own
`olddefconfig`, so that what was lost with an option comes back with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import InfraError
from harness.kernels.kbuild.build import Build, step_of
from harness.linux.kconfig import Kconfig
from harness.weed.failures import Failure, FailureReader, Kind
from harness.weed.ld import referrers

__all__ = ["FILE_OPTIONS", "Workbench", "prepared"]

_MAX_REMEMBERED = 4096
_STEPS = "granule.weed-steps"
FILE_OPTIONS = ("SYSTEM_TRUSTED_KEYS", "SYSTEM_REVOCATION_KEYS", "MODULE_SIG_KEY")
"""Options that name a file of the distribution's own, without which nothing in certs/ builds."""
_MADE_KEY = "certs/signing_key.pem"
"""kbuild makes this one when it is not there (certs/Makefile)."""


@dataclass(kw_only=True)
class Workbench:
    """A build directory and the configuration that was given."""

    build: Build
    base: str
    """The text of the configuration given, with what `prepared` adds."""
    round: str = ""
    """Shown before each step of the build."""
    known: dict[frozenset[str], str] = field(default_factory=dict)
    _expected: int | None = None

    def configure(self, off: Iterable[str]) -> Kconfig:
        """Leave the configuration with those options off in the output directory, and return it.

        Raises InfraError where the tree's kconfig refuses it.
        """
        key = frozenset(off)
        path = self.build.output / ".config"
        text = self.known.get(key)
        if text is None:
            lines = "".join(f"# CONFIG_{option} is not set\n" for option in sorted(key))
            path.write_text(f"{self.base}\n{lines}", encoding="utf-8")
            ran = self.build.run(["olddefconfig"], lambda line: step_of(line) is not None)
            if ran.status != 0:
                raise InfraError(
                    f"make olddefconfig of {self.build.source} failed with status {ran.status}: {ran.said}. "
                    f"The whole log is {self.build.log}."
                )
            text = path.read_text(encoding="utf-8", errors="replace")
            if len(self.known) < _MAX_REMEMBERED:
                self.known[key] = text
        elif path.read_text(encoding="utf-8", errors="replace") != text:
            path.write_text(text, encoding="utf-8")
        return Kconfig.parse(text, where=str(path))

    def attempt(self, targets: Sequence[str], *, lenient: bool = True) -> tuple[Failure, ...]:
        """Build, going on after failures, and return them; empty when all was built.

        Arguments: `lenient` has modpost only warn of what is undefined, so that vmlinux is linked too and
        shows its own. A target that the configuration does not build has not failed. Raises InfraError where
        make fails for another reason than the tree's.
        """
        reader = FailureReader(self.build.source, self.build.output)
        done = 0

        def on_line(line: str) -> bool:
            nonlocal done
            reader.feed(line)
            step = step_of(line)
            if step is None:
                return False
            done += 1
            total = None if self._expected is None else max(self._expected, done)
            self.build.progress(done, total, f"{self.round}: {step}" if self.round else step)
            return True

        # Output by the target, so that a compiler's words stand beside the object that failed.
        words = ["-k", "-Otarget", *(["KBUILD_MODPOST_WARN=1"] if lenient else []), *targets]
        ran = self.build.run(words, on_line)
        if reader.machine_fault:
            raise InfraError(
                f"the build was cut short by this machine, not by the tree: {reader.machine_fault}. Nothing "
                f"was blamed for it. The whole log is {self.build.log}."
            )
        if ran.status != 0 and not reader.failures and not reader.not_built & set(targets):
            raise InfraError(
                f"make {' '.join(targets)[:200]} of {self.build.source} failed with status {ran.status}, and "
                f"its log does not say for which object: {reader.unexplained or ran.said}. The whole log is "
                f"{self.build.log}."
            )
        self._count(done)
        return self._with_referrers(reader.failures)

    def _with_referrers(self, failures: tuple[Failure, ...]) -> tuple[Failure, ...]:
        """Every object that refers to what is undefined, where ld names the first five."""
        symbols = {symbol for failure in failures if failure.kind is Kind.LINK for symbol in failure.symbols}
        archive = self.build.output / "vmlinux.a"
        if not symbols or not archive.exists():
            return failures
        by_object = {failure.object for failure in failures}
        sample = next(failure for failure in failures if failure.symbols and failure.kind is Kind.LINK)
        more: dict[str, Failure] = {}
        nm = self.build.toolchain.tool("nm")
        for symbol, members in referrers(nm, archive, symbols).items():
            for member in members:
                if member not in by_object:
                    text = f"{member}: undefined reference to `{symbol}'"
                    known = more.get(member) or replace(sample, object=member, error=text, symbols=())
                    more[member] = replace(known, symbols=(*known.symbols, symbol))
        return failures + tuple(more.values())

    def _count(self, done: int) -> None:
        """Remember how many steps the first build took: a later weeding of this tree shows its progress."""
        path = self.build.output / _STEPS
        if self._expected is None and done > 100:
            path.write_text(f"{done}\n", encoding="utf-8")
        self._expected = None

    def expect_first(self) -> None:
        """Show progress of the next build against the steps of the last first one, where there was one."""
        try:
            self._expected = int((self.build.output / _STEPS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._expected = self.build.expected_steps or None


def prepared(base: Mapping[str, str], tree: Path, fragment: str) -> tuple[str, tuple[str, ...]]:
    """What to add to a configuration before anything is built, as Kconfig lines, and notes for the user.

    `fragment` is taken over; a file that an option names and the tree does not have is left out.
    """
    lines = [line for line in fragment.splitlines() if re.match(r"CONFIG_|# CONFIG_\w+ is not set", line)]
    notes: list[str] = []
    for option in FILE_OPTIONS:
        value = base.get(option, "")
        is_made = not value or value == _MADE_KEY or value.startswith("pkcs11:")
        if not is_made and not (tree / value).is_file():
            lines.append(f'CONFIG_{option}="{_MADE_KEY if option == "MODULE_SIG_KEY" else ""}"')
            notes.append(f"CONFIG_{option} names {value[:80]}, which the tree does not have: left out")
    return "\n".join(lines), tuple(notes)
