"""Tests of harness.guests.elf with programs made by hand."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.guests.elf import ElfScan, scan_archive

AARCH64, X86_64 = 183, 62
PT_LOAD, PT_NOTE = 1, 4


def _elf(*segments: tuple[int, int], machine: int = AARCH64) -> bytes:
    """An ELF-64 file with these segments' types and alignments (ELF-64 Object File Format, figures 2 and 14)."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return header + b"".join(struct.pack("<IIQQQQQQ", kind, 5, 0, 0, 0, 0, 0, align) for kind, align in segments)


def _archive(files: Mapping[str, bytes]) -> tarfile.TarFile:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    held.seek(0)
    return tarfile.open(fileobj=held)


def test_the_least_alignment_counts() -> None:
    """One segment that is aligned to less than 64 KiB is enough; others than PT_LOAD do not count."""
    scan = scan_archive(
        _archive(
            {
                "./usr/bin/good": _elf((PT_LOAD, 1 << 16), (PT_NOTE, 4)),
                "./usr/bin/huge": _elf((PT_LOAD, 1 << 21)),
                "./usr/bin/bad": _elf((PT_LOAD, 1 << 16), (PT_LOAD, 1 << 12)),
            }
        )
    )
    assert scan == ElfScan(scanned=3, unaligned=(("/usr/bin/bad", 1 << 12),))


def test_others_are_passed_over() -> None:
    """Scripts, programs of other machines and objects without segments are not this scan's."""
    files = {
        "./usr/bin/script": b"#!/bin/sh\n",
        "./usr/lib/other": _elf((PT_LOAD, 1 << 12), machine=X86_64),
        "./usr/lib/object.o": _elf(),
        "./empty": b"",
    }
    assert scan_archive(_archive(files)) == ElfScan()


def test_a_damaged_program() -> None:
    """An ELF file that breaks off is named and not passed over: it might be one that cannot be mapped."""
    with pytest.raises(InfraError, match="/usr/bin/short"):
        scan_archive(_archive({"./usr/bin/short": _elf((PT_LOAD, 1 << 16))[:80]}))


def test_kept(tmp_path: Path) -> None:
    """What is stored with an image is what is read; anything else is refused."""
    scan = ElfScan(scanned=2, unaligned=(("/a", 4096),)) + ElfScan(scanned=1)
    scan.write(tmp_path / "elf.json")
    assert ElfScan.read(tmp_path / "elf.json") == ElfScan(scanned=3, unaligned=(("/a", 4096),))
    (tmp_path / "elf.json").write_text('{"scanned": 1}')
    with pytest.raises(InfraError, match="not the scan"):
        ElfScan.read(tmp_path / "elf.json")
