"""Before and after: what counts as worse, as better, and as no difference."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.spec import PageSize
from harness.trial import Outcome, compare
from harness.trial.outcome import RuleCount
from harness.verdict import CellResult, CheckResult, Verdict


def _rule(*, broken: int = 0, comparisons: int = 5, driver: str = "storvsc") -> RuleCount:
    return RuleCount(driver=driver, source="s.c", claim="it is so", comparisons=comparisons, broken=broken)


def _outcome(
    checks: Mapping[str, Verdict], rules: Mapping[str, RuleCount] | None = None, cell: Verdict = Verdict.PASS
) -> Outcome:
    result = CellResult(
        id="x", page_size_asked=PageSize.K16, page_size_in_force=PageSize.K16, kernel="k", cpu="c",
        accel="tcg", vcpus=2, memory_mib=384, verdict=cell, reason="", duration_s=1.0, boot_s=1.0, rerun="",
        console="",
        checks=tuple(
            CheckResult(name=name, verdict=verdict, expectations=1, duration_s=0.1)
            for name, verdict in checks.items()
        ),
    )  # fmt: skip
    return Outcome(cell=result, rules=rules or {})


GOOD = {"storvsc": Verdict.PASS, "wire": Verdict.PASS}


def test_no_difference() -> None:
    """Guests that show the same are neither worse nor better, whatever they show."""
    for checks, rules in ((GOOD, {"r": _rule()}), ({"storvsc": Verdict.FAIL}, {"r": _rule(broken=3)})):
        found = compare(_outcome(checks, rules), _outcome(checks, rules))
        assert (found.is_worse, found.is_better, found.rules) == (False, False, ())


@pytest.mark.parametrize(
    ("before", "after", "worse", "better"),
    [
        (Verdict.PASS, Verdict.FAIL, True, False),
        (Verdict.PASS, Verdict.HANG, True, False),
        (Verdict.PASS, None, True, False),
        (Verdict.SKIP, Verdict.FAIL, True, False),
        (None, Verdict.FAIL, True, False),
        (Verdict.FAIL, Verdict.PASS, False, True),
        (None, Verdict.PASS, False, True),
        (Verdict.FAIL, Verdict.HANG, False, False),
        (Verdict.FAIL, None, False, False),
        (Verdict.PASS, Verdict.INFRA, False, False),
    ],
)
def test_one_check(before: Verdict | None, after: Verdict | None, worse: bool, better: bool) -> None:
    """A check is worse that fails or is gone where it passed, better the other way, or neither."""
    one, other = ({} if verdict is None else {"storvsc": verdict} for verdict in (before, after))
    found = compare(_outcome(one), _outcome(other))
    assert (found.is_worse, found.is_better) == (worse, better)


def test_the_cells_own_verdict_counts() -> None:
    """A kernel log with an oops fails the cell, though every check in it passed."""
    found = compare(_outcome(GOOD), _outcome(GOOD, cell=Verdict.OOPS))
    assert found.is_worse
    assert str(found.checks[-1]) == "PASS > OOPS"


def test_rules() -> None:
    """A rule that is broken in one of the two only is named, with which; a rule broken in both is not."""
    before = {"new": _rule(), "both": _rule(broken=1), "gone": _rule(broken=2)}
    after = {"new": _rule(broken=4), "both": _rule(broken=9), "gone": _rule(), "other": _rule(broken=1)}
    found = compare(_outcome(GOOD, before), _outcome(GOOD, after))
    assert [(one.name, one.is_worse, one.rule.broken) for one in found.rules] == [
        ("new", True, 4),
        ("gone", False, 2),
        ("other", True, 1),
    ]
    assert found.is_worse
    assert found.is_better


def test_what_crossed_the_wire() -> None:
    """A driver was exercised if one of its rules compared something, or was broken."""
    rules = {"a": _rule(), "b": _rule(driver="netvsc", comparisons=0)}
    outcome = _outcome(GOOD, rules)
    assert outcome.crossed("hv_storvsc")
    assert not outcome.crossed("hv_netvsc")
    assert not outcome.crossed("hv_sock")
    assert _outcome(GOOD, {"p": _rule(driver="netvsc", comparisons=0, broken=1)}).crossed("hv_netvsc")
