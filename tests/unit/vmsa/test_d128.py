"""128-bit descriptors: geometry, fields, types, registers, rights and faults.

Nothing that is free emulates them, so the oracles are closed forms, the bit positions of Arm's pseudocode
(ASL of 2023-03, in Sail form in rems-project/sail-arm, arm-v9.4-a/src/v8_base.sail), and, where a test says
so, the layout of the Rust crate joe3925/aarch64-vmsa (src/descriptor/layout/vmsa128.rs), whose author runs it
on Arm's own model.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.vmsa import (
    Access,
    AccessKind,
    AddressFormat,
    Block128,
    Choices,
    Denial,
    Fault,
    FaultKind,
    Geometry,
    Invalid,
    Page128,
    Regime,
    Reserved,
    Right,
    Table128,
    TableAttributes,
    TableBuilder,
    Translation,
    VaRange,
    decode,
    derive,
    leaf_attributes_128,
    mappings,
    memory_type,
    permissions,
    registers_for,
    walk,
)
from harness.vmsa.attributes import attr_index
from harness.vmsa.registers import Registers, Tcr2

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
ARENA = 0x4000_0000

# Granule: what one entry maps by level, start level and entries of the first table for 48, 52 and 55 bits of
# input, and the contiguous groups by level.
SHAPES = [
    (
        12,
        {-2: 4096 * T, -1: 16 * T, 0: 64 * G, 1: 256 * M, 2: M, 3: 4 * K},
        {48: (-1, 16), 52: (-1, 256), 55: (-2, 8)},
        {1: G, 2: 16 * M, 3: 64 * K},
    ),
    (
        14,
        {-1: 16384 * T, 0: 16 * T, 1: 16 * G, 2: 16 * M, 3: 16 * K},
        {48: (0, 16), 52: (0, 256), 55: (-1, 2)},
        {1: 64 * G, 2: 256 * M, 3: M},
    ),
    (
        16,
        {0: 4096 * T, 1: T, 2: 256 * M, 3: 64 * K},
        {48: (1, 256), 52: (1, 4096), 55: (0, 8)},
        {2: 16 * G, 3: M},
    ),
]


@pytest.mark.parametrize(("granule", "sizes", "starts", "groups"), SHAPES)
def test_closed_forms(
    granule: int, sizes: dict[int, int], starts: dict[int, tuple[int, int]], groups: dict[int, int]
) -> None:
    """Sizes of entries, start levels, first tables and contiguous groups of each granule."""
    geometry = Geometry(granule_log2=granule, desc_log2=4)
    assert {level: 1 << geometry.size_log2(level) for level in sizes} == sizes
    for bits, (level, entries) in starts.items():
        assert (geometry.start_level(bits), 1 << geometry.start_bits(bits)) == (level, entries)
        assert 1 << geometry.start_table_log2(bits) == 16 * entries
    for level in range(-2, 4):
        group = 1 << geometry.contiguous_log2(level) + geometry.size_log2(level)
        assert group == groups.get(level, 1 << geometry.size_log2(level))


@pytest.mark.parametrize("granule", [12, 14, 16])
@pytest.mark.parametrize("level", range(-2, 4))
@pytest.mark.parametrize("skl", range(4))
def test_type_is_the_levels_skipped(granule: int, level: int, skl: int) -> None:
    """level + SKL of 3 is a leaf, less a table, more nothing; 3 is for 4K alone (DecodeDescriptorType)."""
    geometry = Geometry(granule_log2=granule, desc_log2=4)
    word = (1 << 128) - 1 & ~(0b11 << 109) | skl << 109
    found = decode(word, level, geometry, AddressFormat.D128)
    assert isinstance(decode(word & ~1, level, geometry, AddressFormat.D128), Invalid)
    if level + skl > 3 or (skl == 3 and granule != 12):
        assert isinstance(found, Reserved)
    elif level + skl == 3:
        assert isinstance(found, Page128 if level == 3 else Block128)
        assert found.oa == (1 << 56) - (1 << geometry.size_log2(level))
        assert geometry.block_allowed(level, wide=True) or level == 3
    else:
        assert isinstance(found, Table128)
        assert found.next_pa == (1 << 56) - (1 << granule)
        assert (found.next_level, found.skl) == (level + 1 + skl, skl)


# The crate's layout; PIIndex apart, which is a property of ours.
LEAF_BITS = {
    "ndirty": 1 << 7, "sh": 0b11 << 8, "af": 1 << 10, "ng": 1 << 11, "nt": 1 << 6, "gp": 1 << 113,
    "contiguous": 1 << 111, "protected": 1 << 114, "ns": 1 << 127, "skl": 0b11 << 109, "po_index": 0xF << 121,
    "software": 0x3FF << 91,
}  # fmt: skip
TABLE_BITS = {
    "access_flag": 1 << 10, "nt": 1 << 6, "skl": 0b11 << 109, "disch": 1 << 112, "protected": 1 << 114,
    "ns_table": 1 << 127,
}  # fmt: skip


@pytest.mark.parametrize(("names", "kind"), [(LEAF_BITS, Page128), (TABLE_BITS, Table128)])
def test_fields_are_where_another_implementation_has_them(
    names: dict[str, int], kind: type[Page128 | Table128]
) -> None:
    """Each field reads its own bits, all of them, and no others."""
    for name, mask in names.items():
        assert int(getattr(kind(mask, 3, 0), name)) == mask // (mask & -mask), name
        assert not getattr(kind((1 << 128) - 1 & ~mask, 3, 0), name), name
    assert Page128(0xA << 115 | 0b1 << 119, 3, 0).pi_index == 0xA


@pytest.mark.parametrize("name", ["ap", "dbm", "pxn", "uxn", "pbha"])
def test_fields_that_are_gone_cannot_be_read(name: str) -> None:
    """What 128 bits lack raises instead of giving bits of something else."""
    with pytest.raises(AttributeError, match="no counterpart"):
        getattr(Page128(0, 3, 0), name)


def _registers(**settings: int) -> Registers:
    values: dict[str, int] = {"granule_log2": 12, "txsz": 16, "pa_bits": 56, "ips_bits": 56, **settings}
    return registers_for(d128=True, **values)  # type: ignore[arg-type]


def _regime(va_range: VaRange = VaRange.LOWER, **settings: int) -> Regime:
    regime = derive(_registers(**settings), va_range)
    assert isinstance(regime, Regime)
    return regime


def test_what_128_bits_force() -> None:
    """Indirect permissions, AIE and EPAN are on, hierarchical ones, PnCH and LPA2 off."""
    made = _registers(sctlr=0)
    regime = derive(replace(made, el1=replace(made.el1, tcr2=Tcr2.d128.mask | Tcr2.pnch.mask)), VaRange.LOWER)
    assert isinstance(regime, Regime)
    assert (regime.pie, regime.aie, regime.epan, regime.hpd, regime.pnch) == (True, True, True, True, False)
    assert (regime.address_format, regime.oasize_bits) == (AddressFormat.D128, 56)
    without = derive(replace(made, id_aa64mmfr3_el1=1), VaRange.LOWER)
    assert isinstance(without, Regime)
    assert (without.pie, without.address_format) == (False, AddressFormat.PA48)


@pytest.mark.parametrize(
    ("txsz", "varange", "good"), [(9, 2, True), (8, 2, False), (9, 1, False), (16, 1, True)]
)
def test_55_bits_of_input_take_lva3(txsz: int, varange: int, good: bool) -> None:
    """TxSZ goes down to 9 with FEAT_LVA3, else to 16 (S1MinTxSZ)."""
    outcome = derive(replace(_registers(txsz=txsz), id_aa64mmfr2_el1=varange << 16), VaRange.UPPER)
    assert isinstance(outcome, Regime if good else Fault)


def test_disch_of_each_range() -> None:
    """TCR2.DisCH0 and DisCH1 are of the lower and the upper range."""
    made = _registers()
    for bit, wanted in ((14, (True, False)), (15, (False, True))):
        set_ = replace(made, el1=replace(made.el1, tcr2=Tcr2.d128.mask | 1 << bit))
        regimes = [derive(set_, va_range) for va_range in VaRange]
        assert tuple(isinstance(one, Regime) and one.disch for one in regimes) == wanted


@pytest.mark.parametrize(
    ("ttbr", "table_pa", "start_level"),
    [
        # 48 bits with 4K: 16 entries of 16 bytes from level -1.
        (0x0007_1234_5678_9A00, 0x1234_5678_9A00, -1),
        (0x0007_1234_5678_9AFF & ~0b110, 0x1234_5678_9A00, -1),
        (0xAB << 80 | 0x0007_1234_5678_9A00, 0xAB_1234_5678_9A00, -1),
        # Bits 79:64 and 127:88 are none of it.
        (0xFFFF << 64 | 0xFF << 88 | 0x1000, 0x1000, -1),
        # A level skipped: 2^12 entries from level 0, 64K aligned.
        (0x1234_5678_9A00 | 1 << 1, 0x1234_5678_0000, 0),
        (0x1234_5678_9A00 | 2 << 1, 0x1234_5600_0000 & -(1 << 24), 1),
        (0x1234_5678_9A00 | 3 << 1, 0x1234_0000_0000, 2),
    ],
)
def test_base_and_levels_skipped_of_a_ttbr(ttbr: int, table_pa: int, start_level: int) -> None:
    """Address bits are in 87:80 and 47:5, aligned down to the table; SKL raises the start level."""
    made = _registers()
    regime = derive(replace(made, el1=replace(made.el1, ttbr0=ttbr)), VaRange.LOWER)
    assert isinstance(regime, Regime)
    assert (regime.table_pa, regime.start_level) == (table_pa, start_level)
    assert regime.ttbr_for(table_pa) == table_pa & (1 << 48) - 1 | table_pa >> 48 << 80 | regime.skl << 1


def test_first_table_is_aligned_to_32_bytes_at_least() -> None:
    """A first table of one descriptor's worth of bits is still 32 bytes."""
    made = _registers(txsz=63 - 20 - 8 * 3)
    regime = derive(replace(made, el1=replace(made.el1, ttbr0=0x1020)), VaRange.LOWER)
    assert isinstance(regime, Regime)
    assert (regime.start_table_bytes, regime.table_pa) == (32, 0x1020)
    with pytest.raises(ValueError, match="TTBR cannot hold"):
        regime.ttbr_for(0x1010)


