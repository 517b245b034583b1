"""What tables and registers of our making are written from: attribute bits, and registers for a shape.

For `harness.vmsa.build`, which re-exports it. May import the standard library only.
"""

from __future__ import annotations

from dataclasses import replace

from harness.vmsa.descriptor import Leaf, Leaf128
from harness.vmsa.field import Flag
from harness.vmsa.registers import Bank, Hcr, Mmfr0, Mmfr1, Mmfr2, Mmfr3, Registers, Sctlr, Tcr, Tcr2
from harness.vmsa.registers_el2 import Vtcr
from harness.vmsa.sizes import PA_SIZES_BITS, TG0, TG1
from harness.vmsa.stage2_leaf import Stage2Fields

__all__ = [
    "leaf_attributes",
    "leaf_attributes_128",
    "registers_for",
    "stage2_attributes",
    "stage2_registers_for",
]

_TG0 = {log2: encoded for encoded, log2 in TG0.items()}
_TG1 = {log2: encoded for encoded, log2 in TG1.items()}


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
    d128: bool = False,
    ttbr: tuple[int, int] = (0, 0),
    mair: int = 0xFF,
    tcr: int = 0,
    sctlr: int = 0,
    hafdbs: int = 2,
    pan: int = 3,
) -> Registers:
    """EL1's registers for one granule and size in both ranges, and ID registers of a CPU that has it.

    `ds` is both TCR.DS and FEAT_LPA2, `d128` TCR2.D128 with FEAT_D128 and FEAT_LVA3; `ips_bits` TCR.IPS,
    `pa_bits` PARange, by their sizes; `tcr` and `sctlr` are ORed in; `hafdbs` and `pan` are the fields of
    ID_AA64MMFR1_EL1. Raises ValueError for sizes that have no encoding.
    """
    mmfr0 = Mmfr0.parange.into(0, PA_SIZES_BITS.index(pa_bits))
    mmfr0 = Mmfr0.tgran4.into(Mmfr0.tgran16.into(mmfr0, 2 if ds else 1), 1 if ds else 0)
    mmfr1 = Mmfr1.hpds.into(Mmfr1.pan.into(Mmfr1.hafdbs.into(0, hafdbs), pan), 1)
    mmfr2 = Mmfr2.e0pd.into(Mmfr2.st.into(Mmfr2.varange.into(0, 2 if d128 else lva), ttst), 1)
    word = Tcr.t0sz.into(Tcr.t1sz.into(tcr, txsz), txsz)
    word = Tcr.tg0.into(Tcr.tg1.into(word, _TG1[granule_log2]), _TG0[granule_log2])
    word = Tcr.ds.into(Tcr.ips.into(word, PA_SIZES_BITS.index(ips_bits)), ds)
    bank = Bank(
        tcr=word, ttbr0=ttbr[0], ttbr1=ttbr[1], mair=mair,
        sctlr=sctlr | Sctlr.m.mask | Sctlr.c.mask | Sctlr.i.mask,
    )  # fmt: skip
    plain = Registers(el1=bank, id_aa64mmfr0_el1=mmfr0, id_aa64mmfr1_el1=mmfr1, id_aa64mmfr2_el1=mmfr2)
    if not d128:
        return plain
    mmfr3 = 0
    for field in (Mmfr3.tcrx, Mmfr3.s1pie, Mmfr3.s1poe, Mmfr3.aie, Mmfr3.d128):
        mmfr3 = field.into(mmfr3, 1)
    indirect = replace(bank, tcr2=Tcr2.d128.mask, mair2=0, pir=0, pire0=0, por=0)
    return replace(plain, el1=indirect, id_aa64mmfr3_el1=mmfr3, por_el0=0)


