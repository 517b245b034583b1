"""Structures of bytes, declared as frozen dataclasses whose fields carry their type on the wire."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Self, get_type_hints
from uuid import UUID

from harness.hyperv.violation import Rule, Violated

__all__ = ["GUID", "U8", "U16", "U32", "U64", "Record", "Text"]

U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
GUID = Annotated[UUID, "16s"]
"""In the order of guid_t: the first three groups little-endian (Linux include/linux/uuid.h)."""


class Text:
    """`Annotated[bytes, Text.of(n)]`: n bytes as they are."""

    @staticmethod
    def of(size_bytes: int) -> str:
        """The format of that many bytes."""
        return f"{size_bytes}s"


_Layout = tuple[struct.Struct, tuple[tuple[str, bool], ...]]
_LAYOUTS: dict[type, _Layout] = {}


def _layout(kind: type[Record]) -> _Layout:
    """The packed little-endian form, and for each field its name and whether it is a GUID."""
    if kind not in _LAYOUTS:
        _LAYOUTS[kind] = _make_layout(kind)
    return _LAYOUTS[kind]


def _make_layout(kind: type[Record]) -> _Layout:
    hints = get_type_hints(kind, include_extras=True)
    formats, names = [], []
    for field in fields(kind):  # type: ignore[arg-type]
        formats.append(hints[field.name].__metadata__[0])
        names.append((field.name, hints[field.name].__origin__ is UUID))
    return struct.Struct("<" + "".join(formats)), tuple(names)


class Record:
    """Base of all structures: packed, little-endian, as Hyper-V's are (`#pragma pack(1)`).

    A subclass is a frozen dataclass with slots; each field is `Annotated` with its format.
    """

    __slots__ = ()
    WHAT: ClassVar[str] = ""
    """What it is called in violations; the class's name where empty."""

    @classmethod
    def size_bytes(cls) -> int:
        """Bytes on the wire."""
        return _layout(cls)[0].size

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Read one at `offset`; raises Violated (Rule.MESSAGE) when `data` is too short."""
        form, names = _layout(cls)
        if offset < 0 or offset + form.size > len(data):
            what = cls.WHAT or cls.__name__
            raise Violated(
                Rule.MESSAGE, f"{what} needs {form.size} bytes and has {max(0, len(data) - offset)}"
            )
        values: dict[str, Any] = {}
        for (name, is_guid), value in zip(names, form.unpack_from(data, offset), strict=True):
            values[name] = UUID(bytes_le=value) if is_guid else value
        return cls(**values)

    def pack(self) -> bytes:
        """Its bytes."""
        form, names = _layout(type(self))
        return form.pack(
            *(getattr(self, name).bytes_le if is_guid else getattr(self, name) for name, is_guid in names)
        )
