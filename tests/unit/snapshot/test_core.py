"""Tests of harness.snapshot.core."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.snapshot import kernel_regime, open_snapshot
from harness.vmsa import Translation, walk

BASE_PA = 0x4000_0000
TEXT_VA = 0xFFFF_8000_8000_0000


def test_a_core_is_walked(make: Any, guest: Any) -> None:
    """Memory, each vCPU's pc and PSTATE, and the kernel's tables by VMCOREINFO; and what was assumed."""
    with open_snapshot(make.core()) as snapshot:
        assert snapshot.ram == (range(BASE_PA, BASE_PA + len(guest.memory)),)
        assert snapshot.read(BASE_PA, len(guest.memory)) == guest.memory
        assert [(one.registers["pc"], one.el) for one in snapshot.vcpus] == [(TEXT_VA + 0x1234, 1), (0, 0)]
        found = walk(kernel_regime(snapshot), snapshot.read, TEXT_VA + 0x1234)
        assert isinstance(found, Translation)
        assert found.pa == BASE_PA + 0x6_1234
        assert any("PARange is not known" in note for note in snapshot.notes)
        assert any("MAIR is not known" in note for note in snapshot.notes)
        assert snapshot.provenance == {"kernel release": "6.12.0-test"}
        assert snapshot.origin == "guest.core"


def test_general_registers(make: Any) -> None:
    """x0 to x30 and sp of each vCPU are read, where struct elf_prstatus has them."""
    with open_snapshot(make.core()) as snapshot:
        for vcpu in snapshot.vcpus:
            assert [vcpu.registers[f"x{number}"] for number in range(31)] == list(range(31))
            assert vcpu.registers["sp"] == 0x1000


def test_vmcoreinfo_of_the_core_itself(make: Any, guest: Any) -> None:
    """The note that QEMU copies from a guest with its vmcoreinfo device serves, where memory has none."""
    memory = guest.memory[:0x8_0000] + bytes(len(guest.memory) - 0x8_0000)
    path = make.core([(BASE_PA, memory)], make.note(b"VMCOREINFO", 0, guest.info))
    with open_snapshot(path) as snapshot:
        assert kernel_regime(snapshot).table_pa == guest.swapper_pa
        assert any("NT_PRSTATUS" in note for note in snapshot.notes)


def test_a_stale_note_is_not_believed(make: Any, guest: Any) -> None:
    """VMCOREINFO whose tables do not map swapper_pg_dir where it says is passed over for one that does."""
    stale = guest.info.replace(b"=0x", b"=0x1", 1)
    path = make.core(notes=make.note(b"VMCOREINFO", 0, stale))
    with open_snapshot(path) as snapshot:
        assert kernel_regime(snapshot).table_pa == guest.swapper_pa


def test_a_note_for_a_copy_is_not_believed(make: Any, guest: Any) -> None:
    """Tables that map swapper_pg_dir elsewhere than the note says are a copy, and not the kernel's."""
    copy_pa = BASE_PA + 0x7_A000
    at, new = guest.swapper_pa - BASE_PA, copy_pa - BASE_PA
    memory = bytearray(guest.memory)
    memory[new : new + 0x1000] = memory[at : at + 0x1000]
    old = re.search(rb"voffset\)=0x([0-9a-f]+)", guest.info)
    assert old is not None
    offset = int(old[1], 16) + guest.swapper_pa - copy_pa
    stale = guest.info.replace(old[1], f"{offset:x}".encode())
    path = make.core([(BASE_PA, bytes(memory))], make.note(b"VMCOREINFO", 0, stale))
    with open_snapshot(path) as snapshot:
        assert kernel_regime(snapshot).table_pa == guest.swapper_pa


def test_notes_of_odd_sizes(make: Any, guest: Any) -> None:
    """Names and contents of notes are padded to four bytes: what follows an odd one is found."""
    status = make.note(b"CORE", 1, bytes(368) + struct.pack("<QQ", 7, 5) + bytes(8))
    with open_snapshot(make.core(notes=make.note(b"AB", 9, b"12345") + status)) as snapshot:
        assert dict(snapshot.vcpus[0].registers)["pc"] == 7


@pytest.mark.parametrize(("at", "value"), [(54, 64), (54, 32), (64 + 8, 1 << 40)])
def test_damaged_tables_of_contents(make: Any, at: int, value: int) -> None:
    """Program headers of another size, and notes beyond the file's end, are refused."""
    path: Path = make.core()
    content = bytearray(path.read_bytes())
    size_bytes = 2 if at == 54 else 8
    content[at : at + size_bytes] = value.to_bytes(size_bytes, "little")
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"program headers are|within its notes|its notes end"):
        open_snapshot(path)


