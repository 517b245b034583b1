"""Tests of harness.snapshot.gdb_core: cores read back by pyelftools, as gdb reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from harness.errors import UsageError
from harness.snapshot import Snapshot, Vcpu, open_snapshot, save
from harness.snapshot.gdb_core import write_gdb_core

BASE_PA = 0x4000_0000
SWAPPER_VA = 0xFFFF_8000_8010_0000
TEXT_VA = 0xFFFF_8000_8000_0000
TRAMP_VA = 0xFFFF_FFFF_FF5F_4000
GENERAL = {f"x{number}": 0x1000 + number for number in range(31)} | {"sp": 0xFFFF_8000_8000_8000}

Written = Callable[..., Path]


@pytest.fixture
def snapshot(make: Any, guest: Any) -> Any:
    """The guest that was made by hand, with all of its registers, and a second vCPU in user space."""
    registers = {**guest.registers, **GENERAL}
    with open_snapshot(make.flat(), registers=registers) as opened:
        yield replace(opened, vcpus=(*opened.vcpus, Vcpu(registers={**registers, "pc": 0x400000, "cpsr": 0})))


def _loads(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [one.header for one in ELFFile(file).iter_segments() if one["p_type"] == "PT_LOAD"]


def _at(path: Path, va: int, size_bytes: int) -> bytes | None:
    """What gdb finds at an address: the content of the PT_LOAD that has it."""
    for load in _loads(path):
        if load["p_vaddr"] <= va and va + size_bytes <= load["p_vaddr"] + load["p_filesz"]:
            with path.open("rb") as file:
                file.seek(load["p_offset"] + va - load["p_vaddr"])
                return file.read(size_bytes)
    return None


def _notes(path: Path) -> list[tuple[str, int, bytes]]:
    with path.open("rb") as file:
        (segment,) = [one for one in ELFFile(file).iter_segments() if one["p_type"] == "PT_NOTE"]
        data = segment.data()
    found, at = [], 0
    while at < len(data):
        name_bytes, size_bytes, kind = struct.unpack_from("<III", data, at)
        start = at + 12 + name_bytes + -name_bytes % 4
        name = data[at + 12 : at + 12 + name_bytes].rstrip(b"\0").decode()
        found.append((name, kind, data[start : start + size_bytes]))
        at = start + size_bytes + -size_bytes % 4
    return found


def test_a_kernel_address_leads_to_its_bytes(snapshot: Snapshot, guest: Any, tmp_path: Path) -> None:
    """Text, the kernel's own first table and the trampoline are found by virtual address; a hole is not."""
    path = tmp_path / "guest.core"
    written = write_gdb_core(snapshot, path)
    memory = guest.memory
    assert _at(path, TEXT_VA + 0x1234, 64) == memory[0x6_1234 : 0x6_1234 + 64]
    at = guest.swapper_pa - BASE_PA
    assert _at(path, SWAPPER_VA, 4096) == memory[at : at + 4096]
    assert any(memory[at : at + 4096])
    assert _at(path, TEXT_VA + 0x2_0000, 1) is None
    assert written.kernel_segments == len(_loads(path)) == 3
    assert all(load["p_vaddr"] >> 48 == 0xFFFF for load in _loads(path))


def test_memory_is_stored_once(snapshot: Snapshot, guest: Any, tmp_path: Path) -> None:
    """The text's pages and the trampoline, which is one of them, share bytes of the file; neighbours join."""
    write_gdb_core(snapshot, tmp_path / "guest.core")
    by_va = {load["p_vaddr"]: load for load in _loads(tmp_path / "guest.core")}
    text, tramp = by_va[TEXT_VA], by_va[TRAMP_VA]
    assert text["p_filesz"] == 0x2_0000
    assert tramp["p_offset"] - text["p_offset"] == tramp["p_paddr"] - text["p_paddr"] == 0x1_0000
    assert (tmp_path / "guest.core").stat().st_size <= len(guest.memory) + (1 << 16)


def test_registers_of_each_vcpu(snapshot: Snapshot, tmp_path: Path) -> None:
    """Each vCPU is a thread of its own number with x0 to x30, sp, pc and PSTATE (struct elf_prstatus)."""
    write_gdb_core(snapshot, tmp_path / "guest.core")
    found = [
        content for name, kind, content in _notes(tmp_path / "guest.core") if (name, kind) == ("CORE", 1)
    ]
    assert [struct.unpack_from("<i", content, 32)[0] for content in found] == [1, 2]
    for vcpu, content in zip(snapshot.vcpus, found, strict=True):
        values = struct.unpack_from("<34Q", content, 112)
        assert values[:32] == tuple(GENERAL.values())
        assert values[32:] == (vcpu.registers["pc"], vcpu.registers["cpsr"])
        assert len(content) == 392


def test_vmcoreinfo_goes_along(snapshot: Snapshot, guest: Any, tmp_path: Path) -> None:
    """The kernel's note on itself is a note of the core, to the byte."""
    write_gdb_core(snapshot, tmp_path / "guest.core")
    assert ("VMCOREINFO", 0, guest.info) in _notes(tmp_path / "guest.core")


