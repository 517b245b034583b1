"""Tests of harness.hyperv.scsi.layer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InfraError, UsageError
from harness.hyperv.scsi.layer import Layer

BLOCKS = 41
CONTENT = random.Random(1).randbytes(BLOCKS * 512)  # noqa: S311 - any bytes do


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose size is no multiple of a page."""
    path = tmp_path_factory.mktemp("image") / "disk.img"
    path.write_bytes(CONTENT)
    return path


@given(
    st.lists(
        st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 24), st.booleans(), st.integers(1, 255)),
        max_size=20,
    )
)
@settings(deadline=None)
def test_it_is_like_a_copy(image: Path, writes: list[tuple[int, int, bool, int]]) -> None:
    """Whatever is written and cleared is read back, all else is the image's, and the image stays as it is."""
    wanted = bytearray(CONTENT)
    with Layer(image) as layer:
        assert layer.blocks == BLOCKS
        for lba, blocks, cleared, value in writes:
            count = min(blocks, BLOCKS - lba)
            data = bytes(count * 512) if cleared else bytes([value]) * (count * 512)
            if cleared:
                layer.clear(lba, count)
            else:
                layer.write(lba, data)
            wanted[lba * 512 : lba * 512 + len(data)] = data
            assert layer.read(lba, count * 512) == data
        assert layer.read(0, BLOCKS * 512) == wanted
        assert layer.read(3, 700) == wanted[3 * 512 :][:700]
    assert image.read_bytes() == CONTENT


def test_what_is_no_image(tmp_path: Path) -> None:
    """An image that is empty, no multiple of a block, or not there is a user's mistake, said as one."""
    odd = tmp_path / "odd.img"
    odd.write_bytes(bytes(1000))
    with pytest.raises(UsageError, match="1000 bytes: a multiple of 512"):
        Layer(odd)
    with pytest.raises(UsageError, match="cannot open the disk image"):
        Layer(tmp_path / "none.img")


def test_no_place_for_a_layer(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot hold what a guest writes is at fault, and nothing is left open."""
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(InfraError, match="cannot make a layer"):
        Layer(image)
    assert set(Path("/proc/self/fd").iterdir()) == before
