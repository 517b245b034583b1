"""Flattened device trees (Devicetree Specification 0.4, chapter 5), written from values."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Node", "cells", "flatten", "strings", "text"]

_MAGIC: Final = 0xD00D_FEED
_VERSION, _LAST_COMPATIBLE = 17, 16
_BEGIN, _END, _PROP, _DONE = 1, 2, 3, 9
_HEADER_BYTES: Final = 40
_RESERVATIONS_BYTES: Final = 16
"""The empty list: one entry of zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node, its properties in order, its children after them."""

    name: str
    properties: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


def cells(*values: int) -> bytes:
    """Values of 32 bits each."""
    return struct.pack(f">{len(values)}I", *values)


def text(value: str) -> bytes:
    """A string."""
    return value.encode() + b"\0"


def strings(*values: str) -> bytes:
    """A list of strings."""
    return b"".join(map(text, values))


def flatten(root: Node) -> bytes:
    """The tree's bytes, a multiple of 8 long."""
    names: dict[str, int] = {}
    names_block = bytearray()
    structure = bytearray()

    def offset_of(name: str) -> int:
        if name not in names:
            names[name] = len(names_block)
            names_block.extend(text(name))
        return names[name]

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def write(node: Node) -> None:
        structure.extend(cells(_BEGIN) + padded(text(node.name)))
        for name, value in node.properties.items():
            structure.extend(cells(_PROP, len(value), offset_of(name)) + padded(value))
        for child in node.children:
            write(child)
        structure.extend(cells(_END))

    write(root)
    structure.extend(cells(_DONE))
    structure_at = _HEADER_BYTES + _RESERVATIONS_BYTES
    names_at = structure_at + len(structure)
    size = -(-(names_at + len(names_block)) // 8) * 8
    head = cells(
        _MAGIC, size, structure_at, names_at, _HEADER_BYTES, _VERSION, _LAST_COMPATIBLE, 0, len(names_block),
        len(structure),
    )  # fmt: skip
    return (head + bytes(_RESERVATIONS_BYTES) + structure + names_block).ljust(size, b"\0")
