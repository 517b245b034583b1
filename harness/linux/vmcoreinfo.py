"""VMCOREINFO: what a Linux kernel says about itself in a note in its own memory, for whoever reads a dump.

From it come the translation registers of the kernel's half, which QEMU's core files do not hold. The note
is an ELF note in pages of its own (kernel/vmcore_info.c, kernel/crash_core.c before Linux 6.9:
crash_save_vmcoreinfo_init()), its text `NAME=value` a line; arm64's lines are from
arch/arm64/kernel/vmcore_info.c (crash_core.c before), arch_crash_save_vmcoreinfo().
May import `harness.vmsa`.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.errors import ChannelError
from harness.vmsa.derive import PA_SIZES_BITS
from harness.vmsa.field import ones
from harness.vmsa.geometry import GRANULES_LOG2, Geometry
from harness.vmsa.registers import Mmfr0, Mmfr1, Mmfr2, Tcr

__all__ = ["MAX_SCANNED_BYTES", "VmcoreInfo", "find_vmcoreinfo"]

MAX_NOTE_BYTES: Final = 1 << 16
"""VMCOREINFO_BYTES is PAGE_SIZE (include/linux/vmcore_info.h)."""
MAX_SCANNED_BYTES: Final = 1 << 36
_MAX_NOTES: Final = 64
_CHUNK_BYTES: Final = 4 << 20
_NAME: Final = b"VMCOREINFO\0"
_MARK: Final = _NAME + b"\0OSRELEASE="
_HEAD_BYTES: Final = 12
_LINE: Final = re.compile(rb"([\x21-\x3c\x3e-\x7e]{1,200})=([\x20-\x7e]{0,400})")

MAIR_OF_LINUX: Final = 0x4_0044_FFFF
"""MAIR_EL1_SET without MTE, arch/arm64/mm/proc.S: Normal, Normal (tagged where there is MTE), Normal
non-cacheable, Device-nGnRnE, Device-nGnRE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmcoreInfo:
    """What of VMCOREINFO matters to translation."""

    release: str
    page_log2: int
    va_bits: int
    """CONFIG_ARM64_VA_BITS: what the kernel was built for."""
    t1sz: int | None
    """TCR.T1SZ in force, which says how many bits it got; absent before Linux 5.11."""
    pa_bits: int | None
    """CONFIG_ARM64_PA_BITS, as MAX_PHYSMEM_BITS."""
    swapper_va: int
    kimage_voffset: int
    """Virtual minus physical address of everything in the kernel image, modulo 2^64."""
    stext_va: int | None = None
    """Where the kernel's code begins: a page or a segment after `_text`."""
    kaslr_offset: int | None = None
    """How far KASLR moved the kernel, in bytes: KERNELOFFSET."""
    text: bytes = field(default=b"", repr=False)
    """The note's content, whole."""

    @classmethod
    def parse(cls, text: bytes) -> VmcoreInfo:
        """From the note's text; raises ValueError, saying which line is missing or senseless."""
        found = {
            match[1].decode(): match[2].decode()
            for line in text[:MAX_NOTE_BYTES].split(b"\n")
            if (match := _LINE.fullmatch(line.strip(b"\0")))
        }
        page_bytes = _number(found, "PAGESIZE", 10)
        if page_bytes not in (1 << log2 for log2 in GRANULES_LOG2):
            raise ValueError(f"PAGESIZE={page_bytes} is not a page size of arm64")
        va_bits = _number(found, "NUMBER(VA_BITS)", 10)
        t1sz = _number(found, "NUMBER(TCR_EL1_T1SZ)", 16) if "NUMBER(TCR_EL1_T1SZ)" in found else None
        if va_bits not in range(36, 53) or (t1sz is not None and t1sz not in range(64 - va_bits, 29)):
            raise ValueError(f"VA_BITS={va_bits} with T1SZ={t1sz} is not what a kernel of arm64 has")
        pa_bits = int(found["NUMBER(MAX_PHYSMEM_BITS)"]) if _is_pa_bits(found) else None
        info = cls(
            release=found.get("OSRELEASE", "unknown"),
            page_log2=page_bytes.bit_length() - 1,
            va_bits=va_bits,
            t1sz=t1sz,
            pa_bits=pa_bits,
            swapper_va=_number(found, "SYMBOL(swapper_pg_dir)", 16),
            kimage_voffset=_number(found, "NUMBER(kimage_voffset)", 16),
            stext_va=_number(found, "SYMBOL(_stext)", 16) if "SYMBOL(_stext)" in found else None,
            kaslr_offset=_number(found, "KERNELOFFSET", 16) if "KERNELOFFSET" in found else None,
            text=text[:MAX_NOTE_BYTES],
        )
        if info.swapper_pa % 4096 or info.swapper_pa >> 52:
            raise ValueError(f"swapper_pg_dir would be at the physical address {info.swapper_pa:#x}")
        return info

    @property
    def swapper_pa(self) -> int:
        """Physical address of swapper_pg_dir: the symbol is in the kernel image."""
        return self.swapper_va - self.kimage_voffset & ones(64)

    @property
    def txsz(self) -> int:
        """T1SZ, taken from VA_BITS where it is not told."""
        return 64 - self.va_bits if self.t1sz is None else self.t1sz

    @property
    def table_pa(self) -> int:
        """Where TTBR1 points: swapper_pg_dir, or within it.

        A kernel of 64K pages for 52 bits that got 48 keeps the layout of its first table and points at the
        last entries (TTBR1_BADDR_4852_OFFSET: (1024 - 64) * 8). With smaller pages it leaves a level out.
        """
        geometry = Geometry(granule_log2=self.page_log2)
        if self.page_log2 != 16 or geometry.start_level(self.va_bits) != geometry.start_level(64 - self.txsz):
            return self.swapper_pa
        entry_log2 = geometry.size_log2(geometry.start_level(self.va_bits))
        unused = (1 << self.va_bits - entry_log2) - (1 << 64 - self.txsz - entry_log2)
        return self.swapper_pa + 8 * unused

    def registers(self) -> dict[str, int]:
        """The registers that the kernel's half can be walked with, under EL1's names; see `assumptions`."""
        is_64k = self.page_log2 == 16
        lpa2 = not is_64k and self.txsz < 16
        wide = lpa2 or (is_64k and self.pa_bits != 48)
        tcr = Tcr.t0sz.into(Tcr.t1sz.into(0, self.txsz), self.txsz)
        tcr = Tcr.tg1.into(tcr, {12: 2, 14: 1, 16: 3}[self.page_log2])
        tcr = Tcr.tg0.into(tcr, {12: 0, 14: 2, 16: 1}[self.page_log2])
        tcr = Tcr.sh0.into(Tcr.sh1.into(tcr, 3), 3)
        pa_size = PA_SIZES_BITS.index(52 if wide else 48)
        for flag in (Tcr.a1, Tcr.as16, Tcr.ha, Tcr.hd):
            tcr = flag.into(tcr, True)
        mmfr0 = Mmfr0.tgran16.into(Mmfr0.tgran4.into(Mmfr0.parange.into(0, pa_size), lpa2), 1 + lpa2)
        ttbr = self.table_pa & ones(48) | (self.table_pa >> 48 << 2 if wide else 0)
        return {
            "TCR_EL1": Tcr.ds.into(Tcr.ips.into(tcr, pa_size), lpa2),
            "TTBR1_EL1": ttbr,
            "MAIR_EL1": MAIR_OF_LINUX,
            "ID_AA64MMFR0_EL1": mmfr0,
            "ID_AA64MMFR1_EL1": Mmfr1.pan.into(Mmfr1.hafdbs.into(0, 2), 1),
            "ID_AA64MMFR2_EL1": Mmfr2.varange.into(0, is_64k and self.txsz < 16),
        }

    def assumptions(self) -> tuple[str, ...]:
        """What `registers` takes for granted, in words."""
        registers = self.registers()
        pa_bits = PA_SIZES_BITS[Mmfr0(registers["ID_AA64MMFR0_EL1"]).parange]
        said = [
            f"the system registers are worked out from VMCOREINFO of Linux {self.release}, under EL1's "
            "names (a host kernel with VHE has them in EL2)",
            f"PARange is not known: taken as {pa_bits} bits",
            f"MAIR is not known: taken as Linux sets it without MTE, {MAIR_OF_LINUX:#x}",
            "ID_AA64MMFR1_EL1 is not known: taken as an access flag and dirty state that hardware sets "
            "(HA, HD), no EPAN",
            "TTBR0 is not known: no process can be walked",
        ]
        if self.t1sz is None:
            said.append(f"T1SZ is not known: taken as {self.txsz}, from VA_BITS={self.va_bits}")
        if self.table_pa != self.swapper_pa:
            at = self.table_pa - self.swapper_pa
            said.append(f"{self.va_bits} bits of address fell back to {64 - self.txsz}: TTBR1 is taken as "
                        f"swapper_pg_dir + {at:#x}")  # fmt: skip
        return tuple(said)


