"""Who may do what with a leaf: direct and indirect permissions, overlays, and the check of an access.

Source: Arm ARM DDI 0487, D8.4; ASL AArch64_S1DirectBasePermissions, AArch64_S1IndirectBasePermissions,
AArch64_S1OverlayPermissions, AArch64_S1ComputePermissions, AArch64_S1CheckPermissions, in the same order.
May import the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag

from harness.vmsa.descriptor import Leaf, TableAttributes
from harness.vmsa.fault import Denial
from harness.vmsa.regime import Regime

__all__ = ["Access", "AccessKind", "Controls", "Permissions", "Right", "controls", "denial", "permissions"]


class Right(Flag):
    """Rights to a leaf, as a set."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4
    GCS = 8
    """To be used as a guarded control stack."""

    def __str__(self) -> str:
        return "".join(
            letter if one in self else "-" for one, letter in zip(_LETTERED, "rwx", strict=True)
        ) + ("g" if Right.GCS in self else "")


_LETTERED = (Right.READ, Right.WRITE, Right.EXECUTE)
_N, _R, _W, _X = Right.NONE, Right.READ, Right.WRITE, Right.EXECUTE

# Rights by the nibble of PIR or PIRE0. Below 8 the overlay applies; 6 is also subject to WXN.
_INDIRECT = (
    *(_N, _R, _X, _R | _X, _N, _R | _W, _R | _W | _X, _R | _W | _X),
    *(_R, _R | Right.GCS, _R | _X, _N, _R | _W, _N, _R | _W | _X, _N),
)
# Rights by the nibble of POR: bit 0 read, 1 execute, 2 write; none from 8 on.
_OVERLAY = (_N, _R, _X, _R | _X, _W, _R | _W, _W | _X, _R | _W | _X, *(_N,) * 8)


