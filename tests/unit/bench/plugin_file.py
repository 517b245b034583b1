"""What the plugin writes, made of numbers."""

from __future__ import annotations

import struct

TEXT = 0xFFFF_8000_8000_0000
NOP = 0xD503_201F


def interval(user: int, *entries: tuple[int, int, int]) -> bytes:
    """A sample: instructions of user space, and (address, count, opcode) of the kernel's."""
    head = struct.pack("<8sQQ", b"granules", user, len(entries))
    return head + b"".join(struct.pack("<QQII", va, count, opcode, 0) for va, count, opcode in entries)
