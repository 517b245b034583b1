"""The result of a series as text to paste below a cover letter: 25 lines of 72 columns at the most."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Final

from harness.report.series.facts import About, Table, first_bad_groups, left_out_lines, warning_lines
from harness.report.wording import safe
from harness.series.engine import SeriesResult
from harness.series.order import Mode
from harness.series.values import Variant
from harness.series.verdicts import Word

__all__ = ["COLUMNS", "LINES", "render_mail"]

LINES: Final = 25
COLUMNS: Final = 72
_PLACE: Final = re.compile(r"[\w./-]+\.[chS]:\d+")
_QUOTES: Final = str.maketrans("\u2018\u2019\u201c\u201d\u2026", "''\"\".")
"""What compilers print in a locale with them."""


def render_mail(result: SeriesResult, about: About) -> str:
    """The text, ASCII, ending with a line break."""
    table = Table.of(result)
    opening = [
        *_wrapped(f"{len(result.asked.patches)} patches at {_sizes(result)}, {_tried(result)}:"),
        *_wrapped(f"base {safe(about.base)}", indent="  "),
        *_wrapped(f"series {safe(about.series)}, sha256 {about.digest[:12]}", indent="  "),
        *_wrapped(f"{safe(about.compiler)}; QEMU {safe(about.qemu)}", indent="  "),
        "",
    ]
    opening += [line for variant in result.asked.variants for line in _size_lines(table, variant)]
    bad, warnings = _new_lines(result), warning_lines(result)
    left_out = _entries("Not covered:", left_out_lines(result), 1)
    room = LINES - len(opening) - min(len(left_out), 4)
    for most in (3, 2, 1):
        found = [
            *(
                _entries("New against the base (k of n runs):", bad, most)
                or ["", "New against the base: nothing."]
            ),
            *_entries("New warnings:", warnings, most),
        ]
        if len(found) <= room:
            break
    lines = [*opening, *_cut(found, room)]
    left_lines = LINES - len(lines)
    longer = _entries("Not covered:", left_out_lines(result), 2)
    lines += longer if len(longer) <= left_lines else _cut(left_out, left_lines)
    return "\n".join(_plain(line) for line in lines) + "\n"


def _new_lines(result: SeriesResult) -> list[str]:
    """`patch 3, 64K: build 1/1, mm/mincore.c:240: error: ...`: what tells most comes first."""
    lines = []
    for sizes, bad in first_bad_groups(result):
        which = f"patch {bad.step}" if bad.is_exact else f"one of patches {bad.after + 1}-{bad.step}"
        said = safe(bad.judged.outcome.said)
        named = _PLACE.search(said)
        place = safe(bad.judged.outcome.place) or (named[0] if named else "")
        words = said.partition("error: ")[2] or said
        where = f", {place}" if place else ""
        lines.append(f"{which}, {sizes}: {bad.check} {bad.judged.count}{where}: {words}")
    return lines


def _tried(result: SeriesResult) -> str:
    return {
        Mode.EVERY: "each built, booted and checked",
        Mode.TIP: "built, booted and checked as a whole",
        Mode.BISECT: "built, booted and checked as a whole, then bisected",
    }[result.asked.mode]


def _sizes(result: SeriesResult) -> str:
    return ", ".join(variant.label for variant in result.asked.variants)


def _size_lines(table: Table, variant: Variant) -> list[str]:
    """`64K: 5 patches pass, 1 new (3), 1 not built (4)`."""
    words: dict[Word, list[int]] = {}
    for step in range(1, len(table.result.asked.patches) + 1):
        words.setdefault(table.word(step, variant), []).append(step)
    parts = [
        f"{len(steps)} {word.value}" + (f" ({_ranges(steps)})" if word is not Word.PASS else "")
        for word in Word
        if (steps := words.get(word))
    ]
    base = table.word(0, variant)
    control = "" if base is Word.PASS else f"; base: {base.value}"
    grown = table.result.grown_bytes(variant)
    control += "" if grown is None else f"; Image {grown:+} bytes"
    return _wrapped(f"{variant.label + ':':5} {', '.join(parts)}{control}", indent="  ", hanging="        ")


def _ranges(steps: Sequence[int]) -> str:
    """`1-3,7`."""
    parts: list[list[int]] = []
    for step in steps:
        if parts and step == parts[-1][-1] + 1:
            parts[-1].append(step)
        else:
            parts.append([step])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in parts)


def _entries(title: str, entries: Sequence[str], most: int) -> list[str]:
    if not entries:
        return []
    lines = ["", title]
    for entry in entries:
        wrapped = _wrapped(entry, indent="  ", hanging="    ")
        if len(wrapped) > most:
            wrapped = [*wrapped[: most - 1], wrapped[most - 1][: COLUMNS - 4].rstrip() + " ..."]
        lines += wrapped
    return lines


def _cut(lines: list[str], room: int) -> list[str]:
    if len(lines) <= room:
        return lines
    return [*lines[: max(room - 1, 0)], "  ... and more: see the report"] if room > 0 else []


def _wrapped(text: str, *, indent: str = "", hanging: str = "") -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=hanging or indent, break_on_hyphens=False
    )


def _plain(line: str) -> str:
    return line.translate(_QUOTES).encode("ascii", "replace").decode("ascii")[:COLUMNS].rstrip()
