"""The smoke matrix as pytest tests: every check in every cell, each in a guest of its own."""

from __future__ import annotations

import pytest

from harness.smoke import CHECKS, Check
from harness.smoke.subject import Subject
from harness.verdict import Verdict


def _ordinary(check: Check) -> bool:
    return not check.memory_mib


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if _ordinary(check)], ids=lambda check: check.name
)
def test_check(fresh_subject: Subject, check: Check) -> None:
    """The kernel passes a smoke check at the page size that was asked for."""
    _run(fresh_subject, check)


LARGE = pytest.mark.parametrize(
    "check", [check for check in CHECKS if not _ordinary(check)], ids=lambda check: check.name
)


@LARGE
@pytest.mark.page_size("4k", "16k")
def test_check_of_pmd_pages(fresh_subject: Subject, check: Check) -> None:
    """The kernel passes a check that needs PMD-size pages."""
    _run(fresh_subject, check)


@LARGE
@pytest.mark.page_size("64k")
@pytest.mark.memory(3072)
def test_check_of_pmd_pages_at_64k(fresh_subject: Subject, check: Check) -> None:
    """The same where such a page is 512 MiB, in a guest with the memory for it."""
    assert fresh_subject.machine.spec.memory_mib >= check.needs_mib(fresh_subject.page_size)
    _run(fresh_subject, check)


def test_powers_off(subject: Subject) -> None:
    """The guest that answers here is powered off afterwards, and its kernel log judged to its last line."""
    assert subject.sh("echo up").text == "up\n"


def _run(subject: Subject, check: Check) -> None:
    result = check.result(subject)
    if result.verdict is Verdict.SKIP:
        pytest.skip(result.skip_reason)
    assert result.expectations > 0
    assert not result.findings, "\n".join(map(str, result.findings))
