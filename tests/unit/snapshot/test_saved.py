"""Tests of harness.snapshot.saved."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ChannelError, InfraError, UsageError
from harness.snapshot import Snapshot, Vcpu, load, open_snapshot, save
from harness.snapshot import saved as module

MEMORY = bytes(8192) + b"granule!" * 512 + bytes(4096) + b"\1" + bytes(3999)
WHOLE = bytes(1000) + b"tail"


class Pieces:
    """Two pieces of memory, the second not a whole number of pages."""

    ranges: tuple[range, ...] = (
        range(0x4000_0000, 0x4000_0000 + len(MEMORY)),
        range(0x8000_0000, 0x8000_0000 + len(WHOLE)),
    )

    def read(self, pa: int, size_bytes: int) -> bytes:
        for one, content in zip(self.ranges, (MEMORY, WHOLE), strict=True):
            if pa in one:
                return content[pa - one.start :][:size_bytes]
        raise ChannelError("not there")


SNAPSHOT = Snapshot(
    vcpus=(Vcpu(registers={"pc": 1 << 63, "TTBR1_EL1": 0x41EE_9000}), Vcpu(registers={})),
    memory=Pieces(),
    origin="4k-debian-4k",
    notes=("one", "zwei ✓"),
    provenance={"kernel sha256": "abc", "QEMU": "7.2.22"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved snapshot."""
    save(SNAPSHOT, tmp_path / "guest.snapshot")
    return tmp_path / "guest.snapshot"


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file with another header, whose checksum is right."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    parsed = json.loads(content[48 : 48 + length])
    changed = change(parsed)
    return with_header(
        path, json.dumps(parsed if changed is None else changed).encode(), content[48 + length :]
    )


def with_header(path: Path, text: bytes, memory: bytes = b"", version: int = 1) -> Path:
    """A file with that header, whose checksum is right (the format is in the module's docstring)."""
    text += b" " * (-(48 + len(text)) % 4096)
    head = struct.pack("<8sII", b"GRNLSNAP", version, len(text))
    path.write_bytes(head + hashlib.sha256(head + text).digest() + text + memory)
    return path


def test_what_was_saved_is_loaded(path: Path) -> None:
    """Registers, memory, origin, notes and provenance come back as they were."""
    with load(path, verify_memory=True) as loaded:
        assert [dict(one.registers) for one in loaded.vcpus] == [
            dict(one.registers) for one in SNAPSHOT.vcpus
        ]
        assert loaded.ram == Pieces.ranges
        assert loaded.read(0x4000_0000, len(MEMORY)) == MEMORY
        assert loaded.read(0x8000_0000, len(WHOLE)) == WHOLE
        assert (loaded.origin, loaded.notes, dict(loaded.provenance)) == (
            "4k-debian-4k", ("one", "zwei ✓"), {"kernel sha256": "abc", "QEMU": "7.2.22"}
        )  # fmt: skip


def test_zeros_take_no_space(tmp_path: Path) -> None:
    """Memory that is zero is a hole in the file."""

    class Large(Pieces):
        ranges = (range(0x4000_0000, 0x4400_0000),)

        def read(self, pa: int, size_bytes: int) -> bytes:
            return (b"\1" if pa == 0x4040_0000 else b"\0") + bytes(size_bytes - 1)

    save(replace(SNAPSHOT, memory=Large()), tmp_path / "large")
    about = (tmp_path / "large").stat()
    assert about.st_size > 64 << 20
    assert about.st_blocks * 512 < 1 << 20
    with load(tmp_path / "large", verify_memory=True) as loaded:
        assert loaded.read(0x4040_0000, 2) == b"\1\0"


def test_a_snapshot_is_closed(path: Path) -> None:
    """After its `with` block nothing can be read of it, and the map has gone."""
    with load(path) as loaded:
        loaded.read(0x4000_0000, 1)
    with pytest.raises(ValueError, match="closed"):
        loaded.read(0x4000_0000, 1)
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_every_byte_of_the_header_counts(path: Path) -> None:
    """A flip of any bit before memory is an error of use, with the file's name in it."""
    content = path.read_bytes()
    for at in range(4096):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(UsageError, match=r"guest\.snapshot"):
            load(path)


