"""Permissions against tables written out, for every combination there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.vmsa import Access, AccessKind, Denial, Page, Regime, Right, TableAttributes, permissions
from harness.vmsa.access import controls, denial

MakeRegime = Callable[..., Regime]
BOTH = (False, True)

# Data rights of EL1 and EL0, by AP[2:1] and APTable: Arm ARM D8.4, the tables of AP and of APTable.
DATA_RIGHTS = {
    (0b00, 0b00): ("rw", ""), (0b01, 0b00): ("rw", "rw"), (0b10, 0b00): ("r", ""), (0b11, 0b00): ("r", "r"),
    (0b00, 0b01): ("rw", ""), (0b01, 0b01): ("rw", ""), (0b10, 0b01): ("r", ""), (0b11, 0b01): ("r", ""),
    (0b00, 0b10): ("r", ""), (0b01, 0b10): ("r", "r"), (0b10, 0b10): ("r", ""), (0b11, 0b10): ("r", "r"),
    (0b00, 0b11): ("r", ""), (0b01, 0b11): ("r", ""), (0b10, 0b11): ("r", ""), (0b11, 0b11): ("r", ""),
}  # fmt: skip


def _expected(
    ap: int, ap_table: int, never_el1: bool, never_el0: bool, wxn: bool, pan: bool, epan: bool
) -> str:
    """The same answer from sets of letters, with the manual's sentences as rules."""
    el1, el0 = (set(rights) for rights in DATA_RIGHTS[ap, ap_table])
    x1, x0 = not never_el1, not never_el0
    if "w" in el0:
        x1 = False  # writable at EL0 is never executable at EL1
    if pan and (el0 or (epan and x0)):
        el1 = set()
    if wxn:
        x1, x0 = x1 and "w" not in el1, x0 and "w" not in el0
    el1, el0 = el1 | ({"x"} if x1 else set()), el0 | ({"x"} if x0 else set())
    return "/".join("".join(one if one in rights else "-" for one in "rwx") for rights in (el1, el0))


@pytest.mark.parametrize("wxn", BOTH)
@pytest.mark.parametrize("epan", BOTH)
def test_direct_permissions(make_regime: MakeRegime, wxn: bool, epan: bool) -> None:
    """All AP, APTable, PXN, UXN, their table bits, and PAN, under each WXN and EPAN."""
    regime = make_regime(sctlr=wxn << 19 | epan << 57)
    for ap, ap_table in DATA_RIGHTS:
        for pxn, uxn, pxn_table, uxn_table, pan in itertools.product(BOTH, repeat=5):
            leaf = Page(3 | ap << 6 | pxn << 53 | uxn << 54, 3, 0)
            inherited = TableAttributes(ap_table=ap_table, pxn_table=pxn_table, uxn_table=uxn_table)
            wanted = _expected(ap, ap_table, pxn or pxn_table, uxn or uxn_table, wxn, pan, epan)
            assert str(permissions(regime, leaf, inherited, pan=pan)) == wanted


def test_hierarchy_can_be_disabled(make_regime: MakeRegime) -> None:
    """With TCR.HPD the tables' attributes do not count."""
    inherited = TableAttributes(ap_table=3, pxn_table=True, uxn_table=True)
    leaf = Page(3 | 1 << 6, 3, 0)
    assert str(permissions(make_regime(), leaf, inherited)) == "r--/---"
    assert str(permissions(make_regime(tcr=1 << 41), leaf, inherited)) == "rw-/rwx"


@pytest.mark.parametrize(("ha", "hd", "dbm"), list(itertools.product(BOTH, repeat=3)))
def test_writable_clean_is_writable(make_regime: MakeRegime, ha: bool, hd: bool, dbm: bool) -> None:
    """A read-only leaf with DBM can be written only where hardware manages the dirty state."""
    regime = make_regime(tcr=ha << 39 | hd << 40)
    leaf = Page(3 | 0b11 << 6 | dbm << 51, 3, 0)
    writable = Right.WRITE in permissions(regime, leaf, TableAttributes()).user
    assert writable is (ha and hd and dbm)


def test_pan_needs_the_feature(make_regime: MakeRegime) -> None:
    """PSTATE.PAN means nothing to a CPU without it, nor EPAN to one without that."""
    user = Page(3 | 1 << 6, 3, 0)
    execute_only = Page(3 | 0b10 << 6 | 1 << 53, 3, 0)
    epan = 1 << 57
    assert str(permissions(make_regime(pan=0, sctlr=epan), user, TableAttributes(), pan=True)) == "rw-/rwx"
    assert str(permissions(make_regime(pan=1, sctlr=epan), user, TableAttributes(), pan=True)) == "---/rwx"
    for pan, wanted in ((1, "r--/--x"), (3, "---/--x")):
        regime = make_regime(pan=pan, sctlr=epan)
        assert str(permissions(regime, execute_only, TableAttributes(), pan=True)) == wanted


