"""Tests of harness.determinism.conditions."""

from __future__ import annotations

import pytest

from harness.determinism.conditions import TRAP_VA, Conditions, explored
from harness.determinism.seed import Seed
from harness.errors import UsageError


def _option(words: tuple[str, ...], name: str) -> str:
    return words[words.index(name) + 1]


def test_without_a_seed() -> None:
    """Without a seed the kernel stays where it is linked, an instruction takes 1 ns, and entropy is fixed."""
    conditions = Conditions.of(None)
    assert "nokaslr" in conditions.kernel_words
    assert _option(conditions.qemu_words, "-icount") == "shift=0,sleep=off,align=off"
    assert _option(conditions.qemu_words, "-seed") == _option(Conditions.of(Seed(0)).qemu_words, "-seed")


def test_with_a_seed() -> None:
    """With a seed the kernel may move, and QEMU's source of chance is another for each seed."""
    assert "nokaslr" not in Conditions.of(Seed(0)).kernel_words
    seeds = {_option(Conditions.of(Seed(number)).qemu_words, "-seed") for number in range(20)}
    assert len(seeds) == 20
    assert all(0 <= int(seed) < 1 << 64 for seed in seeds)


def test_clock_and_start() -> None:
    """The guest's date is fixed and follows its own time, and nothing runs before the host is ready."""
    words = Conditions.of(None).qemu_words
    assert _option(words, "-rtc") == "base=2020-01-01T00:00:00,clock=vm"
    assert words.count("-S") == 1


@pytest.mark.parametrize("shift", [-1, 11])
def test_shift_limits(shift: int) -> None:
    """A shift that QEMU would refuse is refused here."""
    with pytest.raises(UsageError):
        Conditions(seed=Seed(1), icount_shift=shift)


def test_explored() -> None:
    """Exploring gives each seed once, from the first on, with both answers to KASLR and several shifts."""
    found = list(explored(Seed(2**64 - 2), 40))
    assert [one.seed.value for one in found] == [2**64 - 2, 2**64 - 1, *range(38)]
    assert {one.kaslr for one in found} == {True, False}
    assert len({one.icount_shift for one in found}) > 3


def test_explored_by_seed_alone() -> None:
    """A seed gives the same conditions wherever the exploration began: it can be repeated alone."""
    assert list(explored(Seed(5), 10))[3] == next(explored(Seed(8), 1))


def test_trap_address() -> None:
    """The agent's page is in the smallest user half, and begins a page of every size."""
    assert TRAP_VA < 1 << 36
    assert TRAP_VA % (1 << 16) == 0


def test_labels() -> None:
    """Conditions that differ in seed or shift are told apart in ids."""
    assert Conditions.of(None).label == "exact"
    assert Conditions.of(Seed(0)).label == "seed0"
    assert Conditions.of(Seed(7)).label == "seed7"
    assert Conditions(seed=Seed(7), icount_shift=3).label == "seed7-shift3"
    ids = [one.label for one in explored(Seed(0), 200)]
    assert len(set(ids)) == 200
