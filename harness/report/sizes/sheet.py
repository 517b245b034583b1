"""The two tables of a comparison, sizes and memory of guests, as values that every writer shows alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.kernels.compressed import Compressor
from harness.kernels.size import KernelSize
from harness.report.sizes.comparison import Comparison, Parts, SizedGuest, percent

__all__ = [
    "UNKNOWN",
    "Row",
    "Sheet",
    "guest_sheet",
    "kb",
    "parts_of",
    "signed_kb",
    "signed_percent",
    "size_sheet",
]

UNKNOWN: Final = "\u2013"
_KB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Some values in bytes, and those they are held against."""

    label: str
    values: tuple[int | None, ...]
    against: str = ""
    """Label of what it is held against; empty for nothing."""
    base: tuple[int | None, ...] = ()

    def differences(self) -> tuple[str, ...]:
        """The differences in KB, one for each value."""
        pairs = zip(self.values, self.base, strict=True)
        return tuple(UNKNOWN if a is None or b is None else signed_kb(a - b) for a, b in pairs)

    def percents(self) -> tuple[str, ...]:
        """The same in percent of the base."""
        pairs = zip(self.values, self.base, strict=True)
        return tuple(UNKNOWN if a is None or b is None else signed_percent(percent(a, b)) for a, b in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table with what has to be said of it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def kb(size_bytes: int | None) -> str:
    """Bytes as KB of 1024, rounded: `54,895`."""
    return UNKNOWN if size_bytes is None else f"{size_bytes / _KB:,.0f}"


def signed_kb(size_bytes: int) -> str:
    """A difference: `+2,150`, `-12`, `0`."""
    return _without_zero_sign(f"{size_bytes / _KB:+,.0f}")


def signed_percent(value: float | None) -> str:
    """A difference: `+3.9 %`, `0.0 %`."""
    return UNKNOWN if value is None else _without_zero_sign(f"{value:+,.1f}") + " %"


def _without_zero_sign(text: str) -> str:
    return text if text.strip("+-0.") else text[1:]


Measure = Callable[[KernelSize], int | None]

_WHOLE: Final[dict[str, Measure]] = {
    "Image": lambda one: one.image_bytes,
    **{each.title: (lambda one, each=each: one.compressed[each]) for each in Compressor},  # type: ignore[misc]
}
_PARTS: Final[dict[Parts, dict[str, Measure]]] = {
    Parts.SECTIONS: {
        "text": lambda one: None if one.sections is None else one.sections.text_bytes,
        "data": lambda one: None if one.sections is None else one.sections.data_bytes,
        "gaps": lambda one: one.gaps_bytes,
        "bss": lambda one: None if one.sections is None else one.sections.bss_bytes,
    },
    Parts.SYMBOLS: {
        "text": lambda one: None if one.extents is None else one.extents.text_bytes,
        "rodata": lambda one: None if one.extents is None else one.extents.rodata_bytes,
        "init": lambda one: None if one.extents is None else one.extents.init_bytes,
        "data": lambda one: None if one.extents is None else one.extents.data_bytes,
        "bss": lambda one: None if one.extents is None else one.extents.bss_bytes,
    },
    Parts.NONE: {},
}
_IN_RAM: Final[dict[str, Measure]] = {"in RAM": lambda one: None if one.kernel.members else one.ram_bytes}
_SAID: Final = {
    Parts.SECTIONS: (
        "text, data, bss: what `size` prints of the vmlinux. text is every section that is executable or not "
        "writable (.rodata is writable to the linker, so it is data), data and bss the others with and "
        "without contents; what is given back after the boot counts. gaps: of the Image what is in no "
        "section, page tables and alignment."
    ),
    Parts.SYMBOLS: (
        "Parts by each kernel's own symbols (kallsyms), as not all have a vmlinux; not comparable with what "
        "`size` prints. text: _text to _etext; rodata: to __init_begin; init, given back after the boot: to "
        "_sdata; data: to _edata, the Image's end; bss: __bss_start to __bss_stop."
    ),
    Parts.NONE: "No parts are known.",
}


def parts_of(comparison: Comparison) -> dict[str, Measure]:
    """The measures by which the parts of these kernels are told."""
    return _PARTS[comparison.parts]


def size_sheet(comparison: Comparison) -> Sheet:
    """Image, compressed sizes and parts; a row for each kernel, held against the base."""
    measures = {**_WHOLE, **parts_of(comparison), **_IN_RAM}
    base = comparison.base_kernel

    def values(one: KernelSize) -> tuple[int | None, ...]:
        return tuple(measure(one) for measure in measures.values())

    rows = tuple(
        Row(
            label=one.label,
            values=values(one),
            against="" if one is base else base.label,
            base=() if one is base else values(base),
        )
        for one in comparison.kernels
    )
    return Sheet(
        title="Size in KB of 1024 bytes",
        columns=tuple(measures),
        rows=rows,
        notes=(
            *_growth(comparison),
            *(one.kernel.caveat for one in comparison.kernels if one.kernel.caveat),
            *(f"{one.label}: no parts: {one.unknown}" for one in comparison.kernels if one.unknown),
            _SAID[comparison.parts],
            "in RAM: _text to _end by the Image header. gzip -9 and zstd -19: as a kernel's build makes "
            "Image.gz and Image.zst.",
        ),
    )


def _growth(comparison: Comparison) -> list[str]:
    """For each kernel that is larger: how much of that is left when both are compressed."""
    base = comparison.base_kernel
    said = []
    for one in comparison.kernels:
        more = one.image_bytes - base.image_bytes
        if one is base or more <= 0:
            continue
        left = [
            f"{signed_kb(one.compressed[each] - base.compressed[each])} after {each.title}"
            for each in Compressor
        ]
        said.append(f"{one.label}: {signed_kb(more)} KB over {base.label}; {', '.join(left)}")
    return said


GuestMeasure = Callable[[SizedGuest], int | None]

_GUEST: Final[dict[str, GuestMeasure]] = {
    "MemTotal": lambda one: one.memory.total_kib,
    "lost": lambda one: one.memory.lost_kib,
    "code": lambda one: None if one.memory.boot is None else one.memory.boot.code_kib,
    "rwdata": lambda one: None if one.memory.boot is None else one.memory.boot.rwdata_kib,
    "rodata": lambda one: None if one.memory.boot is None else one.memory.boot.rodata_kib,
    "bss": lambda one: None if one.memory.boot is None else one.memory.boot.bss_kib,
    "memmap": lambda one: one.memory.memmap_kib,
    "other": lambda one: one.memory.other_kib,
}


def guest_sheet(comparison: Comparison) -> Sheet | None:
    """What booted guests lost of their RAM; None where none was booted."""
    if not comparison.guests:
        return None

    def values(one: SizedGuest) -> tuple[int | None, ...]:
        found = [measure(one) for measure in _GUEST.values()]
        return tuple(None if kib is None else kib * _KB for kib in found)

    rows = []
    for guest in comparison.guests:
        other = comparison.against(guest)
        rows.append(
            Row(
                label=guest.label,
                values=values(guest),
                against="" if other is None else other.label,
                base=() if other is None else values(other),
            )
        )
    given = sorted({guest.memory.given_kib >> 10 for guest in comparison.guests})
    silent = [guest.label for guest in comparison.guests if guest.memory.boot is None]
    return Sheet(
        title=f"Memory of a booted guest of {' or '.join(map(str, given))} MiB, in KB",
        columns=tuple(_GUEST),
        rows=tuple(rows),
        notes=(
            *comparison.without_guest,
            *(f"{label}: its log has no Memory line" for label in silent),
            "lost: RAM given less MemTotal, what no program ever gets. code, rwdata, rodata, bss: by the "
            "kernel's own Memory line. memmap: struct pages, by /proc/vmstat (from 6.11 on; else in other). "
            "other: per-CPU areas, hash tables, page tables, gaps in the image. What the Memory line calls "
            "init is given back after the boot.",
        ),
    )
