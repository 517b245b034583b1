"""What stage 2 makes of a leaf: rights, memory types, and the order of a walk's last checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.vmsa import (
    Access,
    AccessKind,
    Choices,
    Denial,
    Fault,
    FaultKind,
    FromStage1,
    Page,
    Page128,
    Permissions,
    Right,
    Shareability,
    Stage2Regime,
    Stage2TableBuilder,
    Translation,
    derive_stage2,
    mappings,
    stage2_attributes,
    stage2_memory,
    stage2_permissions,
    stage2_registers_for,
    stage2_shareability,
    walk_stage2,
)

ARENA, IPA, PA = 0x4000_0000, 0x12_3456_7000, 0x9_8765_4000
N, R, W, X = Right.NONE, Right.READ, Right.WRITE, Right.EXECUTE


def _regime(**settings: Any) -> Stage2Regime:
    regime = derive_stage2(stage2_registers_for(**{"granule_log2": 12, "txsz": 24, "sl0": 1, **settings}))
    assert isinstance(regime, Stage2Regime)
    return regime


def _page(**attributes: Any) -> Page:
    return Page(stage2_attributes(**attributes) | 0b11, 3, 0)


@pytest.mark.parametrize(("s2ap", "data"), [(0b00, N), (0b01, R), (0b10, W), (0b11, R | W)])
@pytest.mark.parametrize(
    ("xn", "with_xnx", "without"),
    [(0b00, (X, X), (X, X)), (0b01, (N, X), (X, X)), (0b10, (N, N), (N, N)), (0b11, (X, N), (N, N))],
)
def test_direct_rights(
    s2ap: int, data: Right, xn: int, with_xnx: tuple[Right, Right], without: tuple[Right, Right]
) -> None:
    """S2AP says read and write, XN[1:0] who executes; XN[0] is nothing without FEAT_XNX."""
    leaf = _page(s2ap=s2ap, xn=xn)
    for has_xnx, (px, ux) in ((True, with_xnx), (False, without)):
        rights = stage2_permissions(replace(_regime(), xnx=has_xnx), leaf)
        assert rights == Permissions(privileged=data | px, user=data | ux)


def test_attributes_where_linux_has_them() -> None:
    """S2AP, MemAttr, SH, AF, XN and DBM are the bits of Linux's KVM (arch/arm64/kvm/hyp/pgtable.c)."""
    assert stage2_attributes(mem_attr=0xF, s2ap=0, sh=0, af=False) == 0xF << 2
    assert stage2_attributes(mem_attr=0, s2ap=0b01, sh=0, af=False) == 1 << 6
    assert stage2_attributes(mem_attr=0, s2ap=0b10, sh=0, af=False) == 1 << 7
    assert stage2_attributes(mem_attr=0, s2ap=0, sh=3, af=True) == 3 << 8 | 1 << 10
    assert stage2_attributes(mem_attr=0, s2ap=0, sh=0, af=False, xn=0b10) == 1 << 54
    assert stage2_attributes(mem_attr=0, s2ap=0, sh=0, af=False, xn=0b01, dbm=True) == 1 << 53 | 1 << 51
    assert stage2_attributes(mem_attr=0, s2ap=0, sh=0, af=False, fnxs=True, software=1) == 1 << 55 | 1 << 11