def test_what_is_too_much_is_left_out_and_said(snapshot: Snapshot, tmp_path: Path) -> None:
    """Beyond the bound the smallest runs go, and a note says how many."""
    written = write_gdb_core(snapshot, tmp_path / "guest.core", max_segments=1)
    assert [load["p_vaddr"] for load in _loads(tmp_path / "guest.core")] == [TEXT_VA]
    assert any("2 runs of pages of the kernel are left out" in note for note in written.notes)


def test_what_is_no_ram_is_left_out(make: Any, guest: Any, tmp_path: Path) -> None:
    """Of a run that leaves memory only what is in it has a segment."""
    path = make.file("short.flat", guest.memory[:0x7_0800])
    with open_snapshot(path, registers=guest.registers) as short:
        write_gdb_core(short, tmp_path / "guest.core")
    by_va = {load["p_vaddr"]: load["p_filesz"] for load in _loads(tmp_path / "guest.core")}
    assert by_va[TEXT_VA] == 0x1_0800
    assert by_va[TRAMP_VA] == 0x800


def test_a_process_is_in_the_lower_half(make: Any, guest: Any, tmp_path: Path) -> None:
    """The tables of a vCPU's TTBR0 give low addresses; without a wish it is the first that has any."""
    # The kernel's tables serve as a process's: they have entries for the lowest 2 MiB of a half.
    registers = {**guest.registers, "TTBR0_EL1": guest.swapper_pa}
    with open_snapshot(make.flat(), registers=registers) as opened:
        two = replace(opened, vcpus=(Vcpu(registers=guest.registers), *opened.vcpus))
        written = write_gdb_core(two, tmp_path / "guest.core")
        assert (written.user_vcpu, written.user_segments) == (1, 3)
        assert _at(tmp_path / "guest.core", TEXT_VA & (1 << 48) - 1, 8) == guest.memory[0x6_0000:0x6_0008]
        assert write_gdb_core(two, tmp_path / "none.core", vcpu=0).user_segments == 0
        with pytest.raises(UsageError, match="none of number 7"):
            write_gdb_core(two, tmp_path / "no.core", vcpu=7)
    assert not (tmp_path / "no.core").exists()


def test_a_guest_whose_mmu_is_off(make: Any, guest: Any, tmp_path: Path) -> None:
    """Where no vCPU has tables addresses are physical, and a note says so."""
    with open_snapshot(make.flat(), registers={**guest.registers, "SCTLR_EL1": 0}) as asleep:
        written = write_gdb_core(asleep, tmp_path / "guest.core")
    assert _at(tmp_path / "guest.core", BASE_PA + 0x6_0000, 8) == guest.memory[0x6_0000:0x6_0008]
    assert any("addresses are physical" in note for note in written.notes)


def test_a_snapshot_of_an_earlier_granule(make: Any, guest: Any, tmp_path: Path) -> None:
    """A saved file with pc and PSTATE only can be opened and written; what is not known is 0, and said."""
    with open_snapshot(make.flat(), registers=guest.registers) as opened:
        save(opened, tmp_path / "old.snap")
    with open_snapshot(tmp_path / "old.snap") as old:
        written = write_gdb_core(old, tmp_path / "guest.core")
    assert any("vCPU 0: 32 registers are not known (x0, x1, x2" in note for note in written.notes)


def test_it_is_no_source(snapshot: Snapshot, tmp_path: Path) -> None:
    """A core for gdb is refused as a snapshot by what it is, and not as damage."""
    write_gdb_core(snapshot, tmp_path / "guest.core")
    with pytest.raises(UsageError, match="for gdb, laid out by virtual addresses"):
        open_snapshot(tmp_path / "guest.core")


def test_a_place_that_cannot_be_written(snapshot: Snapshot, tmp_path: Path) -> None:
    """A directory that is not there is told, and leaves nothing behind."""
    with pytest.raises(UsageError, match="cannot save to"):
        write_gdb_core(snapshot, tmp_path / "nowhere" / "guest.core")


def test_memory_in_pieces(make: Any, guest: Any, tmp_path: Path) -> None:
    """A run that begins before a piece of memory has a segment from where that begins, with its bytes."""
    pieces = [(BASE_PA, guest.memory[:0x6_0000]), (BASE_PA + 0x6_1000, guest.memory[0x6_1000:])]
    with open_snapshot(make.core(pieces)) as opened:
        write_gdb_core(opened, tmp_path / "pieces.core")
    by_va = {load["p_vaddr"]: load["p_filesz"] for load in _loads(tmp_path / "pieces.core")}
    assert by_va[TEXT_VA + 0x1000] == 0x1_F000
    info_va = TEXT_VA + 0x1_0000
    assert _at(tmp_path / "pieces.core", info_va, 4096) == guest.memory[0x7_0000:0x7_1000]
    assert _at(tmp_path / "pieces.core", TEXT_VA, 1) is None
