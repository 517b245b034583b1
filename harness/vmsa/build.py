"""The inverse of a walk: from mappings to tables, in any granule, start level and address format.

For tests, and for machines that run on tables of our making. May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from harness.vmsa.descriptor import AddressFormat, Leaf, Leaf128, Table, decode
from harness.vmsa.encode import leaf_attributes, leaf_attributes_128, registers_for, stage2_attributes
from harness.vmsa.geometry import FINAL_LEVEL, Geometry
from harness.vmsa.regime import Regime
from harness.vmsa.registers import Ttbr
from harness.vmsa.stage import Stage
from harness.vmsa.stage2 import Stage2Regime

__all__ = ["BuildError", "Stage2TableBuilder", "TableBuilder", "leaf_attributes", "registers_for"]

_TYPE_BITS = 0b11
_LARGEST_TABLE_BYTES = 1 << 28
"""Skipped levels make tables of terabytes, which no arena holds."""
_StageT = TypeVar("_StageT", bound=Stage)


class BuildError(ValueError):
    """A mapping that cannot be made: misaligned, overlapping, or beyond what the regime can address."""


class _Builder(Generic[_StageT]):
    """Tables of either stage, in an arena of memory that starts at a physical address.

    The regime says everything but where its first table is. `skips` makes tables of 128-bit descriptors
    skip levels: SKL by the level of the descriptor, as far as there are levels between it and the leaf that
    the table is made for. Raises BuildError when the arena does not start on a granule, or grows beyond what
    the regime can address.
    """

    def __init__(self, regime: _StageT, arena_pa: int, *, skips: Mapping[int, int] | None = None) -> None:
        if arena_pa < 0 or arena_pa % (1 << regime.geometry.granule_log2):
            raise BuildError(f"an arena starts on a granule, not at {arena_pa:#x}")
        self.arena_pa = arena_pa
        self._arena = bytearray()
        self._skips = dict(skips or {})
        self._regime = regime
        self.regime = regime.at_table(self._allocate(regime.start_table_bytes))

    @property
    def _format(self) -> AddressFormat:
        return self._regime.address_format

    @property
    def _geometry(self) -> Geometry:
        return self._regime.geometry

    @property
    def arena(self) -> bytes:
        """The tables, to be placed at `arena_pa`."""
        return bytes(self._arena)

    def ttbr(self, asid: int = 0) -> int:
        """The TTBR, or VTTBR with a VMID, of the first table; raises ValueError for one above 16 bits."""
        return Ttbr.asid.into(self.regime.ttbr_for(self.regime.table_pa), asid)

    def read(self, pa: int, size_bytes: int) -> bytes | None:
        """Physical memory that holds the arena and nothing else, for `walk` and `mappings`."""
        start = pa - self.arena_pa
        if start < 0 or start + size_bytes > len(self._arena):
            return None
        return bytes(self._arena[start : start + size_bytes])

    def map(
        self,
        va: int,
        pa: int,
        size_bytes: int,
        *,
        attributes: int | None = None,
        level: int | None = None,
        contiguous: bool = False,
    ) -> None:
        """Map `size_bytes` at `va` to `pa`, with leaves of `level` or, without one, the largest that fit.

        `attributes` are the bits of `leaf_attributes`, or of what its stage and size of descriptor have
        instead, whose default they have; in the LPA2 format SH is left out. `contiguous` sets the bit, and
        wants whole groups. Raises BuildError, having written nothing, when an address is misaligned or out
        of range or something is mapped there already.
        """
        word = self._default_attributes if attributes is None else attributes
        if self._format is AddressFormat.LPA2:
            word &= ~Leaf.sh.mask
        type_bits = 1 | Table.skl.mask if self._is_128 else _TYPE_BITS
        if word & (type_bits | self._format.mask(self._geometry.granule_log2)):
            raise BuildError(f"{word:#x} has attribute bits where the type or the address belong")
        if size_bytes <= 0:
            raise BuildError(f"there is no mapping of {size_bytes} bytes")
        if va < self.regime.lowest_va or va + size_bytes > self.regime.lowest_va + self._span:
            raise BuildError(f"[{va:#x}, {va + size_bytes:#x}) is not within the range of the regime")
        if pa < 0 or self.regime.oa_out_of_range(pa + size_bytes - 1):
            raise BuildError(f"{pa:#x}+{size_bytes:#x} is beyond {self.regime.oasize_bits} bits of output")
        leaves = list(self._leaves(va, pa, size_bytes, level, contiguous))
        for at_va, _, at_level in leaves:
            self._refuse_overlap(at_va, at_level)
        for at_va, at_pa, at_level in leaves:
            leaf = word | self._leaf_type(at_level) | self._format.encode(at_pa)
            bit = Leaf128.contiguous.bit if self._is_128 else Leaf.contiguous.bit
            self.plant(at_va, at_level, leaf | contiguous << bit)

    @property
    def _is_128(self) -> bool:
        return self._format is AddressFormat.D128

    @property
    def _default_attributes(self) -> int:
        if self._regime.number == 2:
            return stage2_attributes()
        return leaf_attributes_128() if self._is_128 else leaf_attributes()

    def _leaf_type(self, level: int) -> int:
        if self._is_128:
            return Table.skl.into(1, FINAL_LEVEL - level)
        return 0b11 if level == FINAL_LEVEL else 0b01

    @property
    def _span(self) -> int:
        return 1 << self.regime.iasize_bits

    def _leaves(
        self, va: int, pa: int, size_bytes: int, level: int | None, contiguous: bool
    ) -> list[tuple[int, int, int]]:
        """Address, output address and level of each leaf of a mapping."""
        leaves: list[tuple[int, int, int]] = []
        end = va + size_bytes
        while va < end:
            chosen = self._largest(va, pa, end - va, contiguous) if level is None else level
            unit = 1 << self._unit_log2(chosen, contiguous)
            if va % unit or pa % unit or end - va < unit:
                raise BuildError(
                    f"{va:#x} to {pa:#x}, {end - va:#x} bytes: a {'group' if contiguous else 'leaf'} at "
                    f"level {chosen} is {unit:#x} bytes and aligned to that"
                )
            step = 1 << self._geometry.size_log2(chosen)
            leaves += [(va + at, pa + at, chosen) for at in range(0, unit, step)]
            va, pa = va + unit, pa + unit
        return leaves

    def _unit_log2(self, level: int, contiguous: bool) -> int:
        """log2 of the bytes of a leaf or of a contiguous group; raises BuildError where there is none."""
        legal = level == FINAL_LEVEL or self._geometry.block_allowed(level, wide=self._format.is_wide)
        group_log2 = self._geometry.contiguous_log2(level) if contiguous else 0
        if not legal or level < self.regime.start_level or (contiguous and not group_log2):
            what = "contiguous leaves" if contiguous else "leaves"
            raise BuildError(f"there are no {what} at level {level} in this regime")
        return self._geometry.size_log2(level) + group_log2

    def _largest(self, va: int, pa: int, size_bytes: int, contiguous: bool) -> int:
        """The highest level whose leaf, or group, fits there."""
        for level in range(self.regime.start_level, FINAL_LEVEL):
            try:
                unit = 1 << self._unit_log2(level, contiguous)
            except BuildError:
                continue
            if not (va % unit or pa % unit) and unit <= min(size_bytes, self._span):
                return level
        return FINAL_LEVEL

    def _refuse_overlap(self, va: int, level: int) -> None:
        """Raise BuildError where an entry, or a leaf above it, is in use."""
        table_pa, at, skl = self.regime.table_pa, self.regime.start_level, 0
        while True:
            word = self._word(self._entry_pa(table_pa, at, va, skl))
            descriptor = decode(word, at, self._geometry, self._format)
            if at == level or not isinstance(descriptor, Table):
                if word & 1:
                    raise BuildError(f"{va:#x} is mapped already, by the descriptor {word:#x} at level {at}")
                return
            table_pa, at, skl = descriptor.next_pa, descriptor.next_level, descriptor.skl
            if at > level:
                raise BuildError(f"{va:#x} has a table at level {at}, which skips level {level}")

    def plant(self, va: int, level: int, word: int) -> int:
        """Write any descriptor for `va` at `level`, over what is there; returns where, physically.

        Tables above it are made as needed; raises BuildError where a leaf is above it, or the level is not
        one of the regime's.
        """
        pa = self.descriptor_pa(va, level)
        start, size = pa - self.arena_pa, self._geometry.desc_bytes
        self._arena[start : start + size] = word.to_bytes(size, self._order)
        return pa

    def add_table_bits(self, va: int, level: int, bits: int) -> None:
        """OR bits, such as APTable, into the table descriptor for `va` at `level`, making it if needed.

        Raises BuildError as `plant` does.
        """
        self.descriptor_pa(va, level + 1)
        self.plant(va, level, self._word(self.descriptor_pa(va, level)) | bits)

    def descriptor_pa(self, va: int, level: int) -> int:
        """Physical address of the descriptor for `va` at `level`; makes tables and raises as `plant` does."""
        if not self.regime.start_level <= level <= FINAL_LEVEL:
            raise BuildError(f"this regime has levels {self.regime.start_level} to 3, not {level}")
        if not self.regime.spans(va):
            raise BuildError(f"{va:#x} is not within the range of the regime")
        table_pa, at, skl = self.regime.table_pa, self.regime.start_level, 0
        while at < level:
            pa = self._entry_pa(table_pa, at, va, skl)
            word = self._word(pa)
            descriptor = decode(word, at, self._geometry, self._format)
            if word & 1 and not isinstance(descriptor, Table):
                raise BuildError(f"{va:#x} has a leaf at level {at}, and no table for level {level}")
            if not isinstance(descriptor, Table):
                descriptor = self._new_table(pa, at, level)
            table_pa, at, skl = descriptor.next_pa, descriptor.next_level, descriptor.skl
        if at > level:
            raise BuildError(f"{va:#x} has a table at level {at}, which skips level {level}")
        return self._entry_pa(table_pa, level, va, skl)

    def _new_table(self, pa: int, level: int, leaf_level: int) -> Table:
        """Make a table, and write the descriptor that leads to it at `pa`."""
        skl = min(self._skips.get(level, 0), leaf_level - level - 1) if self._is_128 else 0
        table_log2 = self._geometry.index_bits(skl) + self._geometry.desc_log2
        table_pa = self._allocate(1 << table_log2)
        word = self._format.encode(table_pa)
        word = Table.skl.into(word | 1, skl) if self._is_128 else word | 0b11
        start, size = pa - self.arena_pa, self._geometry.desc_bytes
        self._arena[start : start + size] = word.to_bytes(size, self._order)
        return Table(word, level, table_pa)

    def _entry_pa(self, table_pa: int, level: int, va: int, skl: int) -> int:
        return table_pa + (self.regime.index(va, level, skl) << self._geometry.desc_log2)

    @property
    def _order(self) -> Literal["big", "little"]:
        return "big" if self._regime.big_endian else "little"

    def _word(self, pa: int) -> int:
        start, size = pa - self.arena_pa, self._geometry.desc_bytes
        if not 0 <= start <= len(self._arena) - size:
            raise BuildError(f"a planted table descriptor leads out of the arena, to {pa:#x}")
        return int.from_bytes(self._arena[start : start + size], self._order)

    def _allocate(self, size_bytes: int) -> int:
        """Physical address of a new table, on a granule, or on its own size where that is more."""
        if size_bytes > _LARGEST_TABLE_BYTES:
            raise BuildError(f"a table of {size_bytes:#x} bytes is too large to be made")
        align = max(1 << self._geometry.granule_log2, size_bytes)
        end = self.arena_pa + len(self._arena)
        pa = end + -end % align
        if self._regime.oa_out_of_range(pa + size_bytes - 1):
            raise BuildError(f"a table at {pa:#x} is beyond {self._regime.oasize_bits} bits of output")
        self._arena += bytes(pa + size_bytes - end)
        return pa


class TableBuilder(_Builder[Regime]):
    """Tables for a regime of stage 1, of either size of descriptor."""


class Stage2TableBuilder(_Builder[Stage2Regime]):
    """Tables for stage 2, the first ones concatenated where the regime says so."""
