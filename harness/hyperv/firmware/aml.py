"""ACPI's machine language, as far as a DSDT of devices needs it.

Source: ACPI 6.5, chapter 20 "AML Specification" and 6.4 "Resource Data Types". Every term is bytes.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = [
    "device",
    "integer",
    "interrupt",
    "memory32_fixed",
    "name",
    "qword_memory_window",
    "resources",
    "scope",
    "string",
]

_SEGMENT: Final = 4
_NAME, _SCOPE, _BUFFER, _STRING = b"\x08", b"\x10", b"\x11", b"\x0d"
_DEVICE: Final = b"\x5b\x82"


def _segment(text: str) -> bytes:
    """A NameSeg: four characters, padded with underscores."""
    raw = text.encode("ascii")
    if not 1 <= len(raw) <= _SEGMENT or not text.replace("_", "A").isalnum() or text[0].isdigit():
        raise ValueError(f"not a name of AML: {text!r}")
    if text != text.upper():
        raise ValueError(f"names of AML are upper case: {text!r}")
    return raw.ljust(_SEGMENT, b"_")


def _package(body: bytes) -> bytes:
    """PkgLength and what it covers: the length counts itself."""
    if len(body) + 1 < 1 << 6:
        return bytes([len(body) + 1]) + body
    for more in (1, 2, 3):
        length = len(body) + 1 + more
        if length < 1 << (4 + 8 * more):
            rest = (length >> 4).to_bytes(more, "little")
            return bytes([more << 6 | (length & 0xF)]) + rest + body
    raise ValueError(f"{len(body)} bytes are too long for one term of AML")


def integer(value: int) -> bytes:
    """The shortest constant of that value."""
    if value in (0, 1):
        return bytes([value])
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if value < 1 << (8 * size):
            return bytes([prefix]) + value.to_bytes(size, "little")
    raise ValueError(f"{value:#x} is wider than 64 bits")


def string(text: str) -> bytes:
    """A string constant."""
    return _STRING + text.encode("ascii") + b"\0"


def name(segment: str, value: bytes) -> bytes:
    """`Name (SEGMENT, value)`."""
    return _NAME + _segment(segment) + value


def device(segment: str, *terms: bytes) -> bytes:
    """`Device (SEGMENT) { terms }`."""
    return _DEVICE + _package(_segment(segment) + b"".join(terms))


def scope(segment: str, *terms: bytes) -> bytes:
    """`Scope (\\SEGMENT) { terms }`."""
    return _SCOPE + _package(b"\\" + _segment(segment) + b"".join(terms))


def resources(*descriptors: bytes) -> bytes:
    """`ResourceTemplate () { descriptors }`: a buffer that ends with an end tag without a checksum."""
    data = b"".join(descriptors) + b"\x79\x00"
    return _BUFFER + _package(integer(len(data)) + data)


def memory32_fixed(base: int, size: int) -> bytes:
    """`Memory32Fixed (ReadWrite, base, size)`."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def interrupt(intid: int, *, edge: bool) -> bytes:
    """`Interrupt (ResourceConsumer, Edge or Level, ActiveHigh, Exclusive) { intid }`."""
    return struct.pack("<BHBBI", 0x89, 6, 1 | edge << 1, 1, intid)


def qword_memory_window(base: int, size: int) -> bytes:
    """`QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, …)`."""
    return struct.pack("<BHBBBQQQQQ", 0x8A, 0x2B, 0, 0x0C, 1, 0, base, base + size - 1, 0, size)
