"""ELF files made by hand, for the tests of whatever reads a vmlinux."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

PROGBITS, NOTE, NOBITS = 1, 7, 8
WRITE, ALLOC, EXEC = 1, 2, 4


@dataclass(frozen=True)
class ElfSection:
    """A section; `content` of NOBITS only gives its size."""

    name: str
    kind: int
    flags: int
    address: int
    content: bytes


def elf(sections: list[ElfSection], *, machine: int = 183) -> bytes:
    """An executable of these sections (ELF-64 Object File Format, figures 2 and 8), headers at the end."""
    names = b"\0" + b"".join(one.name.encode() + b"\0" for one in sections) + b".shstrtab\0"
    body, headers = b"", struct.Struct("<IIQQQQIIQQ")
    table = headers.pack(*[0] * 10)
    name_at = 1
    for one in sections:
        table += headers.pack(
            name_at, one.kind, one.flags, one.address, 64 + len(body), len(one.content), 0, 0, 1, 0
        )
        name_at += len(one.name) + 1
        body += b"" if one.kind == NOBITS else one.content
    table += headers.pack(name_at, 3, 0, 0, 64 + len(body), len(names), 0, 0, 1, 0)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    at, count = 64 + len(body) + len(names), len(sections) + 2
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, 0, 0, at, 0, 64, 0, 0, 64, count, count - 1)
    return head + body + names + table


def flat(sections: list[ElfSection]) -> bytes:
    """What `objcopy -O binary` makes of them: contents at their distances from the lowest address."""
    base = min(one.address for one in sections if one.flags & ALLOC)
    image = bytearray()
    for one in sections:
        if one.kind != NOBITS and one.flags & ALLOC:
            end = one.address - base + len(one.content)
            image.extend(bytes(max(0, end - len(image))))
            image[one.address - base : end] = one.content
    return bytes(image)


def build_id(number: int) -> bytes:
    """A build ID's note of 20 bytes."""
    return struct.pack("<3I", 4, 20, 3) + b"GNU\0" + bytes([number]) * 20


def kernel_sections(*, note: bytes = b"", code: bytes = b"\1" * 0x300) -> list[ElfSection]:
    """A kernel in small: text 0x40 + 0x300 + 0x10 + note, data 0x200 + 0x180, bss 0x500, and gaps."""
    base = 0xFFFF_8000_8000_0000
    header = struct.pack("<2I6Q4sI", 0, 0, 0, 0x2000, 0xA, 0, 0, 0, b"ARM\x64", 0)
    banner = b"Linux version 6.12.1-test (me@here) (gcc 12) # SMP\0"
    found = [
        ElfSection(".head.text", PROGBITS, ALLOC | EXEC, base, header),
        ElfSection(".text", PROGBITS, ALLOC | EXEC, base + 0x100, code),
        ElfSection(".rodata", PROGBITS, ALLOC | WRITE, base + 0x800, banner.ljust(0x200, b"\2")),
        ElfSection("__param", PROGBITS, ALLOC, base + 0xA00, b"\3" * 0x10),
        ElfSection(".notes", NOTE, ALLOC, base + 0xB00, note),
        ElfSection(".data", PROGBITS, ALLOC | WRITE, base + 0x1000, b"\4" * 0x180),
        ElfSection(".bss", NOBITS, ALLOC | WRITE, base + 0x1200, bytes(0x500)),
        ElfSection(".comment", PROGBITS, 0, 0, b"not loaded"),
    ]
    return [one for one in found if one.content]


@pytest.fixture
def make_vmlinux() -> Callable[..., tuple[bytes, bytes]]:
    """A vmlinux and the raw Image made from it; `build` is the byte of its build ID, None for none."""

    def make(
        build: int | None = 7, *, code: bytes = b"\1" * 0x300, machine: int = 183
    ) -> tuple[bytes, bytes]:
        sections = kernel_sections(note=b"" if build is None else build_id(build), code=code)
        return elf(sections, machine=machine), flat(sections)

    return make