def test_start_beyond_level_3_faults() -> None:
    """A TTBR that skips every level translates nothing."""
    made = _registers(txsz=36)  # 28 bits: level 1
    outcome = derive(replace(made, el1=replace(made.el1, ttbr0=3 << 1)), VaRange.LOWER)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.level) == (FaultKind.TRANSLATION, 0)
    assert "SKL is 3" in outcome.reason


def _plain() -> tuple[TableBuilder, int]:
    builder = TableBuilder(_regime(), ARENA)
    va = 0x1234_5678_9000
    builder.map(va, 0xAB_CDEF_0123_4000, 0x1000, attributes=leaf_attributes_128(pi_index=3))
    return builder, va


def test_nt_of_a_table_is_for_those_that_skip_levels() -> None:
    """nT refuses a block, and a table with SKL, where an implementation says so; not another table."""
    choices = Choices(nt_faults=True)
    for skl in (0, 1):
        builder = TableBuilder(_regime(), ARENA, skips={1: skl})
        builder.map(0x1000, 0x5000, 0x1000)
        builder.add_table_bits(0x1000, 1, 1 << 6) if not skl else builder.plant(
            0x1000, 1, _word(builder, 0x1000, 1) | 1 << 6
        )
        outcome = walk(builder.regime, builder.read, 0x1000, choices=choices)
        assert isinstance(outcome, Fault if skl else Translation)
        if isinstance(outcome, Fault):
            assert (outcome.kind, outcome.level) == (FaultKind.TRANSLATION, 1)
        assert isinstance(walk(builder.regime, builder.read, 0x1000), Translation)


