"""Tests of harness.matrix.post_mortem, with machines that are nothing but memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import ChannelError
from harness.matrix.post_mortem import PostMortem
from harness.snapshot import Snapshot, Vcpu, open_snapshot


@dataclass(frozen=True)
class Memory:
    """A page."""

    ranges: tuple[range, ...] = (range(0x4000_0000, 0x4000_1000),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        return (b"granule!" * 512)[:size_bytes]


@dataclass
class Guest:
    """What `keep` asks of a machine."""

    error: Exception | None = None
    status: int | None = None
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        self.process = SimpleNamespace(exit_status=lambda: self.status)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[Any]:
        """Gives a snapshot, or the error."""
        if self.error is not None:
            raise self.error
        vcpu = Vcpu(registers={"pc": 7})
        yield SimpleNamespace(snapshot=lambda origin: Snapshot(vcpus=(vcpu,), memory=Memory(), origin=origin))


def test_a_guest_is_kept(tmp_path: Path) -> None:
    """The snapshot is in the cell's bundle, named after the cell, with what made it."""
    kept = PostMortem(tmp_path / "failed").keep("4k-a", Guest(), {"QEMU": "7.2"})  # type: ignore[arg-type]
    assert kept == "guest.snapshot"
    with open_snapshot(tmp_path / "failed" / "4k-a" / kept) as snapshot:
        assert (snapshot.origin, snapshot.provenance["QEMU"]) == ("4k-a", "7.2")
        assert snapshot.read(0x4000_0000, 8) == b"granule!"


def test_no_more_than_the_limit(tmp_path: Path) -> None:
    """Beyond the limit nothing is written, and the cells that were left out are known."""
    shelf = PostMortem(tmp_path, limit=1)
    said = [shelf.keep(name, Guest(), {}) for name in ("a", "b", "c")]  # type: ignore[arg-type]
    assert said[0] == "guest.snapshot"
    assert all(one.startswith("none: 1 were kept") for one in said[1:])
    assert shelf.left_out == ("b", "c")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("guest", "words"),
    [
        (Guest(error=ChannelError("the monitor is silent")), "the monitor is silent"),
        (Guest(error=MemoryError()), "MemoryError"),
        (Guest(status=1), "QEMU had ended by itself, with status 1"),
    ],
)
def test_a_guest_that_cannot_be_saved(tmp_path: Path, guest: Guest, words: str) -> None:
    """Whatever goes wrong is said and not raised, and takes nobody's place."""
    shelf = PostMortem(tmp_path, limit=1)
    said = shelf.keep("a", guest, {})  # type: ignore[arg-type]
    assert said.startswith("none: ")
    assert words in said
    assert not list(tmp_path.rglob("guest.snapshot*"))
    assert shelf.keep("b", Guest(), {}) == "guest.snapshot"  # type: ignore[arg-type]
