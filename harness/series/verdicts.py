"""From what was seen of each kernel to the table: what is new against the base, since which patch.

Pure. A column is one check at one page size, step by step; step 0 is the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from harness.series.values import NOTHING_SEEN, Outcome, Variant

__all__ = ["FirstBad", "Judged", "Word", "first_bad", "judge", "worst"]


class Word(Enum):
    """The verdict on a check of a patch at a page size; a closed set."""

    NEW = "new"
    """It fails, and did not before this patch."""
    STILL = "fails since"
    """It fails since an earlier patch of the series, which is to blame."""
    FLAKY = "flaky"
    BASE = "fails on base too"
    NOT_BUILT = "not built"
    NOT_RUN = "not run"
    FIXED = "fixed"
    UNEXERCISED = "built, not exercised"
    """Nothing here drives what the patch changes; what was asked besides passes."""
    PASS = "pass"  # noqa: S105 - not a password
    NOTHING = "nothing to build"
    """The patch leaves the kernel as it was."""

    @property
    def is_bad(self) -> bool:
        """True where the series is to blame."""
        return self in (Word.NEW, Word.STILL)


_WORST_FIRST = tuple(Word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on one check of one step."""

    word: Word
    outcome: Outcome = NOTHING_SEEN
    since: int = 0
    """STILL: the step that it fails since."""
    after: int = 0
    """NEW: the last step before that passed; with steps in between that were not run it is not known
    which.
    """

    @property
    def count(self) -> str:
        """`2/3`: failures of runs."""
        return f"{self.outcome.failed}/{self.outcome.runs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBad:
    """A check that a patch broke."""

    step: int
    after: int
    """The step before, or the last one that passed."""
    variant: Variant
    check: str
    judged: Judged

    @property
    def is_exact(self) -> bool:
        """True where the patch is known, and not only the range that it is in."""
        return self.after == self.step - 1


def judge(column: Sequence[Outcome | None], inert: frozenset[int] = frozenset()) -> tuple[Judged, ...]:
    """The verdict on each step of one check at one page size.

    Arguments: `column`, what was seen at each step, None for nothing; `inert`, steps that leave the kernel
    as it was, so that what is known of the step before holds for them.
    """
    base = column[0]
    judged = [_of_base(base)]
    base_fails = base is not None and base.always_fails
    since = 0
    passed = 0 if base is None or not base.always_fails else -1
    for step, seen in enumerate(column[1:], start=1):
        if step in inert:
            judged.append(Judged(word=Word.NOTHING))
            if passed == step - 1:
                passed = step
            continue
        if seen is None or not seen.ran:
            judged.append(_unseen(seen))
        elif seen.is_flaky or (seen.failed and base is not None and base.is_flaky):
            judged.append(Judged(word=Word.FLAKY, outcome=seen))
        elif seen.always_fails and base_fails:
            judged.append(Judged(word=Word.BASE, outcome=seen))
        elif seen.always_fails and since:
            judged.append(Judged(word=Word.STILL, outcome=seen, since=since))
        elif seen.always_fails:
            judged.append(Judged(word=Word.NEW, outcome=seen, after=max(passed, 0)))
            since = step
        else:
            word = Word.FIXED if since or base_fails else Word.PASS
            judged.append(Judged(word=word, outcome=seen))
            since, base_fails, passed = 0, False, step
    return tuple(judged)


def _unseen(seen: Outcome | None) -> Judged:
    unbuilt = seen is not None and seen.unbuilt
    return Judged(word=Word.NOT_BUILT if unbuilt else Word.NOT_RUN, outcome=seen or NOTHING_SEEN)


def _of_base(seen: Outcome | None) -> Judged:
    if seen is None or not seen.ran:
        return _unseen(seen)
    if seen.is_flaky:
        return Judged(word=Word.FLAKY, outcome=seen)
    return Judged(word=Word.BASE if seen.failed else Word.PASS, outcome=seen)


def first_bad(table: Mapping[tuple[Variant, str], Sequence[Judged]]) -> tuple[FirstBad, ...]:
    """Each check that a patch broke, by patch, then in the table's order."""
    found = [
        FirstBad(step=step, after=judged.after, variant=variant, check=check, judged=judged)
        for (variant, check), column in table.items()
        for step, judged in enumerate(column)
        if judged.word is Word.NEW
    ]
    return tuple(sorted(found, key=lambda bad: bad.step))


def worst(words: Sequence[Word]) -> Word:
    """The one that a reader has to see; PASS outranks NOT_RUN where anything ran."""
    if not words:
        return Word.NOT_RUN
    ran = [word for word in words if word not in (Word.NOT_RUN, Word.NOT_BUILT)]
    if ran and not any(word in (Word.NEW, Word.STILL, Word.FLAKY, Word.BASE) for word in ran):
        lacking = [word for word in words if word is Word.NOT_BUILT]
        return min(lacking or ran, key=_WORST_FIRST.index)
    return min(words, key=_WORST_FIRST.index)
