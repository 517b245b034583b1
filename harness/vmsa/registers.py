"""The registers that rule translation, raw and in fields.

Layouts: Arm ARM DDI 0487, D24.2, under each register's name; the bitfields of the ASL. TCR_EL2 has the
layout of TCR_EL1 while HCR_EL2.E2H is 1; what it has otherwise is in `harness.vmsa.registers_el2`.
May import the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from harness.vmsa.field import Field, Flag

__all__ = ["Bank", "Hcr", "Mmfr0", "Mmfr1", "Mmfr2", "Mmfr3", "Registers", "Sctlr", "Tcr", "Tcr2", "Ttbr"]


@dataclass(frozen=True, slots=True)
class Tcr:
    """TCR_EL1, or TCR_EL2 with E2H=1."""

    word: int

    t0sz = Field(5, 0)
    epd0 = Flag(7)
    sh0 = Field(13, 12)
    tg0 = Field(15, 14)
    t1sz = Field(21, 16)
    a1 = Flag(22)
    epd1 = Flag(23)
    sh1 = Field(29, 28)
    tg1 = Field(31, 30)
    ips = Field(34, 32)
    as16 = Flag(36)
    """AS: an ASID has 16 bits."""
    tbi0 = Flag(37)
    tbi1 = Flag(38)
    ha = Flag(39)
    hd = Flag(40)
    hpd0 = Flag(41)
    hpd1 = Flag(42)
    hwu = Field(50, 43)
    tbid0 = Flag(51)
    tbid1 = Flag(52)
    nfd0 = Flag(53)
    nfd1 = Flag(54)
    e0pd0 = Flag(55)
    e0pd1 = Flag(56)
    tcma0 = Flag(57)
    tcma1 = Flag(58)
    ds = Flag(59)
    mtx0 = Flag(60)
    mtx1 = Flag(61)


@dataclass(frozen=True, slots=True)
class Tcr2:
    """TCR2_EL1, or TCR2_EL2."""

    word: int

    pnch = Flag(0)
    pie = Flag(1)
    e0poe = Flag(2)
    poe = Flag(3)
    aie = Flag(4)
    d128 = Flag(5)
    haft = Flag(11)
    disch0 = Flag(14)
    disch1 = Flag(15)


@dataclass(frozen=True, slots=True)
class Ttbr:
    """TTBR0 or TTBR1 of either exception level, of 64 or 128 bits; the base depends on the regime."""

    word: int

    cnp = Flag(0)
    skl = Field(2, 1)
    """Levels skipped by the first table, with 128-bit descriptors."""
    asid = Field(63, 48)


@dataclass(frozen=True, slots=True)
class Sctlr:
    """SCTLR_EL1, or SCTLR_EL2 with E2H=1."""

    word: int

    m = Flag(0)
    c = Flag(2)
    i = Flag(12)
    wxn = Flag(19)
    span = Flag(23)
    ee = Flag(25)
    """Tables are big-endian."""
    epan = Flag(57)


@dataclass(frozen=True, slots=True)
class Hcr:
    """HCR_EL2."""

    word: int

    vm = Flag(0)
    dc = Flag(12)
    tge = Flag(27)
    e2h = Flag(34)
    fwb = Flag(46)


@dataclass(frozen=True, slots=True)
class Mmfr0:
    """ID_AA64MMFR0_EL1."""

    word: int

    parange = Field(3, 0)
    tgran16 = Field(23, 20)
    """0 none, 1 yes, 2 with 52-bit addresses."""
    tgran64 = Field(27, 24)
    """0 yes, 15 none."""
    tgran4 = Field(31, 28)
    """0 yes, 1 with 52-bit addresses, 15 none."""
    tgran16_2 = Field(35, 32)
    """At stage 2: 0 as at stage 1, 1 none, 2 yes, 3 with 52-bit addresses; so are the next two."""
    tgran64_2 = Field(39, 36)
    tgran4_2 = Field(43, 40)


@dataclass(frozen=True, slots=True)
class Mmfr1:
    """ID_AA64MMFR1_EL1."""

    word: int

    hafdbs = Field(3, 0)
    """1 access flag, 2 dirty state too, 3 the access flag of tables too."""
    vmidbits = Field(7, 4)
    """2: VMIDs of 16 bits."""
    hpds = Field(15, 12)
    pan = Field(23, 20)
    """3: with EPAN."""
    xnx = Field(31, 28)


@dataclass(frozen=True, slots=True)
class Mmfr2:
    """ID_AA64MMFR2_EL1."""

    word: int

    varange = Field(19, 16)
    """1: FEAT_LVA, 52 bits; 2: FEAT_LVA3, 56."""
    st = Field(31, 28)
    """1: FEAT_TTST, small tables."""
    fwb = Field(43, 40)
    bbm = Field(55, 52)
    e0pd = Field(63, 60)


@dataclass(frozen=True, slots=True)
class Mmfr3:
    """ID_AA64MMFR3_EL1."""

    word: int

    tcrx = Field(3, 0)
    s1pie = Field(11, 8)
    s2pie = Field(15, 12)
    s1poe = Field(19, 16)
    s2poe = Field(23, 20)
    aie = Field(27, 24)
    d128 = Field(35, 32)
    """128-bit descriptors at stage 1."""
    d128_2 = Field(39, 36)
    """And at stage 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """The translation registers of one exception level, raw; None for one that is absent or unknown."""

    tcr: int | None = None
    ttbr0: int | None = None
    ttbr1: int | None = None
    mair: int | None = None
    sctlr: int | None = None
    tcr2: int | None = None
    mair2: int | None = None
    pir: int | None = None
    pire0: int | None = None
    por: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """The registers of one vCPU that translation depends on, raw.

    None stands for a register that is absent, as most are from the gdbstub of an older QEMU; what that
    means for translation is decided, and recorded, in `harness.vmsa.derive`.
    """

    el1: Bank = field(default_factory=Bank)
    el2: Bank = field(default_factory=Bank)
    hcr_el2: int | None = None
    vtcr_el2: int | None = None
    vttbr_el2: int | None = None
    s2pir_el2: int | None = None
    por_el0: int | None = None
    id_aa64mmfr0_el1: int | None = None
    id_aa64mmfr1_el1: int | None = None
    id_aa64mmfr2_el1: int | None = None
    id_aa64mmfr3_el1: int | None = None

    @classmethod
    def from_names(cls, values: Mapping[str, int]) -> Registers:
        """From values by the architecture's names, in either case, as a gdbstub gives them.

        QEMU 7.2's spellings are understood, names of other registers ignored. Raises ValueError when a
        register of ours does not fit 64 bits, or 128 where it is a TTBR or VTTBR (FEAT_SYSREG128).
        """
        known: dict[str, int] = {}
        for name, value in values.items():
            ours = _RENAMED.get(name.lower(), name.lower())
            if ours in REGISTER_NAMES:
                width = 128 if ours in _OF_128_BITS else 64
                if not 0 <= value < 1 << width:
                    raise ValueError(f"{name} is {value:#x}, which is not a value of {width} bits")
                known[ours] = value

        def bank(level: str) -> Bank:
            return Bank(**{name: known.get(f"{name}_{level}") for name in _BANK_NAMES})

        single = {name: known.get(name) for name in _SINGLE_NAMES}
        return cls(el1=bank("el1"), el2=bank("el2"), **single)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the registers that are not known, as the architecture spells them."""
        banked = (
            f"{name}_{level}"
            for level, bank in (("el1", self.el1), ("el2", self.el2))
            for name in _BANK_NAMES
            if getattr(bank, name) is None
        )
        single = (name for name in _SINGLE_NAMES if getattr(self, name) is None)
        return tuple(name.upper() for name in (*banked, *single))


_BANK_NAMES = tuple(one.name for one in fields(Bank))
_SINGLE_NAMES = tuple(one.name for one in fields(Registers) if one.name not in ("el1", "el2"))

REGISTER_NAMES = frozenset(
    {f"{name}_{level}" for name in _BANK_NAMES for level in ("el1", "el2")} | set(_SINGLE_NAMES)
)
"""Names, in lower case, of the registers that `Registers.from_names` takes."""

_OF_128_BITS = frozenset({"ttbr0_el1", "ttbr1_el1", "ttbr0_el2", "ttbr1_el2", "vttbr_el2"})

# QEMU 7.2 and 10.0 on the left (target/arm/helper.c there), the architecture on the right.
_RENAMED = {"sctlr": "sctlr_el1", "id_aa64mmfr3_el1_reserved": "id_aa64mmfr3_el1"}