# Words of Linux guests and what each is meant to allow, hierarchy included: (word, table bits, rights).
@pytest.mark.parametrize(
    ("word", "inherited", "wanted"),
    [
        (0x00E8_0000_0000_0C43, TableAttributes(pxn_table=True), "rw-/rw-"),
        (0x0020_0000_0000_0CC3, TableAttributes(pxn_table=True), "r--/r-x"),
        (0x00E0_0000_0000_0CC3, TableAttributes(pxn_table=True), "r--/r--"),
        (0x00A0_0000_0000_0C83, TableAttributes(pxn_table=True), "r--/--x"),
        (0x0160_0000_0000_0CC3, TableAttributes(pxn_table=True), "r--/r--"),
        # Kernel: linear map, and text.
        (0x0068_0000_0000_0F03, TableAttributes(pxn_table=True, uxn_table=True), "rw-/---"),
        (0x0040_0000_0000_0F83, TableAttributes(uxn_table=True), "r-x/---"),
    ],
)
def test_rights_of_linux_words(
    make_regime: MakeRegime, word: int, inherited: TableAttributes, wanted: str
) -> None:
    """A guest's words grant what its kernel says they do."""
    assert str(permissions(make_regime(), Page(word, 3, 0), inherited)) == wanted


# Rights by the nibble of PIR or PIRE0 (Arm ARM D8.4, stage 1 indirect permissions); * takes overlays.
NIBBLES = (
    "---*", "r--*", "--x*", "r-x*", "---*", "rw-*", "rwx*", "rwx*",
    "r--", "r--g", "r-x", "---", "rw-", "---", "rwx", "---",
)  # fmt: skip


def _indirect(make_regime: MakeRegime, ppi: int, upi: int) -> Regime:
    """A regime whose every index selects these nibbles."""
    pir, pire0 = (int(f"{nibble:x}" * 16, 16) for nibble in (ppi, upi))
    return replace(make_regime(), pie=True, hpd=True, epan=True, pir=pir, pire0=pire0)


@pytest.mark.parametrize("ppi", range(16))
def test_indirect_permissions(make_regime: MakeRegime, ppi: int) -> None:
    """All pairs of nibbles: the table's rights, WXN for 6, nothing for EL1-executable and EL0-writable."""
    for upi in range(16):
        el1, el0 = (NIBBLES[nibble].removesuffix("*") for nibble in (ppi, upi))
        if ("x" in el1 or "g" in el1) and ("w" in el0 or "g" in el0):
            el1 = el0 = "---"
        el1 = el1.replace("x", "-") if ppi == 6 else el1
        el0 = el0.replace("x", "-") if upi == 6 else el0
        regime = _indirect(make_regime, ppi, upi)
        assert str(permissions(regime, Page(3, 3, 0), TableAttributes())) == f"{el1}/{el0}"
        with_pan = "--" + el1[2:] if upi != 0 else el1
        assert str(permissions(regime, Page(3, 3, 0), TableAttributes(), pan=True)) == f"{with_pan}/{el0}"


def test_every_index_selects_its_nibble(make_regime: MakeRegime) -> None:
    """PIIndex i reads bits 4i+3:4i of both registers."""
    regime = replace(make_regime(), pie=True, pir=0xFEDC_BA98_7654_3210, pire0=0x8)
    for index in range(16):
        word = 3 | (index >> 2) << 53 | (index >> 1 & 1) << 51 | (index & 1) << 6
        leaf = Page(word, 3, 0)
        base = controls(regime, leaf, TableAttributes(), el=1).base
        wanted = "rw-" if index == 6 else NIBBLES[index].removesuffix("*")  # 6 has WXN
        assert str(base) == wanted


def test_linux_indirect_registers_mean_what_its_direct_bits_do(make_regime: MakeRegime) -> None:
    """With Linux 6.12's PIR and PIRE0 its words grant what they grant without indirect permissions."""
    regime = replace(
        make_regime(tcr=3 << 39), pie=True, hpd=True,
        pir=0xCC88_0E0A_C080_0000, pire0=0x5010_0000_7032_0000,
    )  # fmt: skip
    for word, wanted in (
        (0x00E8_0000_0000_0C43, "rw-/rw-"),  # user read-write
        (0x0020_0000_0000_0CC3, "r--/r-x"),  # user text
        (0x00E0_0000_0000_0CC3, "r--/r--"),  # user read-only
        (0x0068_0000_0000_0F03, "rw-/---"),  # kernel data
        (0x0040_0000_0000_0F83, "r-x/---"),  # kernel text
        (0x0060_0000_0000_0F83, "r--/---"),  # kernel read-only data
    ):
        assert str(permissions(regime, Page(word, 3, 0), TableAttributes())) == wanted