def find_vmcoreinfo(
    read: Callable[[int, int], bytes], ranges: Iterable[range], *, max_bytes: int = MAX_SCANNED_BYTES
) -> Iterator[VmcoreInfo]:
    """Every VMCOREINFO in memory that can be parsed, in order of addresses.

    There may be several: copies in buffers, and what a kernel before a kexec left. Looks at the first
    `max_bytes` of memory, and at 64 notes at most; `read` raises ChannelError for what is not there.
    """
    return itertools.islice(_notes(read, ranges, max_bytes), _MAX_NOTES)


def _notes(
    read: Callable[[int, int], bytes], ranges: Iterable[range], max_bytes: int
) -> Iterator[VmcoreInfo]:
    left_bytes = max_bytes
    for one in ranges:
        # The note's pages are its own since Linux 4.13: it starts on a page, and no chunk cuts its head.
        for pa in range(one.start + -one.start % 4096, one.stop, _CHUNK_BYTES):
            size_bytes = min(_CHUNK_BYTES, one.stop - pa, left_bytes)
            chunk = read(pa, size_bytes)
            at = chunk.find(_MARK)
            while at >= 0:
                if at % 4096 == _HEAD_BYTES:
                    yield from _note(read, pa + at - _HEAD_BYTES, chunk[at - _HEAD_BYTES : at])
                at = chunk.find(_MARK, at + 1)
            left_bytes -= size_bytes
            if left_bytes <= 0:
                return


def _note(read: Callable[[int, int], bytes], pa: int, head: bytes) -> Iterator[VmcoreInfo]:
    """The VMCOREINFO of a note with that head (Elf64_Nhdr), if it is one."""
    name_bytes, text_bytes, _ = struct.unpack("<III", head)
    if name_bytes == len(_NAME) and 0 < text_bytes <= MAX_NOTE_BYTES:
        try:
            yield VmcoreInfo.parse(read(pa + _HEAD_BYTES + 12, text_bytes))
        except (ChannelError, ValueError):
            return


def _is_pa_bits(found: Mapping[str, str]) -> bool:
    return found.get("NUMBER(MAX_PHYSMEM_BITS)") in ("48", "52")


def _number(found: Mapping[str, str], name: str, base: int) -> int:
    """A number of 64 bits at most; kimage_voffset is printed without a sign."""
    text = found.get(name)
    if text is None:
        raise ValueError(f"there is no {name}")
    if not re.fullmatch("(0x)?[0-9a-fA-F]{1,16}", text):
        raise ValueError(f"{name}={text[:40]} is not a number")
    return int(text, base)