def _word(builder: TableBuilder, va: int, level: int) -> int:
    data = builder.read(builder.descriptor_pa(va, level), 16)
    assert data is not None
    return int.from_bytes(data, "little")


@pytest.mark.parametrize(("level", "fsc"), [(-2, 0x2A), (-1, 0x2B), (0, 0x04), (2, 0x06)])
def test_fault_codes_from_level_minus_2(level: int, fsc: int) -> None:
    """An invalid descriptor at each level of a 55-bit walk has the code of that level."""
    builder = TableBuilder(_regime(txsz=9), ARENA)
    builder.map(0x1000, 0x5000, 0x1000)
    builder.plant(0x1000, level, 0)
    outcome = walk(builder.regime, builder.read, 0x1000)
    assert isinstance(outcome, Fault)
    assert (outcome.level, outcome.fsc) == (level, fsc)


@pytest.mark.parametrize(("level", "fsc"), [(-2, 0x2C), (-1, 0x29), (1, 0x01)])
def test_next_tables_beyond_the_output_size(level: int, fsc: int) -> None:
    """An Address size fault is of the level of the descriptor that was read."""
    builder = TableBuilder(_regime(txsz=9, ips_bits=48), ARENA)
    builder.map(0x1000, 0x5000, 0x1000)
    builder.plant(0x1000, level, 1 << 52 | 1)
    outcome = walk(builder.regime, builder.read, 0x1000)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.fsc) == (FaultKind.ADDRESS_SIZE, fsc)


