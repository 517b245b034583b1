"""The inverse of a walk: from mappings to tables, in any granule, start level and address format.

For tests, and for machines that run on tables of our making. May import the standard library only.
"""

from __future__ import annotations

from typing import Literal

from harness.vmsa.derive import PA_SIZES_BITS
from harness.vmsa.descriptor import AddressFormat, Leaf, Table, decode
from harness.vmsa.geometry import FINAL_LEVEL, Geometry
from harness.vmsa.regime import Regime
from harness.vmsa.registers import Bank, Mmfr0, Mmfr1, Mmfr2, Registers, Sctlr, Tcr, Ttbr

__all__ = ["BuildError", "TableBuilder", "leaf_attributes", "registers_for"]

_TG0 = {12: 0, 14: 2, 16: 1}
_TG1 = {12: 2, 14: 1, 16: 3}
_TYPE_BITS = 0b11


class BuildError(ValueError):
    """A mapping that cannot be made: misaligned, overlapping, or beyond what the regime can address."""


def leaf_attributes(
    *,
    attr_indx: int = 0,
    ap: int = 0,
    sh: int = 3,
    af: bool = True,
    ng: bool = False,
    gp: bool = False,
    dbm: bool = False,
    pxn: bool = False,
    uxn: bool = False,
    software: int = 0,
) -> int:
    """The attribute bits of a leaf; raises ValueError when a value does not fit its field."""
    word = Leaf.attr_indx.into(0, attr_indx)
    word = Leaf.ap.into(word, ap)
    word = Leaf.sh.into(word, sh)
    word = Leaf.software.into(word, software)
    flags = ((Leaf.af, af), (Leaf.ng, ng), (Leaf.gp, gp), (Leaf.dbm, dbm), (Leaf.pxn, pxn), (Leaf.uxn, uxn))
    for flag, value in flags:
        word = flag.into(word, value)
    return word


def registers_for(
    *,
    granule_log2: int,
    txsz: int,
    ds: bool = False,
    ips_bits: int = 48,
    pa_bits: int = 48,
    lva: bool = False,
    ttst: bool = False,
    ttbr: tuple[int, int] = (0, 0),
    mair: int = 0xFF,
    tcr: int = 0,
    sctlr: int = 0,
    hafdbs: int = 2,
    pan: int = 3,
) -> Registers:
    """EL1's registers for one granule and size in both ranges, and ID registers of a CPU that has it.

    `ds` is both TCR.DS and FEAT_LPA2; `ips_bits` TCR.IPS, `pa_bits` PARange, by their sizes; `tcr` and
    `sctlr` are ORed in; `hafdbs` and `pan` are the fields of ID_AA64MMFR1_EL1. Raises ValueError for sizes
    that have no encoding.
    """
    mmfr0 = Mmfr0.parange.into(0, PA_SIZES_BITS.index(pa_bits))
    mmfr0 = Mmfr0.tgran4.into(Mmfr0.tgran16.into(mmfr0, 2 if ds else 1), 1 if ds else 0)
    mmfr1 = Mmfr1.hpds.into(Mmfr1.pan.into(Mmfr1.hafdbs.into(0, hafdbs), pan), 1)
    mmfr2 = Mmfr2.e0pd.into(Mmfr2.st.into(Mmfr2.varange.into(0, lva), ttst), 1)
    word = Tcr.t0sz.into(Tcr.t1sz.into(tcr, txsz), txsz)
    word = Tcr.tg0.into(Tcr.tg1.into(word, _TG1[granule_log2]), _TG0[granule_log2])
    word = Tcr.ds.into(Tcr.ips.into(word, PA_SIZES_BITS.index(ips_bits)), ds)
    bank = Bank(
        tcr=word, ttbr0=ttbr[0], ttbr1=ttbr[1], mair=mair,
        sctlr=sctlr | Sctlr.m.mask | Sctlr.c.mask | Sctlr.i.mask,
    )  # fmt: skip
    return Registers(el1=bank, id_aa64mmfr0_el1=mmfr0, id_aa64mmfr1_el1=mmfr1, id_aa64mmfr2_el1=mmfr2)


