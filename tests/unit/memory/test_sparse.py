"""Tests of harness.memory.sparse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.memory.sparse import copy_data, digest_of

SIZE = 5 << 20


def _file(path: Path, pieces: dict[int, bytes], size_bytes: int = SIZE) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(descriptor, size_bytes)
    for offset, data in pieces.items():
        os.pwrite(descriptor, data, offset)
    return descriptor


@pytest.mark.parametrize(
    "pieces",
    [
        {},
        {0: b"start"},
        {SIZE - 3: b"end"},
        {(1 << 20) - 2: b"across"},
        {100: b"a", 70000: b"b", 3 << 20: os.urandom(300_000)},
    ],
    ids=["holes", "start", "end", "across", "several"],
)
def test_a_copy_has_the_same_content(tmp_path: Path, pieces: dict[int, bytes]) -> None:
    """What is copied reads the same everywhere, holes included."""
    source, target = _file(tmp_path / "a", pieces), _file(tmp_path / "b", {})
    copy_data(source, target, SIZE)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_copy_costs_its_data_only(tmp_path: Path) -> None:
    """Zeros that were written are holes in the copy."""
    source, target = _file(tmp_path / "a", {0: bytes(SIZE), 1 << 20: b"x"}), _file(tmp_path / "b", {})
    copy_data(source, target, SIZE)
    assert (tmp_path / "a").stat().st_blocks * 512 >= SIZE
    assert (tmp_path / "b").stat().st_blocks * 512 < SIZE // 4


def test_a_digest_is_of_content_and_not_of_holes(tmp_path: Path) -> None:
    """Files of the same content have the same digest, whichever zeros are holes."""
    dense = _file(tmp_path / "a", {0: bytes(SIZE), 70000: b"x"})
    sparse = _file(tmp_path / "b", {70000: b"x"})
    assert digest_of(dense, SIZE) == digest_of(sparse, SIZE)


@pytest.mark.parametrize("change", [{70001: b"x"}, {70000: b"y"}, {4 << 20: b"x"}, {70000: b"\0"}])
def test_a_digest_tells_every_change(tmp_path: Path, change: dict[int, bytes]) -> None:
    """A byte that is added, changed, cleared or moved changes the digest."""
    was = _file(tmp_path / "a", {70000: b"x"})
    became = _file(tmp_path / "b", {70000: b"x", **change})
    assert digest_of(was, SIZE) != digest_of(became, SIZE)


def test_data_that_moves_by_a_chunk_is_another(tmp_path: Path) -> None:
    """The same data at another place is other content."""
    one, other = _file(tmp_path / "a", {0: b"x"}), _file(tmp_path / "b", {1 << 16: b"x"})
    assert digest_of(one, SIZE) != digest_of(other, SIZE)


@pytest.mark.parametrize("size_bytes", [SIZE - 1, SIZE + 1, 0])
def test_another_size_is_an_error(tmp_path: Path, size_bytes: int) -> None:
    """A file that is shorter or longer than it should be has no digest."""
    with pytest.raises(OSError, match=f"{size_bytes} bytes and not {SIZE}"):
        digest_of(_file(tmp_path / "a", {}, size_bytes), SIZE)