class AccessKind(Enum):
    """What an access does; the value is the right that it takes."""

    READ = Right.READ
    WRITE = Right.WRITE
    EXECUTE = Right.EXECUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An access that may be refused (ASL AccessDescriptor)."""

    kind: AccessKind
    el: int
    """Exception level it is made from; 0 also for the unprivileged loads and stores of higher levels."""
    pan: bool = False
    """PSTATE.PAN."""
    aligned: bool = True
    nonfault: bool = False
    """A non-fault or first-fault vector load, or one in a transaction: what TCR.NFDx refuses to EL0."""

    @property
    def is_fetch(self) -> bool:
        """True for instruction fetches."""
        return self.kind is AccessKind.EXECUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """One exception level's rights before they are combined (ASL S1AccessControls)."""

    base: Right
    overlay: Right | None
    """None where no overlay applies."""

    @property
    def effective(self) -> Right:
        """Base and overlay combined."""
        return self.base if self.overlay is None else self.base & (self.overlay | Right.GCS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a leaf lets privileged and unprivileged software do, everything considered."""

    privileged: Right
    user: Right

    def __str__(self) -> str:
        return f"{self.privileged}/{self.user}"


def permissions(regime: Regime, leaf: Leaf, inherited: TableAttributes, *, pan: bool = False) -> Permissions:
    """The rights of EL1 (EL2 in its own regimes) and of EL0; `pan` is PSTATE.PAN.

    EL0 has none in a regime of one range.

    A clean leaf that hardware may not make dirty is not writable. TCR.E0PD, which hides a range from EL0
    whole, is not a property of leaves and is left to `walk`.
    """
    both = []
    for el in (1, 0):
        granted = controls(regime, leaf, inherited, el=el, pan=pan).effective
        both.append(granted & ~Right.WRITE if _is_stuck_clean(regime, leaf) else granted)
    return Permissions(privileged=both[0], user=both[1])


def controls(
    regime: Regime, leaf: Leaf, inherited: TableAttributes, *, el: int, pan: bool = False
) -> Controls:
    """Base rights and overlay of one exception level (ASL AArch64_S1ComputePermissions)."""
    if el == 0 and not regime.name.has_unprivileged:
        return Controls(base=Right.NONE, overlay=None)
    pan = pan and regime.has_pan
    if regime.pie:
        base, wxn, overlaid = _indirect(regime, leaf, el=el, pan=pan)
    else:
        base, wxn = _direct(regime, leaf, inherited, el=el, pan=pan)
        overlaid = True
    overlay = None
    if overlaid and (regime.e0poe if el == 0 else regime.poe):
        overlay = _OVERLAY[(regime.por_el0 if el == 0 else regime.por) >> 4 * leaf.po_index & 0xF]
    if wxn and overlay is not None and Right.EXECUTE in overlay:
        overlay &= ~Right.WRITE
    elif wxn:
        base &= ~Right.EXECUTE
    return Controls(base=base, overlay=overlay)


def _direct(
    regime: Regime, leaf: Leaf, inherited: TableAttributes, *, el: int, pan: bool
) -> tuple[Right, bool]:
    """Rights from AP, PXN and UXN, and whether WXN bites (ASL AArch64_S1DirectBasePermissions)."""
    if regime.hpd:
        inherited = TableAttributes()
    read_only = bool(leaf.ap & 0b10) and not (regime.ha and regime.hd and leaf.dbm)
    if not regime.name.has_unprivileged:
        # AP[1] and APTable[0] say nothing; XN and XNTable are where UXN and UXNTable are.
        w = not read_only and not inherited.ap_table & 0b10
        x = not (leaf.uxn or inherited.uxn_table)
        return _rights(True, w, x), regime.wxn and w and x
    for_user = bool(leaf.ap & 0b01)
    pr, pw = True, not read_only
    ur, uw = for_user, for_user and not read_only
    if inherited.ap_table & 0b01:
        ur = uw = False
    if inherited.ap_table & 0b10:
        pw = uw = False
    px = not (leaf.pxn or inherited.pxn_table or uw)
    ux = not (leaf.uxn or inherited.uxn_table)
    if pan and (ur or uw or (regime.epan and ux)):
        pr = pw = False
    r, w, x = (ur, uw, ux) if el == 0 else (pr, pw, px)
    return _rights(r, w, x), regime.wxn and w and x


def _rights(r: bool, w: bool, x: bool) -> Right:
    return (_R if r else _N) | (_W if w else _N) | (_X if x else _N)


def _indirect(regime: Regime, leaf: Leaf, *, el: int, pan: bool) -> tuple[Right, bool, bool]:
    """Rights from PIR and PIRE0, WXN, and whether an overlay applies (AArch64_S1IndirectBasePermissions)."""
    shift = 4 * leaf.pi_index
    ppi, upi = regime.pir >> shift & 0xF, regime.pire0 >> shift & 0xF
    privileged, user = _INDIRECT[ppi], _INDIRECT[upi]
    if not regime.name.has_unprivileged:
        return privileged, ppi == 6, ppi < 8
    if privileged & (Right.EXECUTE | Right.GCS) and user & (Right.WRITE | Right.GCS):
        privileged = user = Right.NONE
    if pan and upi != 0:
        privileged &= ~(Right.READ | Right.WRITE)
    base, nibble = (user, upi) if el == 0 else (privileged, ppi)
    return base, nibble == 6, nibble < 8


def _is_stuck_clean(regime: Regime, leaf: Leaf) -> bool:
    return regime.pie and leaf.ndirty and not (regime.ha and regime.hd)


def denial(regime: Regime, leaf: Leaf, inherited: TableAttributes, access: Access) -> Denial | None:
    """What refuses an access, or None (ASL AArch64_S1CheckPermissions: the overlay first).

    Fetching from Device memory, which an implementation may refuse, is not refused.
    """
    granted = controls(regime, leaf, inherited, el=access.el, pan=access.pan)
    right = access.kind.value
    if granted.overlay is not None and right not in granted.overlay:
        return Denial.OVERLAY
    if right not in granted.base:
        return Denial.BASE
    if access.kind is AccessKind.WRITE and _is_stuck_clean(regime, leaf):
        return Denial.DIRTY_STATE
    return None
