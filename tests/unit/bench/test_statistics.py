"""Statistics of samples of time."""

from __future__ import annotations

import numpy as np
import pytest

from harness.bench.statistics import change_of, noise_percent


def _samples(seed: int, centre: float, count: int = 40) -> list[float]:
    return list(np.random.default_rng(seed).normal(centre, 2.0, count))


def test_a_change_is_found() -> None:
    """Ten percent more among noise of two is found, and lies in its interval."""
    change = change_of(_samples(1, 100), _samples(2, 110))
    assert change is not None
    assert change.low < 10 < change.high
    assert change.low <= change.percent <= change.high
    assert change.is_clear
    assert change.p_value < 0.001


def test_chance_is_rarely_a_change() -> None:
    """Of forty pairs drawn alike, about as many are taken for changed as the level says."""
    changes = [change_of(_samples(seed, 100), _samples(1000 + seed, 100)) for seed in range(40)]
    assert sum(change is not None and change.is_clear for change in changes) <= 5


def test_it_repeats() -> None:
    """The same samples give the same interval."""
    base, other = _samples(3, 50), _samples(4, 51)
    assert change_of(base, other) == change_of(base, other)


@pytest.mark.parametrize(
    ("base", "other"), [([1.0] * 4, [1.0] * 9), ([1.0] * 9, [1.0] * 4), ([0.0] * 9, [1.0] * 9)]
)
def test_nothing_to_say(base: list[float], other: list[float]) -> None:
    """Too few samples, or a base of nothing, give no change."""
    assert change_of(base, other) is None


def test_equal_samples() -> None:
    """No difference at all is none, and is not clear."""
    change = change_of([5.0] * 9, [5.0] * 9)
    assert change is not None
    assert (change.percent, change.low, change.high, change.p_value) == (0, 0, 0, 1)
    assert not change.is_clear


def test_noise() -> None:
    """The noise floor is the distance of the halves' medians; of few samples there is none."""
    assert noise_percent([100.0, 103.0] * 10) == pytest.approx(3)
    assert noise_percent([100.0] * 9) is None