@pytest.mark.parametrize(
    ("ha", "hd", "writable"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_writable_clean(ha: bool, hd: bool, writable: bool) -> None:
    """With DBM a leaf is writable where hardware manages the dirty state."""
    rights = stage2_permissions(replace(_regime(), ha=ha, hd=hd), _page(s2ap=0b01, dbm=True))
    assert (W in rights.privileged, W in rights.user) == (writable, writable)


# S2PIR's nibble: rights of EL1 and of EL0 (Arm ARM DDI 0487, D8.4, stage 2 base permissions).
INDIRECT = [
    (N, N), (N, N), (R, R), (R, R), (W, W), (N, N), (R, R), (R, R),
    (R, R), (R, R | X), (R | X, R), (R | X, R | X),
    (R | W, R | W), (R | W, R | W | X), (R | W | X, R | W), (R | W | X, R | W | X),
]  # fmt: skip


@pytest.mark.parametrize("nibble", range(16))
def test_indirect_rights(nibble: int) -> None:
    """S2PIR gives the rights, whatever S2AP and XN would be, by the index of either size of descriptor."""
    privileged, user = INDIRECT[nibble]
    wanted = Permissions(privileged=privileged, user=user)
    regime = replace(_regime(), s2pie=True, s2pir=nibble << 4 * 9)
    # PIIndex 9: bits 54 and 6 of 64, 118:115 of 128; bit 7 is dirty.
    assert stage2_permissions(regime, Page(1 << 54 | 1 << 6 | 1 << 7, 3, 0)) == wanted
    assert stage2_permissions(regime, Page128(9 << 115 | 1 << 7, 3, 0)) == wanted


def test_clean_leaves_with_indirect_rights() -> None:
    """A leaf is not writable while bit 7, which is 1 for dirty here, is 0, unless hardware may set it."""
    regime = replace(_regime(), s2pie=True, s2pir=0xC)
    clean, dirty = Page(0, 3, 0), Page(1 << 7, 3, 0)
    assert stage2_permissions(regime, clean).privileged == R
    assert stage2_permissions(regime, dirty).privileged == R | W
    assert stage2_permissions(replace(regime, ha=True, hd=True), clean).privileged == R | W


WB, WT, NC = "WB-RWA", "WT-RWA", "NC"
TYPES = {
    0b0000: "Device-nGnRnE", 0b0001: "Device-nGnRE", 0b0010: "Device-nGRE", 0b0011: "Device-GRE",
    0b0100: "reserved (0x04)", 0b0101: f"Normal {NC}", 0b0110: f"Normal inner {WT} outer {NC}",
    0b0111: f"Normal inner {WB} outer {NC}", 0b1000: "reserved (0x08)",
    0b1001: f"Normal inner {NC} outer {WT}",
    0b1010: f"Normal {WT}", 0b1011: f"Normal inner {WB} outer {WT}", 0b1100: "reserved (0x0c)",
    0b1101: f"Normal inner {NC} outer {WB}", 0b1110: f"Normal inner {WT} outer {WB}", 0b1111: f"Normal {WB}",
}  # fmt: skip


@pytest.mark.parametrize("attr", range(16))
def test_memory_types_without_fwb(attr: int) -> None:
    """MemAttr[3:2] is Device or the outer cacheability, [1:0] the kind of Device or the inner one."""
    assert str(stage2_memory(_regime(), _page(mem_attr=attr))) == TYPES[attr]
    for fnxs in (True, False):
        found: Any = stage2_memory(_regime(), _page(mem_attr=attr, fnxs=fnxs))
        assert "reserved" in TYPES[attr] or found.xs is not fnxs


@pytest.mark.parametrize(
    ("attr", "wanted"),
    [
        (0b0000, "Device-nGnRnE"), (0b0001, "Device-nGnRE"), (0b0010, "Device-nGRE"), (0b0011, "Device-GRE"),
        (0b0101, FromStage1.NON_CACHEABLE), (0b0110, f"Normal {WB}"), (0b0111, FromStage1.UNCHANGED),
        (0b1110, f"Normal {WB}"), (0b1111, FromStage1.UNCHANGED),
    ],
)  # fmt: skip
def test_memory_types_with_fwb(attr: int, wanted: str | FromStage1) -> None:
    """MemAttr forces Write-Back or Device, or leaves it to stage 1."""
    found = stage2_memory(_regime(hcr=1 << 46), _page(mem_attr=attr))
    assert (found if isinstance(wanted, FromStage1) else str(found)) == wanted


def test_shareability() -> None:
    """SH is in the descriptor, or VTCR.SH0 where the LPA2 format has no room."""
    assert stage2_shareability(_regime(), _page(sh=2)) is Shareability.OUTER
    wide = _regime(ds=True, pa_bits=52, vtcr=3 << 12)
    assert stage2_shareability(wide, _page(sh=2)) is Shareability.INNER


def _built(**attributes: Any) -> Stage2TableBuilder:
    builder = Stage2TableBuilder(_regime(ps_bits=40), ARENA)
    builder.map(IPA, PA, 0x1000, attributes=stage2_attributes(**attributes))
    return builder


def _outcome(
    builder: Stage2TableBuilder, kind: AccessKind, *, el: int = 1, **settings: Any
) -> Translation | Fault:
    return walk_stage2(builder.regime, builder.read, IPA, Access(kind=kind, el=el, **settings))


def test_walks_of_an_access() -> None:
    """Rights by exception level; a refusal is a Permission fault of stage 2 with its chain."""
    builder = _built(s2ap=0b01, xn=0b01)
    assert isinstance(_outcome(builder, AccessKind.READ), Translation)
    assert isinstance(_outcome(builder, AccessKind.EXECUTE, el=0), Translation)
    for refused in (_outcome(builder, AccessKind.WRITE), _outcome(builder, AccessKind.EXECUTE)):
        assert isinstance(refused, Fault)
        assert (refused.kind, refused.level, refused.stage) == (FaultKind.PERMISSION, 3, 2)
        assert refused.denial is Denial.BASE
        assert [step.level for step in refused.chain] == [1, 2, 3]
        assert refused.va == IPA
        assert refused.par_el1 == 1 | 0b001111 << 1 | 1 << 9
    outcome = walk_stage2(builder.regime, builder.read, IPA + 0x123)
    assert isinstance(outcome, Translation)
    assert outcome.pa == PA + 0x123


def test_dirty_state_refuses_last() -> None:
    """A clean leaf refuses a write by its dirty state only when its rights do not."""
    builder = _built(s2ap=0b00)
    builder.regime = replace(builder.regime, s2pie=True, s2pir=0x8C)
    write = _outcome(builder, AccessKind.WRITE)
    assert isinstance(write, Fault)
    assert write.denial is Denial.DIRTY_STATE
    builder.plant(IPA, 3, PA | stage2_attributes(s2ap=0b01) | 0b11)  # PIIndex 1: read only
    write = _outcome(builder, AccessKind.WRITE)
    assert isinstance(write, Fault)
    assert write.denial is Denial.BASE


def test_alignment_comes_before_permission() -> None:
    """An unaligned access to what stage 2 makes Device is an Alignment fault, of data alone."""
    builder = _built(mem_attr=0b0001, s2ap=0b00)
    unaligned = _outcome(builder, AccessKind.READ, aligned=False)
    assert isinstance(unaligned, Fault)
    assert (unaligned.kind, unaligned.fsc) == (FaultKind.ALIGNMENT, 0x21)
    for outcome in (
        _outcome(builder, AccessKind.READ),
        _outcome(_built(mem_attr=0xF, s2ap=0), AccessKind.READ),
    ):
        assert isinstance(outcome, Fault)
        assert outcome.kind is FaultKind.PERMISSION
    assert isinstance(_outcome(builder, AccessKind.EXECUTE, aligned=False), Translation)


def test_table_attributes_mean_nothing_at_stage_2() -> None:
    """What would be APTable, XNTable and NSTable at stage 1 is ignored."""
    builder = _built()
    for level in (1, 2):
        builder.add_table_bits(IPA, level, 0x1F << 59)
    outcome = _outcome(builder, AccessKind.WRITE, el=0)
    assert isinstance(outcome, Translation)
    (leaf,) = mappings(builder.regime, builder.read)
    assert leaf.inherited == outcome.inherited
    assert not outcome.inherited.ap_table


@pytest.mark.parametrize(
    ("level", "word", "kind", "fault_level"),
    [
        (1, 0, FaultKind.TRANSLATION, 1),
        (2, 1 << 44 | 0b11, FaultKind.ADDRESS_SIZE, 2),
        (2, 0x7000_0000 | 0b11, FaultKind.EXTERNAL_ON_WALK, 3),
        (3, 0b01, FaultKind.TRANSLATION, 3),
        (3, 1 << 44 | 1 << 10 | 0b11, FaultKind.ADDRESS_SIZE, 3),
        (3, 0b11, FaultKind.ACCESS_FLAG, 3),
    ],
)
def test_faults_on_the_way(level: int, word: int, kind: FaultKind, fault_level: int) -> None:
    """The faults of a walk are those of stage 1, and say that they are of stage 2."""
    builder = _built()
    builder.plant(IPA, level, word)
    outcome = walk_stage2(builder.regime, builder.read, IPA)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.level, outcome.stage) == (kind, fault_level, 2)


def test_contiguous_and_nt_choices() -> None:
    """What is left to implementations applies to stage 2 as well."""
    builder = Stage2TableBuilder(_regime(), ARENA)
    builder.plant(0, 2, 0x20_0000 | stage2_attributes() | 1 << 16 | 0b01)
    outcome = walk_stage2(builder.regime, builder.read, 0, choices=Choices(nt_faults=True))
    assert isinstance(outcome, Fault)
    assert outcome.kind is FaultKind.TRANSLATION


def test_addresses() -> None:
    """Beyond the size is a Translation fault of level 0, beyond 56 bits the caller's mistake."""
    builder = _built()
    outcome = walk_stage2(builder.regime, builder.read, 1 << 40)
    assert isinstance(outcome, Fault)
    assert (outcome.kind, outcome.level, outcome.chain) == (FaultKind.TRANSLATION, 0, ())
    with pytest.raises(ValueError, match="56 bits"):
        walk_stage2(builder.regime, builder.read, 1 << 56)
    impossible = derive_stage2(stage2_registers_for(granule_log2=16, txsz=24, sl0=3))
    assert isinstance(impossible, Fault)
    outcome = walk_stage2(impossible, builder.read, IPA)
    assert isinstance(outcome, Fault)
    assert (outcome.va, outcome.stage, outcome.reason) == (IPA, 2, impossible.reason)
