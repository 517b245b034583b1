"""Statistics of samples of time: medians, bootstrap intervals, a permutation test.

Chance comes from a fixed seed, so that the same samples give the same report. Sources: Efron and Tibshirani,
An Introduction to the Bootstrap, chapters 13 (percentile intervals) and 15 (permutation tests). May import
numpy and the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["LEVEL", "Change", "change_of", "noise_percent"]

LEVEL: Final = 0.95
"""Of the intervals."""
SEED: Final = 20241014
RESAMPLES: Final = 5000
SAMPLES_LEAST: Final = 5
"""Fewer have no interval worth the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much more the other samples' median is than the base's, in percent."""

    percent: float
    low: float
    high: float
    """The interval's ends, in percent."""
    p_value: float
    """How often as large a difference comes about when it does not matter which sample is whose."""

    @property
    def is_clear(self) -> bool:
        """The interval leaves 0 out, and chance seldom does as much."""
        return not self.low <= 0 <= self.high and self.p_value < 1 - LEVEL


def change_of(base: Sequence[float], other: Sequence[float]) -> Change | None:
    """The change between two sets of samples; None for too few of them, or a base of nothing."""
    first, second = np.asarray(base, dtype=float), np.asarray(other, dtype=float)
    if min(len(first), len(second)) < SAMPLES_LEAST or np.median(first) <= 0:
        return None
    chance = np.random.default_rng(SEED)
    medians = [
        np.median(chance.choice(samples, (RESAMPLES, len(samples))), axis=1) for samples in (first, second)
    ]
    resampled = 100 * (medians[1] / np.where(medians[0] > 0, medians[0], np.nan) - 1)
    low, high = np.nanquantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    seen = float(np.median(second) - np.median(first))
    pooled = np.concatenate((first, second))
    shuffled = chance.permuted(np.broadcast_to(pooled, (RESAMPLES, len(pooled))), axis=1)
    by_chance = np.median(shuffled[:, len(first) :], axis=1) - np.median(shuffled[:, : len(first)], axis=1)
    # One more on both sides: what was seen is one of the ways to deal the samples out.
    as_large = int(np.count_nonzero(np.abs(by_chance) >= abs(seen))) + 1
    return Change(
        percent=100 * seen / float(np.median(first)),
        low=float(low),
        high=float(high),
        p_value=as_large / (RESAMPLES + 1),
    )


def noise_percent(samples: Sequence[float]) -> float | None:
    """The noise floor: how far apart the medians of two halves of one set are, in percent; None for too few.

    The halves take every other sample, so that a drift is in both.
    """
    if len(samples) < 2 * SAMPLES_LEAST:
        return None
    even, odd = (float(np.median(samples[start::2])) for start in (0, 1))
    return 100 * abs(odd - even) / even if even > 0 else None