class TableBuilder:
    """Tables for a regime, in an arena of memory that starts at a physical address.

    The regime says everything but where its first table is. Raises BuildError when the arena does not start
    on a granule, or grows beyond what the regime can address.
    """

    def __init__(self, regime: Regime, arena_pa: int) -> None:
        if arena_pa < 0 or arena_pa % (1 << regime.geometry.granule_log2):
            raise BuildError(f"an arena starts on a granule, not at {arena_pa:#x}")
        self.arena_pa = arena_pa
        self._arena = bytearray()
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
        """The TTBR value that points to the first table; raises ValueError for an ASID above 16 bits."""
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

        `attributes` are the bits of `leaf_attributes`, whose default they have; in the LPA2 format SH is
        left out. `contiguous` sets the bit, and wants whole groups. Raises BuildError, having written
        nothing, when an address is misaligned or out of range or something is mapped there already.
        """
        word = leaf_attributes() if attributes is None else attributes
        if self._format is AddressFormat.LPA2:
            word &= ~Leaf.sh.mask
        if word & (_TYPE_BITS | self._format.mask(self._geometry.granule_log2)):
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
            kind = 0b11 if at_level == FINAL_LEVEL else 0b01
            leaf = word | kind | self._format.encode(at_pa) | contiguous << Leaf.contiguous.bit
            self.plant(at_va, at_level, leaf)

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
        table_pa, at = self.regime.table_pa, self.regime.start_level
        while True:
            word = self._word(self._entry_pa(table_pa, at, va))
            descriptor = decode(word, at, self._geometry, self._format)
            if at == level or not isinstance(descriptor, Table):
                if word & 1:
                    raise BuildError(f"{va:#x} is mapped already, by the descriptor {word:#x} at level {at}")
                return
            table_pa, at = descriptor.next_pa, at + 1

    def plant(self, va: int, level: int, word: int) -> int:
        """Write any 64-bit descriptor for `va` at `level`, over what is there; returns where, physically.

        Tables above it are made as needed; raises BuildError where a leaf is above it, or the level is not
        one of the regime's.
        """
        pa = self.descriptor_pa(va, level)
        self._arena[pa - self.arena_pa : pa - self.arena_pa + 8] = word.to_bytes(8, self._order)
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
        if self.regime.va_out_of_range(va) or va >> 55 & 1 != self.regime.va_range.value:
            raise BuildError(f"{va:#x} is not within the range of the regime")
        table_pa = self.regime.table_pa
        for at in range(self.regime.start_level, level):
            pa = self._entry_pa(table_pa, at, va)
            word = self._word(pa)
            descriptor = decode(word, at, self._geometry, self._format)
            if isinstance(descriptor, Table):
                table_pa = descriptor.next_pa
            elif word & 1:
                raise BuildError(f"{va:#x} has a leaf at level {at}, and no table for level {level}")
            else:
                table_pa = self._allocate(1 << self._geometry.granule_log2)
                self.plant(va, at, 0b11 | self._format.encode(table_pa))
        return self._entry_pa(table_pa, level, va)

    def _entry_pa(self, table_pa: int, level: int, va: int) -> int:
        if level == self.regime.start_level:
            index = self._geometry.start_index(va, self.regime.iasize_bits)
        else:
            index = self._geometry.index(va, level)
        return table_pa + (index << self._geometry.desc_log2)

    @property
    def _order(self) -> Literal["big", "little"]:
        return "big" if self._regime.big_endian else "little"

    def _word(self, pa: int) -> int:
        start = pa - self.arena_pa
        if not 0 <= start <= len(self._arena) - 8:
            raise BuildError(f"a planted table descriptor leads out of the arena, to {pa:#x}")
        return int.from_bytes(self._arena[start : start + 8], self._order)

    def _allocate(self, size_bytes: int) -> int:
        """Physical address of a new table, on a granule: no table is larger than that."""
        start = len(self._arena) + -len(self._arena) % (1 << self._geometry.granule_log2)
        pa = self.arena_pa + start
        if self._regime.oa_out_of_range(pa + size_bytes - 1):
            raise BuildError(f"a table at {pa:#x} is beyond {self._regime.oasize_bits} bits of output")
        self._arena += bytes(start + size_bytes - len(self._arena))
        return pa
