"""Tests of harness.qemu.template_files."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.qemu.template_files import DamagedTemplate, open_template, write_template

SIZE = 2 << 20
NAMES = ("ram", "devices", "console", "overlay-0", "overlay-1", "template.json")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A template as it is stored."""
    ram = os.memfd_create("ram")
    os.ftruncate(ram, SIZE)
    os.pwrite(ram, b"granule", 1 << 20)
    overlays = [os.memfd_create(f"overlay-{number}") for number in range(2)]
    for number, overlay in enumerate(overlays):
        os.ftruncate(overlay, (number + 1) << 16)
        os.pwrite(overlay, f"layer {number}".encode(), 4096)
    write_template(
        tmp_path, ram=ram, ram_bytes=SIZE, devices=b"devices" * 99, console=b"[    0.000000] Booting",
        overlays=overlays,
    )  # fmt: skip
    for descriptor in (ram, *overlays):
        os.close(descriptor)
    return tmp_path


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Where opened files are closed."""
    with contextlib.ExitStack() as opened:
        yield opened


def test_what_was_written_comes_back(stored: Path, stack: contextlib.ExitStack) -> None:
    """RAM, device state and console are as they were; the device state can be read any number of times."""
    saved = open_template(stored, SIZE, stack, overlays=2)
    assert os.pread(saved.ram, 7, 1 << 20) == b"granule"
    assert saved.console == b"[    0.000000] Booting"
    assert [os.pread(layer, 7, 4096) for layer in saved.overlays] == [b"layer 0", b"layer 1"]
    assert [os.fstat(layer).st_size for layer in saved.overlays] == [1 << 16, 2 << 16]
    for _ in range(2):
        with saved.reopened() as stream:
            assert stream.read() == b"devices" * 99


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused(stored: Path, stack: contextlib.ExitStack, name: str) -> None:
    """A template of which a file lost its last byte is refused."""
    os.truncate(stored / name, (stored / name).stat().st_size - 1)
    with pytest.raises(DamagedTemplate):
        open_template(stored, SIZE, stack, overlays=2)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_refused(stored: Path, stack: contextlib.ExitStack, name: str) -> None:
    """A template without one of its files is refused."""
    (stored / name).unlink()
    with pytest.raises(DamagedTemplate):
        open_template(stored, SIZE, stack, overlays=2)


@pytest.mark.parametrize("name", NAMES[:5])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused(stored: Path, stack: contextlib.ExitStack, name: str, place: float) -> None:
    """A bit that changed anywhere, in a hole too, is found."""
    content = bytearray((stored / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    (stored / name).write_bytes(content)
    with pytest.raises(DamagedTemplate, match=f"{name} has changed"):
        open_template(stored, SIZE, stack, overlays=2)


@pytest.mark.parametrize("about", [b"", b"[]", b"{}", b'{"digests": 3}', b"\xff", b'{"digests": {"ram": 1}}'])
def test_a_description_that_is_none_is_refused(
    stored: Path, stack: contextlib.ExitStack, about: bytes
) -> None:
    """Whatever stands in the description is refused or believed, and never a traceback."""
    (stored / "template.json").write_bytes(about)
    with pytest.raises(DamagedTemplate):
        open_template(stored, SIZE, stack, overlays=2)


def test_other_ram_is_refused(stored: Path, stack: contextlib.ExitStack) -> None:
    """A template of a machine with more RAM is not this one's."""
    with pytest.raises(DamagedTemplate):
        open_template(stored, 2 * SIZE, stack)


@pytest.mark.parametrize("damage", [False, True])
def test_ram_that_may_not_be_written_is_copied(
    stored: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch, damage: bool
) -> None:
    """On a read-only cache RAM is served from a copy in memory, which is checked like the file."""
    if damage:
        with (stored / "ram").open("r+b") as file:
            file.write(b"x")
    real = os.open

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and Path(path).name == "ram":
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, mode)

    monkeypatch.setattr("harness.qemu.template_files.os.open", read_only)
    if damage:
        with pytest.raises(DamagedTemplate, match="ram has changed"):
            open_template(stored, SIZE, stack, overlays=2)
        return
    saved = open_template(stored, SIZE, stack, overlays=2)
    os.pwrite(saved.ram, b"changed", 1 << 20)
    assert (stored / "ram").read_bytes()[1 << 20 :][:7] == b"granule"
