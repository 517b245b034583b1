"""The smoke matrix as pytest tests: every check in every cell."""

from __future__ import annotations

import pytest

from harness.smoke import CHECKS, Check
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.subject import Subject
from harness.verdict import Verdict


def _ordinary(check: Check) -> bool:
    return not check.memory_mib


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if _ordinary(check)], ids=lambda check: check.name
)
def test_check(subject: Subject, check: Check) -> None:
    """The kernel passes a smoke check at the page size that was asked for."""
    _run(subject, check)


@pytest.mark.memory(3072)
@pytest.mark.parametrize(
    "check", [check for check in CHECKS if not _ordinary(check)], ids=lambda check: check.name
)
def test_check_with_much_memory(subject: Subject, check: Check) -> None:
    """The kernel passes a check that needs PMD-size pages, in a guest with the memory for them."""
    assert subject.machine.spec.memory_mib > BASE_MEMORY_MIB
    _run(subject, check)


def _run(subject: Subject, check: Check) -> None:
    result = check.result(subject)
    if result.verdict is Verdict.SKIP:
        pytest.skip(result.skip_reason)
    assert result.expectations > 0
    assert not result.findings, "\n".join(map(str, result.findings))
