"""Whether two runs were the same, to the byte; if not, where they part.

May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Difference", "Stream", "compare", "first_difference"]

CONTEXT_LINES = 3
SHOWN_BYTES = 200
CONTEXT_BYTES = 4096
# Compared in steps, so that megabytes cost a memcmp and not a loop over bytes.
STEP_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """All the bytes of one kind that a run gave: its console, its shell's line, its report."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two runs first part."""

    stream: str
    offset_bytes: int
    """Of the first byte that differs, from the stream's beginning."""
    line: int
    """Of that byte, counted from 1."""
    before: tuple[str, ...]
    """Up to three lines that both have, just before."""
    first: str
    """The line as the first run has it; empty when that run had ended."""
    second: str

    @property
    def where(self) -> str:
        """The place, in one line."""
        return f"the {self.stream} differs from line {self.line} on (byte {self.offset_bytes})"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.where}:",
                *(f"    {line}" for line in self.before),
                f"  1 {self.first or '(nothing more)'}",
                f"  2 {self.second or '(nothing more)'}",
            ]
        )


def compare(first: tuple[Stream, ...], second: tuple[Stream, ...]) -> Difference | None:
    """The first difference of two runs, stream by stream in the order given; None when they are identical.

    Raises ValueError when the runs do not have the same streams: then there is nothing to compare.
    """
    names = [stream.name for stream in first]
    if names != [stream.name for stream in second]:
        raise ValueError(f"streams {names} against {[stream.name for stream in second]}")
    for one, other in zip(first, second, strict=True):
        difference = first_difference(one.name, one.content, other.content)
        if difference is not None:
            return difference
    return None


def first_difference(stream: str, first: bytes, second: bytes) -> Difference | None:
    """Where two contents of one stream part, with the lines around it; None when they are equal."""
    if first == second:
        return None
    offset = _first_offset(first, second)
    line_start = first.rfind(b"\n", 0, offset) + 1
    before = first[max(0, line_start - CONTEXT_BYTES) : max(0, line_start - 1)].split(b"\n")
    return Difference(
        stream=stream,
        offset_bytes=offset,
        line=first.count(b"\n", 0, offset) + 1,
        before=tuple(_shown(line) for line in before[-CONTEXT_LINES:]) if line_start else (),
        first=_line_at(first, line_start, offset),
        second=_line_at(second, line_start, offset),
    )


def _first_offset(first: bytes, second: bytes) -> int:
    shorter = min(len(first), len(second))
    for start in range(0, shorter, STEP_BYTES):
        one, other = first[start : start + STEP_BYTES], second[start : start + STEP_BYTES]
        if one != other:
            pairs = zip(one, other, strict=False)
            return start + next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return shorter


def _line_at(content: bytes, start: int, offset: int) -> str:
    """The line with the difference; of a long one, the part around it."""
    end = content.find(b"\n", start)
    end = len(content) if end < 0 else end
    shown_from = max(start, offset - SHOWN_BYTES // 2)
    return _shown(content[shown_from : max(end, shown_from)])


def _shown(line: bytes) -> str:
    """A line that a terminal may be given: escape sequences and carriage returns are made visible."""
    cut = line[:SHOWN_BYTES]
    text = cut.decode(errors="backslashreplace")
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown + (" ..." if len(line) > len(cut) else "")