def test_every_length_is_noticed(path: Path) -> None:
    """A file that ends early or late is an error, wherever it ends."""
    content = path.read_bytes()
    for length in (*range(0, len(content), 97), len(content) - 1, len(content) + 1, len(content) + 9000):
        path.write_bytes(content.ljust(length, b"\0")[:length])
        with pytest.raises(UsageError, match=r"truncated|does not begin|damaged: .* follow its memory"):
            load(path)


def test_memory_is_verified_on_demand(path: Path) -> None:
    """A flipped bit of memory passes a plain load and fails a verifying one, also where zeros were."""
    for at in (4096, 4096 + 9000, path.stat().st_size - 1):
        content = path.read_bytes()
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        load(path).close()
        with pytest.raises(UsageError, match="memory is not what was saved"):
            load(path, verify_memory=True)
        path.write_bytes(content)


def test_a_later_format_is_named(path: Path) -> None:
    """A file of a later granule is refused in those words, whatever its header holds."""
    with_header(path, b"\x28\xb5\x2f\xfd", version=7)
    with pytest.raises(UsageError, match="made by a later granule: format 7, this one reads up to 1"):
        open_snapshot(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.pop("vcpus"),
        lambda it: it.update(vcpus={}),
        lambda it: it.update(vcpus=[{}] * 5000),
        lambda it: it.update(vcpus=[{"pc": "0x" + "f" * 17}]),
        lambda it: it.update(vcpus=[{"pc": -1}]),
        lambda it: it.update(vcpus=[{"p c": 1}]),
        lambda it: it.update(vcpus=[[]]),
        lambda it: it.update(memory=[]),
        lambda it: it.update(memory=[{"pa": "0x0", "bytes": "0x0"}]),
        lambda it: it.update(memory=[{"pa": "-0x1000", "bytes": "0x2000"}]),
        lambda it: it.update(memory=[{"pa": "0x0", "bytes": "0x100000000000000"}]),
        lambda it: it.update(memory=[{"pa": "0x0", "bytes": "0x1000000000000"}]),
        lambda it: it.update(memory=[{"pa": "0x0", "bytes": "0x2000"}, {"pa": "0x1000", "bytes": "0x1000"}]),
        lambda it: it.update(memory=[{"pa": "0x1", "bytes": "0x1"}] * 20000),
        lambda it: it.update(memory=[{"pa": 4096, "bytes": 4096}]),
        lambda it: it.update(memory=[None]),
        lambda it: it.update(origin=1),
        lambda it: it.update(notes="one"),
        lambda it: it.update(notes=[1]),
        lambda it: it.update(provenance=[]),
        lambda it: it.update(provenance={"x": 1}),
    ],
)
def test_senseless_headers(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A header that was made up, with a right checksum, is an error of use."""

    with pytest.raises(UsageError, match=r"guest\.snapshot"):
        load(rewritten(path, change))


def test_other_json(path: Path) -> None:
    """A header of another shape, or that exhausts a parser's stack or integers, is an error of use."""
    for text in (b"[]", b"1", b"[" * 100_000, b'{"vcpus":' + b"9" * 10_000 + b"}"):
        with pytest.raises(UsageError, match="damaged"):
            load(with_header(path, text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_an_error_of_use(tmp_path: Path, junk: bytes, signed: bool) -> None:
    """Random files, and random headers with a right checksum, never end in anything but UsageError."""
    path = tmp_path / "junk"
    if signed:
        with_header(path, junk)
    else:
        path.write_bytes(b"GRNLSNAP" + junk)
    with pytest.raises(UsageError):
        load(path)


def test_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full the older file stays, nothing is left beside it, and the message says so."""
    before = path.read_bytes()

    def full(_snapshot: Snapshot, file: Any, _header_bytes: int) -> str:
        file.write(b"part")
        file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_write_memory", full)
    with pytest.raises(InfraError, match="No space left on device"):
        save(SNAPSHOT, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ChannelError])
def test_an_interrupt_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Interrupted, or with memory that cannot be read any more, no file is there, whole or in part."""

    class Broken(Pieces):
        def read(self, pa: int, size_bytes: int) -> bytes:
            if pa >= 0x8000_0000:
                raise error("gone")
            return super().read(pa, size_bytes)

    with pytest.raises(error):
        save(replace(SNAPSHOT, memory=Broken()), tmp_path / "guest")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_saved(tmp_path: Path) -> None:
    """A missing directory, a directory and a pipe are errors of use; the pipe stays one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none" / "file", tmp_path, pipe):
        with pytest.raises(UsageError, match="cannot save"):
            save(SNAPSHOT, path)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
