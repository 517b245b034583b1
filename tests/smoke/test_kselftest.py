"""kselftest in real guests: two tests of Linux's, and some of ours that hang, fail and skip."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.store import KernelStore
from harness.kselftest.build import Suite, build_suite
from harness.kselftest.check import choose, suite_checks
from harness.kselftest.facts import Facts, Needs
from harness.kselftest.script import Listed
from harness.matrix.run import Bench
from harness.smoke.subject import Subject
from harness.verdict import CheckResult, Verdict

PROGRAMS = {
    "passes": "echo TAP version 13; echo 1..2; echo ok 1 a; echo ok 2 b # SKIP no b",
    "fails": "echo TAP version 13; echo 1..2; echo ok 1 a; echo not ok 2 b; exit 1",
    "is_cut": "echo TAP version 13; echo 1..2; echo ok 1 a; kill -9 $$",
    "skips": "echo no such thing here; exit 4",
    "hangs": "echo began; sleep 1000",
    "sets": 'test "$(cat /proc/sys/vm/overcommit_memory)" = 1',
    "looks": 'test "$(cat /proc/sys/vm/overcommit_memory)" = 0',
}


@pytest.fixture
def suite(tmp_path: Path, subject: Subject) -> Suite:
    """A collection of scripts, made as if from the source of the kernel that runs."""
    for name, body in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "build.log").touch()
    tests = tuple(Listed(category="ours", command=f"./{name}") for name in PROGRAMS)
    version = subject.kernel.release.split("+")[0].split("-")[0]
    return Suite(collection="mm", directory=tmp_path, tests=tests, version=version, origin="this test")


def _run(suite: Suite, subject: Subject, facts: Facts, tests: tuple[Listed, ...]) -> dict[str, CheckResult]:
    results = [check.result(subject) for check in suite_checks(suite, facts, tests, 1024)]
    return {result.name.rpartition("/")[2]: result for result in results}


def test_what_becomes_of_tests(suite: Suite, subject: Subject) -> None:
    """Each way to end has its verdict, and after a test that hangs the next ones run."""
    facts = Facts(
        needs=(Needs(test="hangs", limit_s=3), Needs(test="sets", sysctl={"vm.overcommit_memory": "1"}))
    )
    results = _run(suite, subject, facts, suite.tests)
    assert {name: result.verdict for name, result in results.items()} == {
        "source": Verdict.PASS,
        "passes": Verdict.PASS,
        "fails": Verdict.FAIL,
        "is_cut": Verdict.FAIL,
        "skips": Verdict.SKIP,
        "hangs": Verdict.TIMEOUT,
        "sets": Verdict.PASS,
        "looks": Verdict.PASS,
    }
    assert results["skips"].skip_reason == "no such thing here"
    assert [finding.what for finding in results["fails"].findings] == ["b"]
    assert "began" in results["hangs"].findings[0].seen


def test_another_version_is_refused(suite: Suite, subject: Subject) -> None:
    """Tests of another version than the kernel's are refused before the first of them runs."""
    other = Suite(
        collection="mm", directory=suite.directory, tests=suite.tests, version="5.4.3", origin="an old tree"
    )
    with pytest.raises(UsageError, match=r"built from 5\.4\.3 \(an old tree\)"):
        _run(other, subject, Facts(), other.tests[:1])


def test_a_category_of_linux(granule_bench: Bench, granule_kernels: KernelStore, subject: Subject) -> None:
    """The tests of PR_SET_MDWE and MREMAP_DONTUNMAP, built from the kernel's source, pass point by point."""
    if subject.kernel.name not in granule_kernels.catalogue.names:
        pytest.skip("the kernel is a file, whose source is not known: --granule-kernel with a catalogue name")
    tree = granule_kernels.source_of(subject.kernel.name)
    suite = build_suite(granule_bench.cache, tree, "mm")
    tests = choose(suite.tests, (), ("mdwe_test", "mremap_dontunmap"))
    results = _run(suite, subject, Facts.load("mm"), tests)
    assert {name: result.verdict for name, result in results.items()} == dict.fromkeys(
        ("source", "mdwe_test", "mremap_dontunmap"), Verdict.PASS
    )
    assert results["mdwe_test"].expectations > 10
