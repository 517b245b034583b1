"""Guests made by hand: tables, memory and VMCOREINFO, and the files they are kept in."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

BASE_PA = 0x4000_0000
RAM_BYTES = 1 << 20
SWAPPER_VA = 0xFFFF_8000_8010_0000
TEXT_VA = 0xFFFF_8000_8000_0000
TRAMP_VA = 0xFFFF_FFFF_FF5F_4000
INFO_PA = BASE_PA + 0x8_0000
EL0, EL1H = 0x0, 0x5


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A guest with 4K pages and 48 bits, its tables at BASE_PA."""

    memory: bytes = field(repr=False)
    registers: dict[str, int]
    swapper_pa: int
    tramp_pa: int
    info: bytes


def _note(text: bytes) -> bytes:
    return struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text + bytes(-len(text) % 4)


def vmcoreinfo(swapper_pa: int, **changed: str) -> bytes:
    """VMCOREINFO as Linux 6.12 writes it, the lines that matter; names in `changed` without NUMBER()."""
    lines = {
        "OSRELEASE": "6.12.0-test",
        "PAGESIZE": "4096",
        "SYMBOL(swapper_pg_dir)": f"{SWAPPER_VA:x}",
        "NUMBER(MAX_PHYSMEM_BITS)": "48",
        "NUMBER(VA_BITS)": "48",
        "NUMBER(kimage_voffset)": f"{SWAPPER_VA - swapper_pa & (1 << 64) - 1:#x}",
        "NUMBER(TCR_EL1_T1SZ)": "0x10",
    }
    for name, value in changed.items():
        lines[next(key for key in lines if name in key)] = value
    return "".join(f"{name}={value}\n" for name, value in lines.items() if value).encode()


def _guest() -> Guest:
    registers = registers_for(granule_log2=12, txsz=16, tcr=1 << 22 | 1 << 36)  # A1, AS
    regime = derive(registers, VaRange.UPPER)
    assert isinstance(regime, Regime)
    # Linux's order: tramp_pg_dir, reserved_pg_dir, swapper_pg_dir, a page each.
    tramp = TableBuilder(regime, BASE_PA + 0x4_0000)
    text = leaf_attributes(ap=2, uxn=True)
    tramp.map(TRAMP_VA, BASE_PA + 0x7_0000, 0x1000, attributes=text)
    swapper = TableBuilder(regime, BASE_PA)
    swapper.map(TRAMP_VA, BASE_PA + 0x7_0000, 0x1000, attributes=text)
    swapper.map(TEXT_VA, BASE_PA + 0x6_0000, 0x2_0000, attributes=text)
    memory = bytearray(RAM_BYTES)
    tables = swapper.arena
    # The first pages of each arena are the first tables: move them to where Linux has them.
    tramp_pa, swapper_pa = BASE_PA + 0x5_0000, BASE_PA + 0x5_2000
    swapper.map(SWAPPER_VA, swapper_pa, 0x1000, attributes=text)
    tables = swapper.arena
    memory[: len(tables)] = tables
    memory[0x4_0000 : 0x4_0000 + len(tramp.arena)] = tramp.arena
    memory[0x5_0000:0x5_1000] = tramp.arena[:0x1000]
    memory[0x5_2000:0x5_3000] = tables[:0x1000]
    info = vmcoreinfo(swapper_pa)
    note = _note(info)
    memory[INFO_PA - BASE_PA : INFO_PA - BASE_PA + len(note)] = note
    bank = registers.el1
    known = {
        "TCR_EL1": bank.tcr, "MAIR_EL1": bank.mair, "SCTLR_EL1": bank.sctlr, "TTBR0_EL1": tramp_pa + 0x1000,
        "TTBR1_EL1": swapper_pa, "ID_AA64MMFR0_EL1": registers.id_aa64mmfr0_el1,
        "ID_AA64MMFR1_EL1": registers.id_aa64mmfr1_el1, "ID_AA64MMFR2_EL1": registers.id_aa64mmfr2_el1,
    }  # fmt: skip
    return Guest(
        memory=bytes(memory),
        registers={name: value for name, value in known.items() if value is not None}
        | {"pc": TEXT_VA + 0x1234, "cpsr": EL1H},
        swapper_pa=swapper_pa,
        tramp_pa=tramp_pa,
        info=info,
    )


@pytest.fixture(scope="session")
def guest() -> Guest:
    """A guest whose kernel maps its text, its trampoline and its own tables."""
    return _guest()


def prstatus(pc: int, pstate: int) -> bytes:
    """An NT_PRSTATUS of arm64: 112 bytes, x0 to x30, sp, pc, PSTATE, and whether there are FP registers."""
    return struct.pack("<112x31QQQQi4x", *range(31), 0x1000, pc, pstate, 0)


def elf_note(name: bytes, kind: int, content: bytes) -> bytes:
    """An ELF note."""
    head = struct.pack("<III", len(name) + 1, len(content), kind)
    padded = name + bytes(1 + -(len(name) + 1) % 4)
    return head + padded + content + bytes(-len(content) % 4)


def elf_core(
    loads: list[tuple[int, bytes]],
    notes: bytes,
    *,
    machine: int = 183,
    elf_class: int = 2,
    data: int = 1,
    kind: int = 4,
) -> bytes:
    """An ELF64 core; `loads` are physical addresses and contents."""
    ident = b"\x7fELF" + bytes([elf_class, data, 1]) + bytes(9)
    order = "<" if data == 1 else ">"
    count = 1 + len(loads)
    header = ident + struct.pack(
        order + "HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    at = 64 + 56 * count
    headers = [struct.pack(order + "IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 0)]
    body = notes
    for pa, content in loads:
        headers.append(
            struct.pack(
                order + "IIQQQQQQ", 1, 0, at + len(body), 0xFFFF << 48 | pa, pa, len(content), len(content), 0
            )
        )
        body += content
    return header + b"".join(headers) + body


@dataclass(frozen=True)
class Maker:
    """Writes the guest's files."""

    guest: Guest
    directory: Path

    def core(
        self, loads: list[tuple[int, bytes]] | None = None, notes: bytes | None = None, **how: int
    ) -> Path:
        """A core with one vCPU in the kernel and one in user space."""
        both = elf_note(b"CORE", 1, prstatus(TEXT_VA + 0x1234, EL1H)) + elf_note(b"CORE", 1, prstatus(0, EL0))
        content = elf_core(
            [(BASE_PA, self.guest.memory)] if loads is None else loads,
            both if notes is None else notes,
            **how,
        )
        return self.file("guest.core", content)

    def note(self, name: bytes, kind: int, content: bytes) -> bytes:
        """An ELF note."""
        return elf_note(name, kind, content)

    def flat(self) -> Path:
        """The guest's memory and nothing else."""
        return self.file("guest.flat", self.guest.memory)

    def file(self, name: str, content: bytes) -> Path:
        """A file of any content."""
        path = self.directory / name
        path.write_bytes(content)
        return path


@pytest.fixture
def make(guest: Guest, tmp_path: Path) -> Maker:
    """Writes the guest's files in a directory of the test's own."""
    return Maker(guest, tmp_path)
