"""A line for each finding, as `checkpatch.pl --terse` prints them and b4's check commands are read."""

from __future__ import annotations

from harness.report.wording import safe
from harness.series.engine import SeriesResult

__all__ = ["terse_lines"]


def terse_lines(result: SeriesResult) -> list[str]:
    """`FILE:LINE: ERROR: …` for what is new, `WARNING` for the compiler's; the patch's first file where it is
    not known where."""
    lines = []
    for bad in result.bad():
        patch = result.asked.patches[bad.step - 1]
        outcome = bad.judged.outcome
        place = (
            outcome.place if ":" in outcome.place else f"{patch.files[0] if patch.files else patch.name}:0"
        )
        lines.append(
            f"{safe(place)}: ERROR: {bad.check} fails at {bad.variant.label} ({bad.judged.count}): "
            f"{safe(outcome.said)}"
        )
    for step in result.asked.effective[1:]:
        for variant in result.asked.variants:
            lines += [
                f"{safe(warning.file)}:{warning.line}: WARNING: new at {variant.label}: {safe(warning.text)}"
                for warning in result.warnings(step, variant)
            ]
    return lines
