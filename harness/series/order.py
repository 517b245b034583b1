"""What is done next: the base, the whole series, then whatever narrows the first failure down most.

Pure. With every patch to be tried, those that halve a range with a failure come first, then the rest in
order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import Enum

from harness.series.values import Variant
from harness.series.verdicts import FirstBad

__all__ = ["Mode", "next_step"]


class Mode(Enum):
    """Which steps are tried."""

    EVERY = "every patch"
    TIP = "tip"
    BISECT = "bisect"


def next_step(
    mode: Mode,
    variants: Sequence[Variant],
    effective: Sequence[int],
    done: Collection[tuple[int, Variant]],
    bad: Iterable[FirstBad],
) -> tuple[int, Variant] | None:
    """The step and the page size to try next; None when there is nothing left.

    Arguments: `effective`, the steps that have a kernel of their own, base first; `done`, what was tried;
    `bad`, the failures known so far.
    """
    ends = tuple(dict.fromkeys((effective[0], effective[-1])))
    for step in ends:
        for variant in variants:
            if (step, variant) not in done:
                return step, variant
    if mode is Mode.TIP:
        return None
    for one in bad:
        between = [
            step for step in effective if one.after < step < one.step and (step, one.variant) not in done
        ]
        if between:
            return between[(len(between) - 1) // 2], one.variant
    if mode is Mode.BISECT:
        return None
    left = [(step, variant) for step in effective for variant in variants if (step, variant) not in done]
    return left[0] if left else None
