"""The words that every report of a series shares.

May import harness.series, harness.report.wording and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.wording import safe
from harness.series.engine import SeriesResult
from harness.series.values import BUILD, Variant
from harness.series.verdicts import FirstBad, Judged, Word, worst

__all__ = [
    "About",
    "Table",
    "first_bad_groups",
    "first_bad_lines",
    "left_out_lines",
    "summary",
    "warning_lines",
]

_SHOWN = 3
# The same is found at another size with other addresses and lengths.
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a series was tried on and with."""

    base: str
    """One line: package and version, or repository and commit."""
    series: str
    """Its name: the file's, or the range with its last commit."""
    digest: str
    """SHA-256 over the diffs, in hex."""
    configuration: str
    compiler: str
    qemu: str
    made: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Table:
    """A result's verdicts, looked up by step and column."""

    result: SeriesResult
    columns: dict[tuple[Variant, str], tuple[Judged, ...]]

    @classmethod
    def of(cls, result: SeriesResult) -> Table:
        """Of a result."""
        return cls(result, result.table())

    def judged(self, step: int, variant: Variant) -> dict[str, Judged]:
        """Each check's verdict."""
        return {check: column[step] for (where, check), column in self.columns.items() if where == variant}

    def word(self, step: int, variant: Variant) -> Word:
        """The one verdict that stands for a patch at a page size."""
        return worst([one.word for one in self.judged(step, variant).values()])

    def words(self, step: int, variant: Variant) -> str:
        """The verdict, with the checks that it is of: `new: build`, `pass 27`."""
        judged = self.judged(step, variant)
        word = worst([one.word for one in judged.values()])
        if word in (Word.NOTHING, Word.UNEXERCISED):
            return str(word.value)
        names = [check for check, one in judged.items() if one.word is word]
        if word is Word.PASS:
            return f"pass {len(names)}"
        if word is Word.NOT_RUN:
            return str(word.value)
        if word is Word.NOT_BUILT:
            said = judged[BUILD].outcome.said
            return f"{word.value}: {said}" if said else str(word.value)
        since = sorted({one.since for one in judged.values() if one.word is word and one.since})
        opening = f"{word.value} {', '.join(map(str, since))}" if since else word.value
        shown = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        return f"{opening}: {shown}"


def first_bad_groups(result: SeriesResult) -> list[tuple[str, FirstBad]]:
    """Each first bad patch and check once, with the page sizes at which the same is said."""
    found: dict[tuple[int, int, str, str], tuple[list[str], FirstBad]] = {}
    for bad in result.bad():
        said = _NUMBERS.sub("N", bad.judged.outcome.said)
        labels, _first = found.setdefault((bad.step, bad.after, bad.check, said), ([], bad))
        labels.append(bad.variant.label)
    return [(", ".join(labels), first) for labels, first in found.values()]


def first_bad_lines(result: SeriesResult) -> list[str]:
    """`patch 3 (mm: ...) at 64K: build (1/1 runs): mm/x.c:12: ...`, one for each patch and check.

    Page sizes at which the same is said stand together; a range where the patch itself is not known.
    """
    return [_first_bad(bad, sizes, result) for sizes, bad in first_bad_groups(result)]


def _first_bad(bad: FirstBad, sizes: str, result: SeriesResult) -> str:
    patch = result.asked.patches[bad.step - 1]
    which = f"patch {bad.step}" if bad.is_exact else f"one of patches {bad.after + 1} to {bad.step}"
    outcome = bad.judged.outcome
    place = f" at {outcome.place}" if outcome.place and outcome.place not in outcome.said else ""
    return (
        f"{which} ({safe(patch.subject)}) at {sizes}: {bad.check} ({bad.judged.count} runs): "
        f"{safe(outcome.said)}{safe(place)}"
    )


def warning_lines(result: SeriesResult) -> list[str]:
    """New warnings and lost options, each once, with the patch and the page sizes that have it."""
    found: dict[tuple[int, str], list[str]] = {}
    for step in result.asked.effective[1:]:
        for variant in result.asked.variants:
            for warning in result.warnings(step, variant):
                found.setdefault((step, str(warning)), []).append(variant.label)
            for option in result.lost_options(step, variant):
                found.setdefault((step, f"CONFIG_{option} is lost"), []).append(variant.label)
    return [f"patch {step} at {', '.join(sizes)}: {safe(text)}" for (step, text), sizes in found.items()]


def left_out_lines(result: SeriesResult) -> list[str]:
    """What was not covered: sizes and patches not tried, checks that did not run, files that no check
    drives.
    """
    lines = []
    if result.stopped:
        lines.append(f"stopped by {safe(result.stopped)}")
    asked = result.asked
    for step in asked.effective[1:]:
        if not result.is_exercised(step):
            lines.append(f"patch {step}: built, not exercised ({_why(result, step)})")
    untried = [
        f"patch {step} at {variant.label}"
        for step in asked.effective
        for variant in asked.variants
        if (step, variant) not in result.units
    ]
    if untried:
        lines.append(f"not tried: {_few(untried)}")
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for (variant, check), column in result.table().items():
        for one in column:
            if one.word is Word.NOT_RUN and one.outcome.said:
                checks, labels = reasons.setdefault(one.outcome.said, ({}, {}))
                checks[check] = labels[variant.label] = None
    lines += [
        f"{_few(tuple(checks))} at {', '.join(labels)}: {safe(said)}"
        for said, (checks, labels) in reasons.items()
    ]
    return lines


def summary(result: SeriesResult) -> str:
    """One line on the whole."""
    bad = result.bad()
    tried = len(result.units)
    whole = (
        f"{len(result.asked.patches)} patches, {len(result.asked.variants)} page sizes, {tried} kernels tried"
    )
    if bad:
        patches = sorted({one.step for one in bad})
        return f"{whole}: new failures by patch {', '.join(map(str, patches))}"
    if result.exit_status:
        return f"{whole}: it cannot be told"
    return f"{whole}: nothing new"


def _why(result: SeriesResult, step: int) -> str:
    reasons = list(result.asked.affected[step - 1].reasons.items())[:_SHOWN]
    return "; ".join(f"{safe(path)}: {safe(reason)}" for path, reason in reasons)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
