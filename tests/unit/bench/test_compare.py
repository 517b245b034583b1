"""Two results side by side, and the reasons for their difference."""

from __future__ import annotations

import pytest

from harness.bench.compare import compare, worst
from harness.bench.guest_output import EMPTY, Outcome
from harness.bench.profile import Profile
from harness.bench.reasons import reasons_for
from harness.bench.result import HARDWARE, Clock
from harness.errors import UsageError
from harness.spec import PageSize

from .conftest import MakeResult, MakeRow


def test_exact(row: MakeRow, result: MakeResult) -> None:
    """200 instructions more are 200 more, without an interval, and with nothing else to say."""
    found = compare(result(row("fork", (1000,))), result(row("fork", (1200,))))
    (fork,) = found.differences
    assert (fork.more, fork.percent, fork.change) == (200, 20.0, None)
    assert found.headlines == ()
    assert found.is_exact


def test_no_difference(row: MakeRow, result: MakeResult) -> None:
    """Equal counts differ by nothing."""
    (fork,) = compare(result(row("fork", (1000,))), result(row("fork", (1000,)))).differences
    assert (fork.more, fork.percent) == (0, 0)


@pytest.mark.parametrize(
    "given", [{"clock": Clock.TIME}, {"accelerator": "kvm"}, {"clock": Clock.TIME, "accelerator": HARDWARE}]
)
def test_two_clocks(row: MakeRow, result: MakeResult, given: dict[str, object]) -> None:
    """Numbers of two clocks or accelerators are refused."""
    with pytest.raises(UsageError, match="cannot be compared"):
        compare(result(row("fork", (1,))), result(row("fork", (1,)), **given))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"compiler": "gcc 14"}, "different compilers: gcc 12, gcc 14"),
        ({"config": {"A": "y", "KASAN": "y"}}, "different configurations: KASAN"),
        ({"config": {}}, "not known"),
        ({"cpu": "max"}, "different CPU models"),
        ({"memory_mib": 1024}, "different amounts of memory"),
        ({"large_bytes": 1 << 30}, "in place of 1 GiB"),
        ({"program_sha256": "other"}, "different benchmark programs"),
        ({"verified": False}, "measured once"),
        ({"first": False}, "ahead of all else"),
    ],
)
def test_headlines(row: MakeRow, result: MakeResult, given: dict[str, object], words: str) -> None:
    """What else differs is told before any number."""
    found = compare(result(row("fork", (1,))), result(row("fork", (1,)), **given))
    assert any(words in line for line in found.headlines), found.headlines


def test_options_of_a_page_size(row: MakeRow, result: MakeResult) -> None:
    """Of two page sizes only those options are told that do not follow from them."""
    four = result(config={"ARM64_4K_PAGES": "y", "PAGE_SHIFT": "12", "DEBUG": "y"})
    sixty = result(config={"ARM64_64K_PAGES": "y", "PAGE_SHIFT": "16"}, page_size=PageSize.K64)
    assert compare(four, sixty).headlines == ("different configurations beyond the page size: DEBUG",)


def test_no_number(row: MakeRow, result: MakeResult) -> None:
    """A benchmark without a number on one side has no difference, and says whose fault it is."""
    failed = row("fork", (1,), outcome=Outcome.FAIL, reason="wrong")
    (fork,) = compare(result(row("fork", (1,))), result(failed)).differences
    assert (fork.more, fork.percent, fork.base_reason, fork.other_reason) == (None, None, "", "fail: wrong")


def test_only_one_has_it(row: MakeRow, result: MakeResult) -> None:
    """A benchmark that one result lacks is listed all the same."""
    found = compare(result(row("fork", (1,))), result(row("dup", (1,))))
    assert [(one.name, one.other_reason) for one in found.differences] == [
        ("fork", "it was not run"),
        ("dup", ""),
    ]
    assert any("different sets" in line for line in found.headlines)


def test_threshold(row: MakeRow, result: MakeResult) -> None:
    """What became dearer by more than the threshold is listed; what became cheaper is not."""
    base = result(row("a", (1000,)), row("b", (1000,)), row("c", (1000,)))
    other = result(row("a", (1011,)), row("b", (1010,)), row("c", (100,)))
    assert [line.partition(":")[0] for line in worst((compare(base, other),), 1.0)] == ["a"]


def test_threshold_of_time(row: MakeRow, result: MakeResult) -> None:
    """Of time only a clear change is over a threshold."""
    noisy = tuple(range(900, 1100, 10))
    base = result(row("fork", noisy), clock=Clock.TIME)
    other = result(row("fork", tuple(tick + 20 for tick in noisy)), clock=Clock.TIME)
    comparison = compare(base, other)
    assert comparison.differences[0].percent is not None
    assert comparison.differences[0].percent > 1
    assert worst((comparison,), 1.0) == ()


def test_reasons(row: MakeRow, result: MakeResult) -> None:
    """The functions that differ add up to the difference, per operation, the largest first."""
    before = Profile(user=8, functions={"a": 100, "b": 50, "c": 10})
    after = Profile(user=8, functions={"a": 80, "b": 250, "d": 6})
    base = result(row(EMPTY, (0,)), row("fork", (168,), times=2, profile=before))
    other = result(row(EMPTY, (0,)), row("fork", (344,), times=2, profile=after))
    reasons = reasons_for(base, other, "fork")
    assert reasons is not None
    assert [(part.name, part.more) for part in reasons.functions] == [
        ("b", 100),
        ("a", -10),
        ("c", -5),
        ("d", 3),
    ]
    assert sum(part.more for part in reasons.functions) == reasons.other_total - reasons.base_total == 88
    assert compare(base, other).differences[0].more == 88


def test_beside(row: MakeRow, result: MakeResult) -> None:
    """Faults are those of the sample that is the number, for one operation; tables those of all of it."""
    rows = [
        row("fork", (10, 30, 20), times=2, faults=(2, 8, 6), table_kib=(0, 0, size), profile=Profile(user=1))
        for size in (128, 64)
    ]
    reasons = reasons_for(result(rows[0]), result(rows[1]), "fork")
    assert reasons is not None
    assert [(part.name, part.base, part.other) for part in reasons.beside] == [
        ("in user space", 0.5, 0.5),
        ("page faults (process)", 3, 3),
        ("page tables, KiB", 128, 64),
    ]


def test_no_reasons(row: MakeRow, result: MakeResult) -> None:
    """Without counts by function in both there are no reasons."""
    base, other = result(row("fork", (1,), profile=Profile(user=1))), result(row("fork", (1,)))
    assert reasons_for(base, other, "fork") is None
    assert reasons_for(base, base, "unknown") is None
