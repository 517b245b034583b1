"""The engine, with a builder and a runner that need no machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.series.engine import CANNOT_TELL, Asked, Engine, SeriesResult
from harness.series.order import Mode
from harness.series.store import Results
from harness.series.values import BUILD, Variant
from harness.series.verdicts import Word
from harness.spec import PageSize
from tests.unit.series.fakes import K4, K16, K64, Deaf, FakeBuilder, FakeRunner, asked

Start = Callable[..., SeriesResult]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs a series to its result, with one state directory for the test."""
    image = tmp_path / "Image"
    image.touch()

    def run(
        what: Asked, builder: FakeBuilder | None = None, runner: FakeRunner | None = None, **more: object
    ) -> SeriesResult:
        builder = builder or FakeBuilder()
        builder.image = str(image)
        return Engine(
            asked=what,
            builder=builder,
            runner=runner or FakeRunner(),
            results=Results(tmp_path / "state"),
            listening=Deaf(),
            **more,  # type: ignore[arg-type]
        ).run()

    return run


def words(result: SeriesResult, variant: Variant, check: str) -> list[Word]:
    """The verdicts on the patches."""
    return [one.word for one in result.table()[variant, check][1:]]


def test_a_clean_series_is_clean(start: Start) -> None:
    """Where nothing fails nothing is said, and the status is 0."""
    result = start(asked(3))
    assert result.exit_status == 0
    assert not result.bad()
    assert words(result, K16, "mapping") == [Word.PASS] * 3


def test_first_bad_patch_by_size_and_check(start: Start) -> None:
    """The patch is named with the page size and the check, and the clean ones after it are not blamed."""
    runner = FakeRunner(lambda step, variant, _run: ("mapping",) if step >= 2 and variant == K16 else ())
    result = start(asked(4), runner=runner)
    assert [(bad.step, bad.variant, bad.check) for bad in result.bad()] == [(2, K16, "mapping")]
    assert words(result, K16, "mapping") == [Word.PASS, Word.NEW, Word.STILL, Word.STILL]
    assert words(result, K64, "mapping") == [Word.PASS] * 4
    assert result.exit_status == 1


def test_what_fails_on_the_base_is_not_blamed(start: Start) -> None:
    """The base is the control."""
    runner = FakeRunner(lambda _step, _variant, _run: ("swap",))
    result = start(asked(2), runner=runner)
    assert words(result, K4, "swap") == [Word.BASE, Word.BASE]
    assert result.exit_status == 0


def test_a_build_failure_at_one_size(start: Start) -> None:
    """It is a check like others, the guest's checks are not built there, and a later patch fixes it."""
    result = start(asked(3), FakeBuilder(broken={2: (PageSize.K64,)}))
    assert words(result, K64, BUILD) == [Word.PASS, Word.NEW, Word.FIXED]
    assert words(result, K64, "mapping") == [Word.PASS, Word.NOT_BUILT, Word.PASS]
    assert words(result, K16, BUILD) == [Word.PASS] * 3
    assert [bad.judged.outcome.place for bad in result.bad()] == ["mm/a.c:3"]


def test_a_base_that_does_not_build(start: Start) -> None:
    """The series is not blamed for it, nothing of that size is tried, and it cannot be told."""
    builder = FakeBuilder(broken=dict.fromkeys(range(3), (PageSize.K64,)))
    result = start(asked(2, variants=(K64,)), builder)
    assert builder.built == [(0, "64k")]
    assert not result.bad()
    assert result.exit_status == CANNOT_TELL
    assert result.outcome(1, K64, "mapping") is not None


def test_flaky(start: Start) -> None:
    """A check that fails in some of its runs is flaky, with how many, and nobody is blamed for it."""
    runner = FakeRunner(lambda step, variant, run: ("swap",) if (step, variant, run) == (1, K4, 0) else ())
    result = start(asked(1), runner=runner)
    (judged,) = result.table()[K4, "swap"][1:]
    assert (judged.word, judged.count) == (Word.FLAKY, "1/3")
    assert result.exit_status == CANNOT_TELL


def test_what_is_known_to_fail_is_not_repeated(start: Start) -> None:
    """A new failure is run three times, and once where it failed before."""
    runner = FakeRunner(lambda step, _variant, _run: ("swap",) if step >= 1 else ())
    start(asked(3, variants=(K4,)), runner=runner)
    # The tip comes before the patches between, and so is new when it is run.
    assert {step: runner.ran.count((step, "4k")) for step in range(4)} == {0: 1, 3: 3, 1: 3, 2: 1}


def test_documentation_makes_no_kernel(start: Start) -> None:
    """A patch that builds nothing is neither built nor blamed, and what follows is told exactly."""
    builder = FakeBuilder()
    runner = FakeRunner(lambda step, _variant, _run: ("swap",) if step == 3 else ())
    result = start(asked(3, inert=(2,)), builder, runner)
    assert 2 not in {step for step, _size in builder.built}
    assert words(result, K4, "swap") == [Word.PASS, Word.NOTHING, Word.NEW]
    assert all(bad.is_exact for bad in result.bad())


