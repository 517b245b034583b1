"""Where tables are read from: what is memory, and that nothing is held."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from harness.bulk import Ram, Reads

WORDS = np.arange(4 * 512, dtype="<u8")
BASE_PA = 0x4000_0000
PAGE = 0x1000


def _pas(*pas: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(pas, np.uint64)


@pytest.mark.parametrize("missing_bytes", [0, 8, 12])
def test_tables_wholly_in_memory_are_read(missing_bytes: int) -> None:
    """A row for each of those; none for one that is before, after, or partly outside."""
    ram = Ram(WORDS.tobytes()[missing_bytes:], BASE_PA + missing_bytes)
    first = () if missing_bytes else (0,)
    asked = _pas(BASE_PA + 2 * PAGE, BASE_PA, BASE_PA - PAGE, BASE_PA + 4 * PAGE, BASE_PA + PAGE, 0, 1 << 51)
    rows, there = ram.tables(asked, PAGE, big_endian=False)
    assert there.tolist() == [True, not missing_bytes, False, False, True, False, False]
    assert rows[:, 0].tolist() == [1024, *(512 * number for number in first), 512]
    assert rows[-1].tolist() == list(range(512, 1024))


def test_readers_are_asked_the_same() -> None:
    """Behind a reader the same tables are found, whichever way it says that there is no memory."""
    data = WORDS.tobytes()

    def read(pa: int, size_bytes: int) -> bytes | None:
        at = pa - BASE_PA
        if at < 0:
            raise LookupError
        return data[at : at + size_bytes]

    asked = _pas(BASE_PA + 2 * PAGE, BASE_PA - PAGE, BASE_PA + 4 * PAGE, BASE_PA + PAGE)
    for big_endian in (False, True):
        ours, there = Reads(read).tables(asked, PAGE, big_endian=big_endian)
        rows, same = Ram(data, BASE_PA).tables(asked, PAGE, big_endian=big_endian)
        assert (ours == rows).all()
        assert (there == same).all()
        row = Ram(data, BASE_PA).words(BASE_PA + 8, 2, big_endian=big_endian)
        again = Reads(read).words(BASE_PA + 8, 2, big_endian=big_endian)
        assert row is not None
        assert again is not None
        assert row.tolist() == again.tolist() == ([1 << 56, 2 << 56] if big_endian else [1, 2])


def test_a_map_can_be_closed(tmp_path: Path) -> None:
    """A file is read through a map without a copy, and what was read outlives the map."""
    path = tmp_path / "ram"
    path.write_bytes(WORDS.tobytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        ram = Ram(mapped, BASE_PA)
        rows, _ = ram.tables(_pas(BASE_PA + PAGE), PAGE, big_endian=False)
        row = ram.words(BASE_PA, 4, big_endian=False)
    assert row is not None
    assert (rows[0, 0], row[3]) == (512, 3)


def test_a_file_mapped_by_numpy(tmp_path: Path) -> None:
    """np.memmap is a buffer like any other, of whatever type."""
    path = tmp_path / "ram"
    path.write_bytes(WORDS.tobytes())
    for kind in (np.uint8, np.uint64):
        rows, _ = Ram(np.memmap(path, kind, "r"), BASE_PA).tables(_pas(BASE_PA), PAGE, big_endian=False)
        assert rows[0, 511] == 511


def test_empty_memory() -> None:
    """No bytes are no tables."""
    rows, there = Ram(b"").tables(_pas(0, PAGE), PAGE, big_endian=False)
    assert (rows.shape, there.tolist()) == ((0, 512), [False, False])
    assert Ram(b"").words(0, 1, big_endian=False) is None


def test_what_is_no_memory_is_refused() -> None:
    """A buffer with gaps and a negative address are the caller's mistakes."""
    with pytest.raises(ValueError, match="contiguous"):
        Ram(WORDS[::2])
    with pytest.raises(ValueError, match="not a physical address"):
        Ram(b"", -1)