def test_memory_in_pieces(make: Any, guest: Any) -> None:
    """Several PT_LOADs make one memory, in any order, with holes where there are."""
    half = len(guest.memory) // 2
    low, high = guest.memory[:half], guest.memory[half:]
    path = make.core([(BASE_PA + half, high), (BASE_PA, low), (0x1_0000_0000, b"far away")])
    with open_snapshot(path) as snapshot:
        assert snapshot.ram == (
            range(BASE_PA, BASE_PA + 2 * half),
            range(0x1_0000_0000, 0x1_0000_0008),
        )
        assert kernel_regime(snapshot).table_pa == guest.swapper_pa


def test_a_core_without_vmcoreinfo(make: Any) -> None:
    """It opens, its memory can be read, and asking for the kernel's tables says what is missing."""
    with open_snapshot(make.core([(BASE_PA, bytes(1 << 16))])) as snapshot:
        assert snapshot.read(BASE_PA, 4) == bytes(4)
        with pytest.raises(UsageError, match="no VMCOREINFO"):
            kernel_regime(snapshot)


def test_registers_that_are_given(make: Any, guest: Any) -> None:
    """Registers by name, one set for all vCPUs, take the place of VMCOREINFO; a wrong count is refused."""
    with open_snapshot(
        make.core([(BASE_PA, guest.memory[:0x8_0000])]), registers=guest.registers
    ) as snapshot:
        assert kernel_regime(snapshot).table_pa == guest.swapper_pa
        assert len(snapshot.vcpus) == 2
    three = make.file("three.json", b"[{}, {}, {}]")
    with pytest.raises(UsageError, match="has 2 vCPUs, and registers are given for 3"):
        open_snapshot(make.core(), registers=three)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"machine": 62}, "another architecture, x64"),
        ({"machine": 40}, "another architecture, ARM"),
        ({"elf_class": 1}, r"32-bit|damaged|another architecture"),
        ({"data": 2}, "big-endian"),
        ({"kind": 2}, r"no core \(ET_EXEC\)"),
    ],
)
def test_foreign_files_are_named(make: Any, how: dict[str, int], why: str) -> None:
    """Another architecture, 32 bits, a big-endian file and what is no core are refused by name."""
    with pytest.raises(UsageError, match=why):
        open_snapshot(make.core(**how))


def test_a_32_bit_core_is_named(make: Any) -> None:
    """A 32-bit ELF file that claims AArch64 (ILP32) is refused for its class."""
    head = (
        b"\x7fELF\1\1\1"
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 4, 183, 1, 0, 52, 0, 0, 52, 32, 0, 0, 0, 0)
    )
    with pytest.raises(UsageError, match="32-bit"):
        open_snapshot(make.file("ilp32.core", head))


def test_a_core_cut_off(make: Any) -> None:
    """Wherever a core ends early, that is said, and never a traceback or a map beyond the file."""
    path: Path = make.core()
    content = path.read_bytes()
    for length in (*range(4, 1200, 7), len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"truncated|damaged|holds no memory"):
            open_snapshot(path)


def test_overlapping_memory(make: Any, guest: Any) -> None:
    """Two PT_LOADs for one address are refused."""
    with pytest.raises(UsageError, match="overlaps"):
        open_snapshot(make.core([(BASE_PA, guest.memory), (BASE_PA + 8, guest.memory)]))


def test_absurd_counts(make: Any) -> None:
    """More segments than the file could hold is an error, whether there are headers for them or not."""
    path: Path = make.core()
    content = bytearray(path.read_bytes())
    content[56:58] = (0xFFFE).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="65534 segments"):
        open_snapshot(path)


def test_every_flip_in_the_headers(make: Any) -> None:
    """A flipped bit in ELF, program or note headers gives a snapshot or an error of use, nothing else."""
    path: Path = make.core()
    content = path.read_bytes()
    for at in range(64 + 2 * 56 + 40):
        for bit in (0, 3, 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            try:
                open_snapshot(path).close()
            except UsageError as error:
                assert "guest.core" in str(error)  # noqa: PT017 - not every flip is an error


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_an_error_of_use(tmp_path: Path, junk: bytes) -> None:
    """Random bytes behind the ELF magic, or behind a plausible header, end in UsageError."""
    path = tmp_path / "junk.core"
    for head in (b"\x7fELF", b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHI", 4, 183, 1)):
        path.write_bytes(head + junk)
        with pytest.raises(UsageError):
            open_snapshot(path).close()


def test_memory_that_is_there_twice(make: Any, guest: Any) -> None:
    """A PT_LOAD within another, as kdump has one of the kernel's code, is the same memory and left out."""
    whole, first = (BASE_PA, guest.memory), (BASE_PA, guest.memory[:0x1000])
    copy = (BASE_PA + 0x6_0000, guest.memory[0x6_0000:0x7_0000])
    for loads in ([copy, whole], [whole, copy, copy], [first, whole], [whole, first]):
        with open_snapshot(make.core(loads)) as snapshot:
            assert snapshot.ram == (range(BASE_PA, BASE_PA + len(guest.memory)),)
            assert snapshot.read(BASE_PA, len(guest.memory)) == guest.memory
