"""Naming a pc: from /proc/kallsyms, from an ELF file, in each address space a vCPU may be in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.linux.kallsyms import SymbolTable
from harness.linux.symbols import Symboliser, kaslr_offset

TEXT = 0xFFFF_8000_8000_0000
TABLE = SymbolTable(
    [(TEXT, "_text"), (TEXT + 0x1000, "primary_entry"), (TEXT + 0x2000, "vfs_read"), (TEXT + 0x2300, "_end")]
)
PC = TEXT + 0x201C


def test_link_address_is_named() -> None:
    """A pc at its link address, without KASLR."""
    assert Symboliser(table=TABLE).describe(PC) == "vfs_read+0x1c/0x300"


def test_kaslr_is_undone() -> None:
    """A pc displaced by KASLR is named with the offset, and not without."""
    moved = PC + 0x3528_5D20_0000
    assert Symboliser(table=TABLE).at_offset(0x3528_5D20_0000).describe(moved) == "vfs_read+0x1c/0x300"
    assert Symboliser(table=TABLE).describe(moved) == f"{moved:#x} (no symbol of the kernel)"


def test_physical_pc_is_named_and_said_to_be_one() -> None:
    """With the MMU off the pc is physical: named from where the Image lies, and only then."""
    pc = 0x4020_0000 + 0x1008
    named = Symboliser(table=TABLE).loaded_at(0x4020_0000).describe(pc)
    assert named == "primary_entry+0x8/0x1000 (physical address: MMU off or identity map)"
    assert Symboliser(table=TABLE).describe(pc).endswith("(a user or physical address)")
    assert Symboliser(table=TABLE).loaded_at(0x4020_0000).lookup(0x4000_0000) is None


@pytest.mark.parametrize(
    ("console", "wanted"),
    [
        ("[ 1.0] Kernel Offset: 0x35285d200000 from 0xffff800080000000\n", 0x35285D200000),
        ("Kernel Offset: disabled", 0),
        ("Kernel Offset: 0x1000 from 0x1\nKernel Offset: 0x2000 from 0x1", 0x2000),
        ("nothing of the kind", None),
    ],
)
def test_offset_is_read_from_a_panic(console: str, wanted: int | None) -> None:
    """The line that a panic prints, the last of them, or None."""
    assert kaslr_offset(console) == wanted


def test_proc_kallsyms_of_a_guest() -> None:
    """Final addresses, modules in brackets, lines of another form ignored."""
    text = (
        "ffff800080000000 T _text\nffff800080002000 T vfs_read\nffff800081000000 t ext4_x\t[ext4]\nbroken\n"
    )
    symboliser = Symboliser.of_proc_kallsyms(text)
    assert symboliser.describe(PC) == "vfs_read+0x1c/0xffe000"
    assert symboliser.describe(0xFFFF_8000_8100_0000) == "ext4_x [ext4]+0x0/0x0"


def test_hidden_addresses_are_an_error() -> None:
    """kptr_restrict shows zeros: said so, with what to do."""
    with pytest.raises(UsageError, match="kptr_restrict"):
        Symboliser.of_proc_kallsyms("0000000000000000 T _text\n" * 3)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(200), b"MZ" * 4000])
def test_nonsense_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    """A file that is neither an Image with symbols nor a vmlinux is named in one clear error."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="file"):
        Symboliser.of_vmlinux(path)
    with pytest.raises(UsageError, match="no kallsyms were found"):
        Symboliser.of_image(path)
    with pytest.raises(UsageError, match="cannot read"):
        Symboliser.of_vmlinux(tmp_path / "absent")


def build_elf(directory: Path, *options: str) -> Path:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-gcc: apt-get install gcc-aarch64-linux-gnu")
    source = directory / "kernel.c"
    source.write_text(
        "int first(int x)\n{\n\treturn x + 1;\n}\nint second(int x)\n{\n\treturn first(x) * 3;\n}\n"
    )
    vmlinux = directory / "vmlinux"
    link = ["-nostdlib", "-static", f"-Wl,-Ttext={TEXT:#x}", "-Wl,-e,first", "-Wl,--build-id=none"]
    argv = [compiler, "-O0", *options, *link, "-o", str(vmlinux), str(source)]
    subprocess.run(argv, check=True, timeout=60, cwd=directory)
    return vmlinux


@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
def test_vmlinux_with_dwarf_gives_lines(tmp_path: Path, dwarf: str) -> None:
    """Symbols from .symtab and file:line from DWARF, in both versions that kernels use."""
    symboliser = Symboliser.of_vmlinux(build_elf(tmp_path, dwarf))
    second = symboliser.table.address_of("second")
    assert second is not None
    assert symboliser.describe(second).startswith("second+0x0/")
    assert symboliser.describe(second).endswith(" at kernel.c:6")


def test_vmlinux_without_dwarf_gives_names(tmp_path: Path) -> None:
    """No debugging information is no error."""
    symboliser = Symboliser.of_vmlinux(build_elf(tmp_path))
    assert symboliser.describe(TEXT + 4).startswith("first+0x4/")
    assert " at " not in symboliser.describe(TEXT + 4)


def test_stripped_vmlinux_is_an_error(tmp_path: Path) -> None:
    """A vmlinux without symbols is refused with the reason."""
    with pytest.raises(UsageError, match="stripped"):
        Symboliser.of_vmlinux(build_elf(tmp_path, "-s"))