def test_disch_is_of_the_table_above_only() -> None:
    """The Contiguous bit counts where neither the last table, nor for the first one TCR2, refuses it."""
    builder = TableBuilder(_regime(), ARENA)
    builder.map(0, 0, 1 << 16, contiguous=True)

    def contiguous(builder: TableBuilder, regime: Regime) -> bool:
        outcome = walk(regime, builder.read, 0x1000)
        assert isinstance(outcome, Translation)
        return outcome.contiguous

    regime = builder.regime
    assert contiguous(builder, regime)
    assert contiguous(builder, replace(regime, disch=True))
    builder.add_table_bits(0, 1, 1 << 112)
    assert contiguous(builder, regime)
    builder.add_table_bits(0, 2, 1 << 112)
    assert not contiguous(builder, regime)
    # A first table of level 3: TCR2.DisCH is about that.
    flat = TableBuilder(replace(_regime(txsz=39), skl=1), ARENA)
    flat.map(0, 0, 1 << 16, contiguous=True)
    assert flat.regime.start_level == 3
    assert contiguous(flat, flat.regime)
    assert not contiguous(flat, replace(flat.regime, disch=True))


def test_misaligned_table_is_ored_with() -> None:
    """A table that skips levels and is not aligned to its size is addressed by OR (TTEntryAddress)."""
    regime = replace(_regime(txsz=32), table_pa=0x8000_0000)  # 32 bits: level 1, 16 entries
    base = 0x4000_0000 | 0x3000
    leaf = 0x12_3000 | 1 << 10 | 1
    words = {0x8000_0000: base | 1 | 1 << 109, base | 0x4010: leaf}

    def read(pa: int, size_bytes: int) -> bytes | None:
        assert size_bytes in (16, 256, 4096)
        return b"".join(words.get(at, 0).to_bytes(16, "little") for at in range(pa, pa + size_bytes, 16))

    # Entry 0x401 is at 0x4010, which has no bit of 0x3000; so do entries 0x501 and more.
    for index in (0x401, 0x501, 0x701):
        outcome = walk(regime, read, index << 12 | 0x123)
        assert isinstance(outcome, Translation)
        assert (outcome.pa, outcome.chain[-1].pa) == (0x12_3123, base | 0x4010)
    assert isinstance(walk(regime, read, 0x801 << 12), Fault)
    assert [one.va for one in mappings(regime, read)] == [0x401 << 12, 0x501 << 12, 0x601 << 12, 0x701 << 12]


def test_memory_types_from_both_registers() -> None:
    """AttrIndx is bits 5:2 in one piece; from 8 on it is MAIR2's."""
    regime = replace(_regime(mair=0xFF << 16), mair2=0x44 << 8)
    assert attr_index(regime, Page128(0b1001 << 2, 3, 0)) == 9
    assert str(memory_type(regime, Page128(2 << 2, 3, 0))) == "Normal WB-RWA"
    assert str(memory_type(regime, Page128(9 << 2, 3, 0))) == "Normal NC"
    assert leaf_attributes_128(attr_indx=9, sh=0, af=False) == 9 << 2


def test_rights_are_indirect_whatever_tables_say() -> None:
    """PIIndex selects from PIR and PIRE0, four bits of POIndex an overlay; table permissions are void."""
    regime = replace(_regime(), pir=0x5 << 52, pire0=0x3 << 52, e0poe=True, por_el0=0x1 << 48)
    void = TableAttributes(ap_table=3, uxn_table=True, pxn_table=True)
    for po_index, user in ((0, Right.NONE), (12, Right.READ)):
        leaf = Page128(leaf_attributes_128(pi_index=13, po_index=po_index), 3, 0)
        rights = permissions(regime, leaf, void)
        # PIR 5 is read-write, PIRE0 3 read-execute and under the overlay of POR_EL0.
        assert (rights.privileged, rights.user) == (Right.READ | Right.WRITE, user)


@pytest.mark.parametrize("hd", [False, True])
def test_clean_leaves(hd: bool) -> None:
    """nDirty refuses writes unless hardware manages the dirty state."""
    builder = TableBuilder(replace(_regime(), pir=0xC, ha=True, hd=hd), ARENA)
    builder.map(0x1000, 0x5000, 0x1000, attributes=leaf_attributes_128(ndirty=True))
    outcome = walk(builder.regime, builder.read, 0x1000, Access(kind=AccessKind.WRITE, el=1))
    assert isinstance(outcome, Translation if hd else Fault)
    if isinstance(outcome, Fault):
        assert outcome.denial is Denial.DIRTY_STATE


def test_words_are_shown_whole() -> None:
    """A fault says all 128 bits of what it found."""
    builder, va = _plain()
    builder.plant(va, 3, 1 << 127)
    outcome = walk(builder.regime, builder.read, va)
    assert isinstance(outcome, Fault)
    assert f"{1 << 127:#034x}" in outcome.reason
