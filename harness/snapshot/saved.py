"""Our own file of a snapshot: one file, sparse, versioned, and mapped when loaded.

    bytes      what
    0..7       "GRNLSNAP"
    8..11      format version, little-endian, as all numbers
    12..15     bytes of the header, a multiple of 4096 less the 48 before it
    16..47     SHA-256 of bytes 0 to 15 and the header
    48..       the header: JSON, filled up with spaces
    then       memory: each range of the header, in order, from a multiple of 4096 on, zeros as holes

The header's checksum is verified whenever a file is loaded. Memory has one too, over what is not zero, and
is verified only when asked for: a load reads no memory, a verification all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from harness.errors import UsageError
from harness.memory.mapped import MAX_EXTENTS, Extent, MappedMemory
from harness.saving import replacing, saving_to
from harness.snapshot.flat import MAX_VCPUS, checked_registers
from harness.snapshot.snapshot import Snapshot, Vcpu

__all__ = ["FORMAT_VERSION", "MAGIC", "filled_runs", "load", "save"]

MAGIC: Final = b"GRNLSNAP"
FORMAT_VERSION: Final = 1
MAX_HEADER_BYTES: Final = 32 << 20
_PREAMBLE: Final = struct.Struct("<8sII32s")
_BLOCK_BYTES: Final = 4096
_CHUNK_BYTES: Final = 4 << 20
_NO_DIGEST: Final = "0" * 64
_TEXT_LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The header's content, as checked."""

    vcpus: tuple[dict[str, int], ...]
    ranges: tuple[range, ...]
    origin: str
    notes: tuple[str, ...]
    provenance: Mapping[str, str]
    memory_sha256: str

    def encode(self) -> bytes:
        """Everything before memory."""
        text = json.dumps(
            {
                "vcpus": [{name: hex(value) for name, value in vcpu.items()} for vcpu in self.vcpus],
                "memory": [{"pa": hex(one.start), "bytes": hex(len(one))} for one in self.ranges],
                "origin": self.origin,
                "notes": self.notes,
                "provenance": dict(self.provenance),
                "memory_sha256": self.memory_sha256,
            },
            indent=1,
        ).encode()
        text += b" " * (-(_PREAMBLE.size + len(text)) % _BLOCK_BYTES)
        return _PREAMBLE.pack(MAGIC, FORMAT_VERSION, len(text), _checksum(FORMAT_VERSION, text)) + text


def save(snapshot: Snapshot, path: str | Path) -> None:
    """Write a snapshot to one file, which is there whole or not at all; an older one is replaced.

    Raises InfraError where the disk is full, UsageError where there is no writing there, and ChannelError
    where memory cannot be read; nothing is left behind then, nor after an interrupt.
    """
    path = Path(path)
    header = _Header(
        vcpus=tuple(dict(one.registers) for one in snapshot.vcpus),
        ranges=snapshot.ram,
        origin=snapshot.origin,
        notes=snapshot.notes,
        provenance=snapshot.provenance,
        memory_sha256=_NO_DIGEST,
    )
    with saving_to(path), replacing(path) as file:
        digest = _write_memory(snapshot, file, len(header.encode()))
        file.seek(0)
        file.write(replace(header, memory_sha256=digest).encode())


