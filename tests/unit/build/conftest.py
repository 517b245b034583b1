"""An archive reader of the tests' own, and kernel modules small enough to write by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

Members = list[tuple[str, int, bytes]]
"""Name, `st_mode` and data of each member, in order; a trailer ends one archive and the next may begin."""


@pytest.fixture
def read_members() -> Callable[[bytes], Members]:
    """Reads concatenated, uncompressed newc archives (buffer-format.rst in Linux's documentation)."""

    def read(data: bytes) -> Members:
        members: Members = []
        at = 0
        while at < len(data):
            if data[at] == 0:
                at += 4
                continue
            assert data[at : at + 6] == b"070701"
            assert at % 4 == 0
            field = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
            name = data[at + 110 : at + 110 + field[11] - 1].decode()
            start = (at + 110 + field[11] + 3) // 4 * 4
            at = (start + field[6] + 3) // 4 * 4
            if name != "TRAILER!!!":
                members.append((name, field[1], data[start : start + field[6]]))
        return members

    return read


@pytest.fixture
def make_module() -> Callable[[Path, dict[str, str]], bytes]:
    """Writes a file that is a kernel module as far as depmod can tell: an ELF with a `.modinfo` section."""

    def make(path: Path, modinfo: dict[str, str]) -> bytes:
        info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in modinfo.items())
        names = b"\0.modinfo\0.shstrtab\0.symtab\0.strtab\0"
        symbols, strings = bytes(24), b"\0"
        parts = [info, names, symbols, strings]
        offsets = [64 + sum(map(len, parts[:index])) for index in range(4)]
        end = (64 + sum(map(len, parts)) + 7) // 8 * 8
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        header = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 183, 1, 0, 0, end, 0, 64, 0, 0, 64, 5, 2)
        section = struct.Struct("<IIQQQQIIQQ")
        table = section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        for name, kind, index, link, align, size in (
            (names.index(b".modinfo"), 1, 0, 0, 1, 0),
            (names.index(b".shstrtab"), 3, 1, 0, 1, 0),
            (names.index(b".symtab"), 2, 2, 4, 8, 24),
            (names.index(b".strtab"), 3, 3, 0, 1, 0),
        ):
            table += section.pack(name, kind, 0, 0, offsets[index], len(parts[index]), link, 0, align, size)
        content = (header + b"".join(parts)).ljust(end, b"\0") + table
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    return make
