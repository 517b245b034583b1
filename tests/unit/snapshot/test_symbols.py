"""Tests of harness.snapshot.symbols; a kernel's own symbols out of its memory are in tests/smoke."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from harness.linux.kallsyms import SymbolTable
from harness.snapshot import open_snapshot
from harness.snapshot.symbols import code_in, has_frames, symbols_in, vmlinux_offset, write_symbol_file

BASE_VA = 0xFFFF_B000_8000_0000
SYMBOLS = {
    "_text": BASE_VA, "schedule": BASE_VA + 0x1_0000, "schedule_end": BASE_VA + 0x1_0040,
    "_etext": BASE_VA + 0x2_0000, "init_task": BASE_VA + 0x3_0000, "_end": BASE_VA + 0x4_0000,
    "elsewhere": BASE_VA + 0x100_0000,
}  # fmt: skip


def _table(**changed: int) -> SymbolTable:
    return SymbolTable((va, name) for name, va in {**SYMBOLS, **changed}.items())


def _read(path: Path) -> dict[str, tuple[int, int, str, str]]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        section = elf.get_section_by_name(".symtab")
        assert isinstance(section, SymbolTableSection)
        found = {}
        for one in list(section.iter_symbols())[1:]:
            index = one["st_shndx"]
            where = elf.get_section(index).name if isinstance(index, int) else index
            found[one.name] = (one["st_value"], one["st_size"], one["st_info"]["type"], where)
        return found


def test_a_symbol_file(tmp_path: Path) -> None:
    """Each symbol is there by name, at its address, up to the next, and code is told from data."""
    write_symbol_file(_table(), tmp_path / "k.symbols")
    found = _read(tmp_path / "k.symbols")
    assert {name: one[0] for name, one in found.items()} == SYMBOLS
    assert found["schedule"][1:] == (0x40, "STT_FUNC", ".text")
    assert found["init_task"][1:] == (0x1_0000, "STT_OBJECT", ".data")
    assert found["elsewhere"][1:] == (0, "STT_OBJECT", "SHN_ABS")


def test_its_sections_hold_nothing(tmp_path: Path) -> None:
    """Code and data are where the kernel has them, and without content: gdb takes that from the core."""
    write_symbol_file(_table(), tmp_path / "k.symbols")
    with (tmp_path / "k.symbols").open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        assert text is not None
        assert (text["sh_type"], text["sh_addr"], text["sh_size"]) == ("SHT_NOBITS", BASE_VA, 0x2_0000)


def test_call_frames_go_along_with_code(tmp_path: Path) -> None:
    """With the code there is a rule for each function in it; without, none."""
    code = bytes.fromhex("fd7bbda9 fd030091 c0035fd6") * 0x4000
    write_symbol_file(_table(), tmp_path / "k.symbols", code[:0x2_0000])
    with (tmp_path / "k.symbols").open("rb") as file:
        entries: list[Any] = list(ELFFile(file).get_dwarf_info().CFI_entries())
    starts = [entry["initial_location"] for entry in entries[1:]]
    assert starts == [SYMBOLS["_text"], SYMBOLS["schedule"], SYMBOLS["schedule_end"]]
    assert has_frames(tmp_path / "k.symbols")
    assert not has_frames(tmp_path / "none")


def test_symbols_that_make_no_sense(tmp_path: Path) -> None:
    """Names at impossible places, as a guest may have them, give a file all the same."""
    write_symbol_file(_table(_end=BASE_VA - 5, _etext=(1 << 64) - 1), tmp_path / "k.symbols")
    assert _read(tmp_path / "k.symbols")["_end"][0] == BASE_VA - 5


def test_memory_without_a_kernels_symbols(make: Any, guest: Any) -> None:
    """Where VMCOREINFO does not say where the code is, or there is none, there are no symbols."""
    with open_snapshot(make.flat()) as snapshot:
        assert symbols_in(snapshot) is None
        assert code_in(snapshot, _table()) == b""
    with open_snapshot(make.file("empty.flat", bytes(1 << 20)), registers=guest.registers) as snapshot:
        assert symbols_in(snapshot) is None


def test_how_far_a_vmlinux_is_moved(make: Any, tmp_path: Path) -> None:
    """The offset takes swapper_pg_dir from where it was linked to where VMCOREINFO says it is."""
    linked = 0xFFFF_8000_8010_0000 - 0x1234_0000
    write_symbol_file(_table(swapper_pg_dir=linked), tmp_path / "vmlinux")
    with open_snapshot(make.flat()) as snapshot:
        assert vmlinux_offset(snapshot, tmp_path / "vmlinux") == 0x1234_0000
