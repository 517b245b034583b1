"""The blocks of the drawing: neighbouring rows of leaves that are alike, or nearly.

A block's height grows with the logarithm of what it maps, and gaps are cut short. May import this package and
`harness.vmsa`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from math import log2
from typing import Final

from harness.tables.survey import Row
from harness.tables.words import address, count, leaf_sign, short_size, size
from harness.vmsa import Permissions, Right

__all__ = ["WIDE_GAP_BYTES", "Block", "Grain", "Kind", "block_of", "join", "joined"]

_SMALL_PX: Final = 13.0
_PX_PER_DOUBLING: Final = 2.6
_TALLEST_PX: Final = 60.0
WIDE_GAP_BYTES: Final = 16 << 20
"""Unmapped addresses from which on a gap is drawn as a wide one."""
_REACH_BYTES: Final = 1 << 20
"""Holes up to this size do not part what is alike: guard pages, KFENCE's pages."""
_MINORITY: Final = 16
"""One part in so many may be of another kind without a block being called mixed."""


class Kind(Enum):
    """What a block is coloured by; the value is how the legend says it."""

    WRITE_EXEC = "writable and executable"
    EXECUTE = "code"
    READ_ONLY = "read-only data"
    WRITABLE = "writable data"
    NON_CACHED = "not cached"
    DEVICE = "device"
    USER_CODE = "code of EL0"
    USER_DATA = "data of EL0"
    CLOSED = "closed to all"
    MIXED = "several kinds"

    @classmethod
    def of(cls, row: Row) -> Kind:
        """The one that matters most of a row."""
        el1, el0 = row.rights.privileged, row.rights.user
        if row.is_write_exec:
            return cls.WRITE_EXEC
        if row.is_device:
            return cls.DEVICE
        if el0:
            return cls.USER_CODE if Right.EXECUTE in el0 else cls.USER_DATA
        if Right.EXECUTE in el1:
            return cls.EXECUTE
        if not el1:
            return cls.CLOSED
        if not row.is_cached:
            return cls.NON_CACHED
        return cls.WRITABLE if Right.WRITE in el1 else cls.READ_ONLY


class Grain(Enum):
    """What a block is textured by; the value is how the legend says it."""

    PAGE = "pages"
    GROUP = "contiguous pages"
    BLOCK = "blocks"
    LARGE = "contiguous or larger blocks"

    @classmethod
    def of(cls, level: int, *, contiguous: bool) -> Grain:
        """By level and contiguous bit."""
        if level == 3:
            return cls.GROUP if contiguous else cls.PAGE
        return cls.LARGE if contiguous or level < 2 else cls.BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Neighbouring rows of one kind and grain."""

    va: int
    end_va: int
    mapped_bytes: int
    leaves: int
    ranges: int
    """Rows: more than one where there are holes, or output addresses jump."""
    kind: Kind
    grain: Grain | None
    """None for several."""
    rights: Permissions | None
    """None for several."""
    memory: str
    leaf_bytes: int
    group_leaves: int
    """Leaves of a contiguous group; 1 where they are in none, 0 for several sizes."""
    pa: int
    is_pure: bool = True
    """False where a small part is of another kind."""
    gap_bytes: int = 0
    """Unmapped addresses between it and the next block up."""

    @property
    def height_px(self) -> float:
        """Its height in the drawing."""
        return min(_TALLEST_PX, _SMALL_PX + _PX_PER_DOUBLING * max(0.0, log2(self.mapped_bytes / (1 << 18))))

    @property
    def gap_px(self) -> float:
        """The height of the gap above it."""
        if not self.gap_bytes:
            return 1.0
        return 15.0 if self.gap_bytes >= WIDE_GAP_BYTES else 4.0

    @property
    def leaf(self) -> str:
        """Its leaves: `4K`, and `4K\u00d716` for contiguous groups of 16."""
        if not self.group_leaves:
            return "several sizes"
        return leaf_sign(self.leaf_bytes, self.group_leaves)

    @property
    def note(self) -> str:
        """What stands beside it."""
        mostly = "" if self.is_pure else "mostly "
        return f"{mostly}{self._rights}  {short_size(self.mapped_bytes)} in {self.leaf}"

    @property
    def _rights(self) -> str:
        if self.rights is None:
            return "mixed"
        el1, el0 = self.rights.privileged, self.rights.user
        return f"{el1}/{el0}" if el0 else str(el1)

    @property
    def title(self) -> str:
        """What is said of it where there is room."""
        where = f"{address(self.va)} - {address(self.end_va - 1)}"
        holes = f" in {count(self.ranges, 'range')}" if self.ranges > 1 else f" to {self.pa:#x}"
        rights = f"EL1 {self.rights.privileged}, EL0 {self.rights.user}" if self.rights else "several rights"
        mostly = "" if self.is_pure else "mostly "
        leaves = count(self.leaves, "leaf", "leaves")
        return (
            f"{where}\n{size(self.mapped_bytes)}{holes}, {leaves}: {self.leaf}\n"
            f"{mostly}{rights}; {self.memory}; {self.kind.value}"
        )


def block_of(row: Row) -> Block:
    """The block of one row."""
    return Block(
        va=row.va,
        end_va=row.end_va,
        mapped_bytes=row.size_bytes,
        leaves=row.leaves,
        ranges=1,
        kind=Kind.of(row),
        grain=Grain.of(row.level, contiguous=row.is_contiguous),
        rights=row.rights,
        memory=str(row.memory),
        leaf_bytes=row.leaf_bytes,
        group_leaves=row.group_bytes // row.leaf_bytes,
        pa=row.pa,
    )


def joined(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks, those of them joined that are alike and near each other."""
    held: Block | None = None
    for block in blocks:
        if held is not None and _alike(held, block) and block.va - held.end_va <= _REACH_BYTES:
            held = join(held, block)
            continue
        if held is not None:
            yield held
        held = block
    if held is not None:
        yield held


def _alike(first: Block, second: Block) -> bool:
    return all(
        getattr(first, name) == getattr(second, name) for name in ("kind", "grain", "rights", "group_leaves")
    )


def join(first: Block, second: Block) -> Block:
    """Both as one: what they do not share is that of the larger, if the other is hardly anything."""
    small, large = sorted((first, second), key=lambda one: one.mapped_bytes)
    rules = large.mapped_bytes >= _MINORITY * small.mapped_bytes and small.kind is not Kind.WRITE_EXEC
    same_kind, same_grain = first.kind is second.kind, first.grain is second.grain
    same_leaf = (first.leaf_bytes, first.group_leaves) == (second.leaf_bytes, second.group_leaves)
    alarming = Kind.WRITE_EXEC in (first.kind, second.kind)
    mixed = Kind.WRITE_EXEC if alarming else Kind.MIXED
    return Block(
        va=first.va,
        end_va=second.end_va,
        mapped_bytes=first.mapped_bytes + second.mapped_bytes,
        leaves=first.leaves + second.leaves,
        ranges=first.ranges + second.ranges,
        kind=large.kind if same_kind or rules else mixed,
        grain=large.grain if same_grain or rules else None,
        rights=large.rights if first.rights == second.rights or rules else None,
        memory=large.memory if first.memory == second.memory or rules else "several types of memory",
        leaf_bytes=large.leaf_bytes,
        group_leaves=large.group_leaves if same_leaf or rules else 0,
        pa=first.pa,
        is_pure=first.is_pure and second.is_pure and (_alike(first, second) or not rules),
    )
