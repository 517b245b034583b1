"""Where the blocks of the drawing go: rows of leaves merged until a person can take them in.

An address space has 2^48 bytes and more, of which hardly any are mapped: so a block's height grows with the
logarithm of what it maps, and gaps are cut short and say their size. Regions are rows, sources are columns:
what is the same region stands side by side. May import this package and `harness.vmsa`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from harness.tables.block import WIDE_GAP_BYTES, Block, Kind, block_of, join, joined
from harness.tables.layout import Region
from harness.tables.survey import Row, Share, Survey, totals

__all__ = ["Cell", "Column", "Picture", "picture"]

MAX_BLOCKS: Final = 14
"""Blocks of one region in one column: more are merged."""
MAX_ROWS: Final = 20_000
"""Rows of a survey that are looked at: no kernel's tables have as many, bad ones may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A region of one source."""

    region: Region
    blocks: tuple[Block, ...]
    """From the highest address down."""

    @property
    def height_px(self) -> float:
        """The height of its blocks and gaps."""
        return sum(block.height_px + block.gap_px for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One source."""

    survey: Survey
    cells: dict[str, Cell]
    shares: tuple[Share, ...]
    """Of the linear map by leaf size, or of everything where there is no linear map."""
    shares_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All columns, and the names of the rows from the highest addresses down."""

    columns: tuple[Column, ...]
    rows: tuple[str, ...]


# From the highest addresses down. The image may lie anywhere in vmalloc, so that is in two parts.
_ORDER: Final = (
    *("fixmap", "PCI I/O", "vmemmap", "vmalloc", "kernel image"),
    *("vmalloc, below the image", "modules, vmalloc", "modules", "linear map", "user space", "?"),
)


def picture(surveys: Iterable[Survey]) -> Picture:
    """The drawing of some halves, a column each."""
    columns = tuple(_column(one) for one in surveys)
    present = {name for column in columns for name in column.cells}
    rows = [name for name in _ORDER if name in present]
    return Picture(columns=columns, rows=(*rows, *sorted(present - set(rows))))


def _column(survey: Survey) -> Column:
    cells: dict[str, Cell] = {}
    image_va = next((one.start_va for one in survey.regions if one.name == "kernel image"), 0)
    by_region = groupby(survey.rows(MAX_ROWS), lambda row: survey.region_of(row.va))
    for region, rows in by_region:
        below = region.name == "vmalloc" and region.end_va <= image_va
        name = f"{region.name}, below the image" if below else region.name
        if region.name != "guard":
            cells[name] = Cell(region=region, blocks=_blocks(rows))
    linear = next((one for one in survey.regions if one.name == "linear map"), None)
    mapped = survey.leaves if linear is None else survey.in_region(linear)
    return Column(
        survey=survey,
        cells=cells,
        shares=totals(mapped).shares,
        shares_of="all that is mapped" if linear is None else "RAM in the linear map",
    )


def _blocks(rows: Iterable[Row]) -> tuple[Block, ...]:
    """Few enough blocks: neighbours that are alike are joined, then those where least is lost."""
    blocks = list(joined([block_of(row) for row in rows]))
    while len(blocks) > MAX_BLOCKS:
        at = min(range(len(blocks) - 1), key=lambda index: _cost(blocks[index], blocks[index + 1]))
        blocks[at : at + 2] = [join(blocks[at], blocks[at + 1])]
        blocks = list(joined(blocks))
    above = [*blocks[1:], None]
    gaps = [0 if up is None else up.va - one.end_va for one, up in zip(blocks, above, strict=True)]
    return tuple(replace(one, gap_bytes=gap) for one, gap in zip(blocks, gaps, strict=True))[::-1]


def _cost(first: Block, second: Block) -> tuple[bool, bool, int]:
    """What is lost by drawing two as one: least where little is put to much, nearby."""
    alarming = Kind.WRITE_EXEC in (first.kind, second.kind) and first.kind is not second.kind
    is_far = second.va - first.end_va >= WIDE_GAP_BYTES
    return alarming, is_far, min(first.mapped_bytes, second.mapped_bytes)
