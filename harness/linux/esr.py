"""What an exception syndrome says, in words: the manual's, not the kernel's, so that both can be compared.

Source: Arm ARM DDI 0487, D24.2, ESR_EL1: EC is 31:26, IL 25, ISS 24:0; the ISS encodings of instruction and
data aborts for the fault status codes. May import the standard library only.
"""

from __future__ import annotations

from typing import Final

__all__ = ["describe_esr"]

EXCEPTION_CLASSES: Final = {
    0x00: "unknown reason",
    0x01: "trapped WFI or WFE",
    0x03: "trapped MCR or MRC, coprocessor 15",
    0x04: "trapped MCRR or MRRC, coprocessor 15",
    0x05: "trapped MCR or MRC, coprocessor 14",
    0x06: "trapped LDC or STC",
    0x07: "trapped SVE, SIMD or floating point",
    0x09: "trapped pointer authentication",
    0x0A: "trapped LD64B, ST64B or other instruction",
    0x0C: "trapped MRRC, coprocessor 14",
    0x0D: "branch target exception",
    0x0E: "illegal execution state",
    0x11: "SVC, AArch32",
    0x14: "trapped MSRR or MRRS",
    0x15: "SVC, AArch64",
    0x16: "HVC, AArch64",
    0x17: "SMC, AArch64",
    0x18: "trapped MSR, MRS or system instruction",
    0x19: "trapped SVE",
    0x1B: "trapped TSTART",
    0x1C: "pointer authentication failure",
    0x1D: "trapped SME",
    0x20: "instruction abort, lower EL",
    0x21: "instruction abort, same EL",
    0x22: "PC alignment fault",
    0x24: "data abort, lower EL",
    0x25: "data abort, same EL",
    0x26: "SP alignment fault",
    0x27: "memory copy or set exception",
    0x28: "trapped floating-point exception, AArch32",
    0x2C: "trapped floating-point exception, AArch64",
    0x2D: "guarded control stack exception",
    0x2F: "SError",
    0x30: "breakpoint, lower EL",
    0x31: "breakpoint, same EL",
    0x32: "software step, lower EL",
    0x33: "software step, same EL",
    0x34: "watchpoint, lower EL",
    0x35: "watchpoint, same EL",
    0x38: "BKPT, AArch32",
    0x3C: "BRK, AArch64",
}

LEVELLED_FAULTS: Final = {
    0x00: "address size fault",
    0x04: "translation fault",
    0x08: "access flag fault",
    0x0C: "permission fault",
    0x14: "external abort on a table walk",
    0x1C: "parity or ECC error on a table walk",
    0x24: "granule protection fault on a table walk",
}
"""Fault status codes whose bits 1:0 are the lookup level 0 to 3."""

OTHER_FAULTS: Final = {
    0x10: "external abort, not on a table walk",
    0x11: "tag check fault",
    0x12: "external abort on a table walk, level -2",
    0x13: "external abort on a table walk, level -1",
    0x18: "parity or ECC error, not on a table walk",
    0x1B: "parity or ECC error on a table walk, level -1",
    0x21: "alignment fault",
    0x22: "granule protection fault on a table walk, level -2",
    0x23: "granule protection fault on a table walk, level -1",
    0x28: "granule protection fault, not on a table walk",
    0x29: "address size fault, level -1",
    0x2A: "translation fault, level -2",
    0x2B: "translation fault, level -1",
    0x2C: "address size fault, level -2",
    0x30: "TLB conflict abort",
    0x31: "unsupported atomic hardware update",
    0x34: "IMPLEMENTATION DEFINED fault (lockdown)",
    0x35: "IMPLEMENTATION DEFINED fault (unsupported exclusive or atomic)",
}

INSTRUCTION_ABORTS: Final = (0x20, 0x21)
DATA_ABORTS: Final = (0x24, 0x25)
IMMEDIATES: Final = (0x11, 0x15, 0x16, 0x17, 0x38, 0x3C)
"""Classes whose ISS 15:0 is the instruction's own immediate."""


def describe_esr(esr: int) -> str:
    """Decode an ESR_ELx value, e.g. `EC 0x25 data abort, same EL; IL 1; WnR 1 (write); DFSC 0x07 …`.

    Bits above 63 are ignored; an unallocated class or status code is named so, with its number.
    """
    exception_class = esr >> 26 & 0x3F
    parts = [
        f"EC {exception_class:#04x} {EXCEPTION_CLASSES.get(exception_class, 'unallocated')}",
        f"IL {esr >> 25 & 1}",
    ]
    if exception_class in DATA_ABORTS:
        parts.append("WnR 1 (write)" if esr >> 6 & 1 else "WnR 0 (read)")
        parts.append(f"DFSC {_fault_status(esr & 0x3F)}")
    elif exception_class in INSTRUCTION_ABORTS:
        parts.append(f"IFSC {_fault_status(esr & 0x3F)}")
    elif exception_class in IMMEDIATES:
        parts.append(f"immediate {esr & 0xFFFF:#06x}")
    else:
        parts.append(f"ISS {esr & 0x1FF_FFFF:#09x}")
    return "; ".join(parts)


def _fault_status(code: int) -> str:
    levelled = LEVELLED_FAULTS.get(code & ~3)
    text = f"{levelled}, level {code & 3}" if levelled else OTHER_FAULTS.get(code, "unallocated")
    return f"{code:#04x} {text}"