def leaf_attributes_128(
    *,
    attr_indx: int = 0,
    pi_index: int = 0,
    po_index: int = 0,
    sh: int = 3,
    af: bool = True,
    ng: bool = False,
    gp: bool = False,
    ndirty: bool = False,
    software: int = 0,
) -> int:
    """The attribute bits of a leaf of 128 bits; raises ValueError when a value does not fit its field.

    `attr_indx` has four bits, of which the fourth is MAIR2.
    """
    if pi_index >> 4:
        raise ValueError(f"PIIndex has four bits: {pi_index:#x} does not fit")
    word = Leaf128.attr_indx.into(pi_index << 115, attr_indx & 0b111)
    word = Leaf128.attr_indx_high.into(word, bool(attr_indx >> 3))
    word = Leaf128.po_index.into(Leaf128.sh.into(word, sh), po_index)
    word = Leaf128.software.into(word, software)
    flags: tuple[tuple[Flag, bool], ...] = (
        (Leaf128.af, af), (Leaf128.ng, ng), (Leaf128.gp, gp), (Leaf128.ndirty, ndirty),
    )  # fmt: skip
    for flag, value in flags:
        word = flag.into(word, value)
    return word


def stage2_attributes(
    *,
    mem_attr: int = 0b1111,
    s2ap: int = 0b11,
    xn: int = 0,
    sh: int = 3,
    af: bool = True,
    dbm: bool = False,
    fnxs: bool = False,
    software: int = 0,
) -> int:
    """The attribute bits of a leaf of stage 2, of 64 bits; `xn` is XN[1:0].

    Raises ValueError when a value does not fit its field.
    """
    word = Stage2Fields.s2ap.into(Stage2Fields.mem_attr.into(0, mem_attr), s2ap)
    word = Leaf.software.into(Stage2Fields.sh.into(word, sh), software)
    word = Stage2Fields.xn.into(word, bool(xn & 0b10)) | Stage2Fields.xnx.mask * (xn & 1)
    return Leaf.af.into(Stage2Fields.dbm.into(Stage2Fields.fnxs.into(word, fnxs), dbm), af)


def stage2_registers_for(
    *,
    granule_log2: int,
    txsz: int,
    sl0: int,
    sl2: bool = False,
    ds: bool = False,
    ps_bits: int = 48,
    pa_bits: int = 48,
    ttst: bool = False,
    d128: bool = False,
    vttbr: int = 0,
    vtcr: int = 0,
    hcr: int = 0,
) -> Registers:
    """EL2's registers of stage 2 for one granule and size, and ID registers of a CPU that has it.

    `vtcr` and `hcr` are ORed in; FEAT_HAFDBS, FEAT_XNX, FEAT_S2FWB and FEAT_VMID16 are there, and with `d128`
    FEAT_D128. Raises ValueError for sizes that have no encoding.
    """
    mmfr0 = Mmfr0.parange.into(0, PA_SIZES_BITS.index(pa_bits))
    mmfr0 = Mmfr0.tgran4.into(Mmfr0.tgran16.into(mmfr0, 2 if ds else 1), 1 if ds else 0)
    mmfr1 = Mmfr1.xnx.into(Mmfr1.vmidbits.into(Mmfr1.hafdbs.into(0, 2), 2), 1)
    word = Vtcr.t0sz.into(Vtcr.sl0.into(vtcr, sl0), txsz)
    word = Vtcr.ps.into(Vtcr.tg0.into(word, _TG0[granule_log2]), PA_SIZES_BITS.index(ps_bits))
    word = Vtcr.d128.into(Vtcr.ds.into(Vtcr.sl2.into(word, sl2), ds), d128)
    return Registers(
        el2=Bank(sctlr=0),
        hcr_el2=hcr | Hcr.vm.mask,
        vtcr_el2=word,
        vttbr_el2=vttbr,
        s2pir_el2=0,
        id_aa64mmfr0_el1=mmfr0,
        id_aa64mmfr1_el1=mmfr1,
        id_aa64mmfr2_el1=Mmfr2.fwb.into(Mmfr2.st.into(0, ttst), 1),
        id_aa64mmfr3_el1=Mmfr3.d128_2.into(0, d128),
    )