def test_only_documentation(start: Start) -> None:
    """Nothing is built at all, and nothing is wrong."""
    builder = FakeBuilder()
    result = start(asked(2, inert=(1, 2)), builder)
    assert builder.built == []
    assert result.exit_status == 0


def test_not_exercised_is_no_pass(start: Start) -> None:
    """A patch that nothing here drives is built, and that is all that is said of it."""
    result = start(asked(2, idle=(1,)))
    assert words(result, K4, "mapping") == [Word.UNEXERCISED, Word.PASS]
    assert result.exit_status == 0
    assert start(asked(1, idle=(1,))).exit_status == CANNOT_TELL


def test_order(start: Start) -> None:
    """The base and the whole series come first, the largest page size before the others."""
    builder = FakeBuilder()
    start(asked(3), builder)
    assert builder.built[:6] == [(step, size) for step in (0, 3) for size in ("64k", "16k", "4k")]


def test_bisect_tries_few(start: Start) -> None:
    """Bisecting finds the first bad patch of sixteen at its size with four more kernels, and names it."""
    builder = FakeBuilder()
    runner = FakeRunner(lambda step, variant, _run: ("mapping",) if step >= 11 and variant == K16 else ())
    result = start(asked(16, mode=Mode.BISECT), builder, runner)
    (bad,) = result.bad()
    assert (bad.step, bad.is_exact) == (11, True)
    assert len(builder.built) <= 6 + 4
    assert {size for step, size in builder.built if step not in (0, 16)} == {"16k"}


def test_bisect_around_what_does_not_build(start: Start) -> None:
    """Where the patches between do not build a range is named, and it ends."""
    builder = FakeBuilder(broken={2: (PageSize.K4,), 3: (PageSize.K4,)})
    runner = FakeRunner(lambda step, _variant, _run: ("mapping",) if step >= 3 else ())
    result = start(asked(4, mode=Mode.BISECT, variants=(K4,)), builder, runner)
    named = [(bad.check, bad.after, bad.step) for bad in result.bad()]
    assert ("mapping", 1, 4) in named
    assert (BUILD, 1, 2) in named


def test_tip(start: Start) -> None:
    """Only the base and the whole are tried."""
    builder = FakeBuilder()
    start(asked(5, mode=Mode.TIP, variants=(K4,)), builder)
    assert builder.built == [(0, "4k"), (5, "4k")]


def test_goes_on_after_a_kill(start: Start) -> None:
    """What was finished is not repeated, and the table is the one of a run that was not killed."""
    fails = lambda step, variant, _run: ("mapping",) if step >= 2 and variant == K64 else ()  # noqa: E731
    first = FakeRunner(fails, kill_after=5)
    so_far: list[SeriesResult] = []
    with pytest.raises(KeyboardInterrupt):
        start(asked(4), runner=first, on_interrupt=so_far.append)
    assert so_far[0].stopped == "an interrupt"
    assert (0, K64) in so_far[0].units
    builder, second = FakeBuilder(), FakeRunner(fails)
    result = start(asked(4), builder, second)
    whole = FakeRunner(fails)
    fresh = start(asked(4), FakeBuilder(), whole, reuse=False)
    assert result.table() == fresh.table()
    assert len(first.ran) + len(second.ran) == len(whole.ran)
    assert (0, "64k") not in builder.built


def test_a_longer_series_reuses_its_beginning(start: Start) -> None:
    """Patches that were tried are not tried again when one is added."""
    start(asked(2, variants=(K4,)))
    builder = FakeBuilder()
    start(asked(3, variants=(K4,)), builder)
    assert builder.built == [(3, "4k")]


def test_full_disk(start: Start) -> None:
    """It ends what it does, blames nobody, keeps what it has, and says so."""
    result = start(asked(3, variants=(K4,)), FakeBuilder(full_at=1))
    assert "No space left" in result.stopped
    assert not result.bad()
    assert result.exit_status == CANNOT_TELL
    assert (3, K4) in result.units


def test_budget(start: Start) -> None:
    """When the time is over it ends, and says what was left out."""
    now = [0.0]

    def clock() -> float:
        now[0] += 10.0
        return now[0]

    result = start(asked(6, budget_s=300.0), clock=clock)
    assert result.stopped.startswith("the budget of 300 s")
    assert result.missing
    assert {(0, K64), (0, K4)} <= result.units.keys()
    assert result.exit_status == CANNOT_TELL


def test_boot_time_kernels_run_at_each_size(start: Start) -> None:
    """One build is run at three page sizes; a base without such kernels is no control and no failure."""
    sizes = tuple(Variant(size.bytes, True) for size in PageSize)
    builder = FakeBuilder(absent=frozenset({0}))
    runner = FakeRunner()
    result = start(asked(1, variants=sizes), builder, runner)
    assert builder.built == [(0, "boot"), (1, "boot")]
    assert runner.ran == [(1, f"boot-{size.token}") for size in PageSize]
    assert result.table()[sizes[0], BUILD][0].word is Word.NOT_BUILT
    assert words(result, sizes[0], BUILD) == [Word.PASS]