def load(path: str | Path, *, verify_memory: bool = False) -> Snapshot:
    """The snapshot in a file that `save` wrote, as a map of it; close it when done.

    `verify_memory` reads all of it and holds it against its checksum; without it only the header is.
    Raises UsageError for a file that is none, is damaged, cut off, or made by a later granule.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header, header_bytes = _read_header(file, path)
            file_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from error
    extents = list(_extents(header.ranges, header_bytes))
    end = extents[-1].offset_bytes + extents[-1].size_bytes if extents else header_bytes
    if file_bytes > end:
        raise UsageError(f"{path} is damaged: {file_bytes - end} bytes follow its memory")
    memory = MappedMemory(path, extents)
    snapshot = Snapshot(
        vcpus=tuple(Vcpu(registers=one) for one in header.vcpus),
        memory=memory,
        origin=header.origin,
        notes=header.notes,
        provenance=header.provenance,
        on_close=memory.close,
    )
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(snapshot.close)
        if verify_memory and _digest(snapshot) != header.memory_sha256:
            raise UsageError(f"{path} is damaged: its memory is not what was saved (checksum)")
        on_failure.pop_all()
    return snapshot


def _extents(ranges: tuple[range, ...], header_bytes: int) -> Iterator[Extent]:
    """Where each range is in the file."""
    at = header_bytes
    for one in ranges:
        yield Extent(base_pa=one.start, offset_bytes=at, size_bytes=len(one))
        at += len(one) + -len(one) % _BLOCK_BYTES


def _write_memory(snapshot: Snapshot, file: BinaryIO, header_bytes: int) -> str:
    """Write what is not zero, leaving holes elsewhere; returns the checksum."""
    checksum = hashlib.sha256()
    for extent in _extents(snapshot.ram, header_bytes):
        for pa, data in filled_runs(snapshot, range(extent.base_pa, extent.end_pa)):
            file.seek(extent.offset_bytes + pa - extent.base_pa)
            file.write(data)
            _add(checksum, pa, data)
        file.truncate(extent.offset_bytes + extent.size_bytes)
    return checksum.hexdigest()


def _digest(snapshot: Snapshot) -> str:
    checksum = hashlib.sha256()
    for one in snapshot.ram:
        for pa, data in filled_runs(snapshot, one):
            _add(checksum, pa, data)
    return checksum.hexdigest()


def _add(checksum: Any, pa: int, data: bytes) -> None:
    checksum.update(struct.pack("<QQ", pa, len(data)))
    checksum.update(data)


def filled_runs(snapshot: Snapshot, memory: range) -> Iterator[tuple[int, bytes]]:
    """Runs of blocks that are not all zeros, with their addresses, in order."""
    for pa in range(memory.start, memory.stop, _CHUNK_BYTES):
        data = snapshot.read(pa, min(_CHUNK_BYTES, memory.stop - pa))
        padded = data + bytes(-len(data) % _BLOCK_BYTES)
        filled = np.frombuffer(padded, "<u8").reshape(-1, _BLOCK_BYTES // 8).any(axis=1)
        edges = np.flatnonzero(np.diff(filled, prepend=False, append=False)) * _BLOCK_BYTES
        for start, end in edges.reshape(-1, 2).tolist():
            yield pa + start, data[start:end]


def _checksum(version: int, text: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<8sII", MAGIC, version, len(text)) + text).digest()


def _read_header(file: BinaryIO, path: Path) -> tuple[_Header, int]:
    """The checked header, and where memory begins."""
    preamble = file.read(_PREAMBLE.size)
    if not preamble.startswith(MAGIC):
        raise UsageError(f"{path} is no snapshot that granule saved: it does not begin with {MAGIC.decode()}")
    if len(preamble) < _PREAMBLE.size:
        raise UsageError(f"{path} is truncated: it has {len(preamble)} bytes")
    _, version, text_bytes, checksum = _PREAMBLE.unpack(preamble)
    if version > FORMAT_VERSION:
        raise UsageError(
            f"{path} was made by a later granule: format {version}, this one reads up to {FORMAT_VERSION}"
        )
    if not version or text_bytes > MAX_HEADER_BYTES or (_PREAMBLE.size + text_bytes) % _BLOCK_BYTES:
        raise UsageError(f"{path} is damaged: format {version} with a header of {text_bytes} bytes")
    text = file.read(text_bytes)
    if len(text) < text_bytes:
        raise UsageError(f"{path} is truncated: its header has {len(text)} of {text_bytes} bytes")
    if _checksum(version, text) != checksum:
        raise UsageError(f"{path} is damaged: its header is not what was saved (checksum)")
    return _parse(text, path), _PREAMBLE.size + text_bytes


def _parse(text: bytes, path: Path) -> _Header:
    """The header's JSON, each value checked: a checksum keeps out accidents, not people."""
    try:
        parsed = json.loads(text)
        vcpus, memory, notes = (_list(parsed[name]) for name in ("vcpus", "memory", "notes"))
        if len(vcpus) > MAX_VCPUS or len(memory) > MAX_EXTENTS:
            raise ValueError(f"{len(vcpus)} vCPUs, {len(memory)} pieces of memory")
        provenance = parsed["provenance"]
        if not isinstance(provenance, dict):
            raise TypeError("provenance is no object")
        return _Header(
            vcpus=tuple(checked_registers(one, str(path)) for one in vcpus),
            ranges=tuple(_range(one) for one in memory),
            origin=_text(parsed["origin"]),
            notes=tuple(_text(note) for note in notes),
            provenance={name: _text(value) for name, value in provenance.items()},
            memory_sha256=_text(parsed["memory_sha256"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: its header makes no sense ({str(error)[:200]})") from error


def _list(parsed: object) -> list[Any]:
    if not isinstance(parsed, list):
        raise TypeError(f"a list was expected, not {type(parsed).__name__}")
    return parsed


def _text(parsed: object) -> str:
    if not isinstance(parsed, str) or len(parsed) > _TEXT_LIMIT:
        raise TypeError("a text was expected")
    return parsed


def _range(parsed: Any) -> range:
    base_pa, size_bytes = int(parsed["pa"], 16), int(parsed["bytes"], 16)
    if not 0 <= base_pa < base_pa + size_bytes <= 1 << 56:
        raise ValueError(f"memory at {base_pa:#x}+{size_bytes:#x}")
    return range(base_pa, base_pa + size_bytes)