# What a nibble of POR lets through.
POR = ("---", "r--", "--x", "r-x", "-w-", "rw-", "-wx", "rwx", *("---",) * 8)


@pytest.mark.parametrize("nibble", range(16))
def test_overlay_takes_rights_away(make_regime: MakeRegime, nibble: int) -> None:
    """An overlay masks the rights of its exception level alone, and only where it is enabled."""
    leaf = Page(3 | 5 << 60 | 1 << 6 | 1 << 53, 3, 0)
    off = replace(make_regime(), por=0, por_el0=0)
    assert str(permissions(off, leaf, TableAttributes())) == "rw-/rwx"
    user = replace(off, e0poe=True, por_el0=nibble << 20)
    assert str(permissions(user, leaf, TableAttributes())) == f"rw-/{POR[nibble]}"
    kernel = replace(off, poe=True, por=nibble << 20)
    masked = "".join(a if a == b else "-" for a, b in zip("rw-", POR[nibble], strict=True))
    assert str(permissions(kernel, leaf, TableAttributes())) == f"{masked}/rwx"


def test_overlay_spares_half_of_the_indirect_encodings(make_regime: MakeRegime) -> None:
    """Nibbles from 8 on ignore the overlay."""
    for nibble, text in enumerate(NIBBLES):
        regime = replace(_indirect(make_regime, nibble, 0), poe=True, por=0)
        overlaid = controls(regime, Page(3, 3, 0), TableAttributes(), el=1).overlay is not None
        assert overlaid is text.endswith("*")


def test_wxn_and_an_executable_overlay(make_regime: MakeRegime) -> None:
    """Where the overlay allows execution, WXN takes the overlay's write and leaves execution."""
    leaf = Page(3, 3, 0)
    regime = replace(make_regime(sctlr=1 << 19), poe=True, por=0b0111)
    assert str(permissions(regime, leaf, TableAttributes()).privileged) == "r-x"
    not_executable = replace(regime, por=0b0101)
    assert str(permissions(not_executable, leaf, TableAttributes()).privileged) == "rw-"


@pytest.mark.parametrize("managed", BOTH)
def test_dirty_state_with_indirect_permissions(make_regime: MakeRegime, managed: bool) -> None:
    """A clean leaf may be written only where hardware makes it dirty; the refusal says so."""
    regime = replace(_indirect(make_regime, 0xC, 5), ha=managed, hd=managed)
    clean = Page(3 | 1 << 7, 3, 0)
    write = Access(kind=AccessKind.WRITE, el=0)
    assert str(permissions(regime, clean, TableAttributes())) == ("rw-/rw-" if managed else "r--/r--")
    assert denial(regime, clean, TableAttributes(), write) is (None if managed else Denial.DIRTY_STATE)


def test_the_overlay_refuses_first(make_regime: MakeRegime) -> None:
    """An access that overlay and permissions both refuse is refused by the overlay."""
    leaf = Page(3 | 0b10 << 6, 3, 0)
    write = Access(kind=AccessKind.WRITE, el=1)
    assert denial(make_regime(), leaf, TableAttributes(), write) is Denial.BASE
    overlaid = replace(make_regime(), poe=True, por=0)
    assert denial(overlaid, leaf, TableAttributes(), write) is Denial.OVERLAY


@pytest.mark.parametrize("kind", AccessKind)
@pytest.mark.parametrize("el", [0, 1, 2])
def test_check_agrees_with_permissions(make_regime: MakeRegime, kind: AccessKind, el: int) -> None:
    """An access is refused exactly where the permissions do not hold the right, at every level."""
    regime = make_regime()
    for ap, pxn, uxn, pan in itertools.product(range(4), BOTH, BOTH, BOTH):
        leaf = Page(3 | ap << 6 | pxn << 53 | uxn << 54, 3, 0)
        both = permissions(regime, leaf, TableAttributes(), pan=pan)
        rights = both.user if el == 0 else both.privileged
        refused = denial(regime, leaf, TableAttributes(), Access(kind=kind, el=el, pan=pan))
        assert (refused is None) is (kind.value in rights)
