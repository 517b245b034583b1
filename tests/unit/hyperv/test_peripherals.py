"""What a spec puts on the bus: private disks, and a network where one is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.hyperv.peripherals import Peripherals
from harness.hyperv.scsi.layer import Layer
from harness.spec import Disk, DiskMode, Hyperv, ImageFormat

BLOCK = 512


def _spec(*images: Path, network: bool = False) -> Hyperv:
    disks = tuple(Disk(path=image, serial=image.stem) for image in images)
    return Hyperv(monitor=Path("monitor"), disks=disks, network=network)


def _image(directory: Path, name: str) -> Path:
    image = directory / f"{name}.img"
    image.write_bytes(name[:1].encode() * 2 * BLOCK)
    return image


def test_disks_are_copies(tmp_path: Path) -> None:
    """What a guest writes stays in its machine's copy, and each disk has a controller of its own."""
    images = _image(tmp_path, "a"), _image(tmp_path, "b")
    things = Peripherals(_spec(*images))
    first, second = things.disks["a"], things.disks["b"]
    assert first.offer().instance != second.offer().instance
    assert second.disk.backing.read(0, 4) == b"bbbb"
    first.disk.backing.write(0, b"changed!" * 64)
    assert images[0].read_bytes() == b"a" * 2 * BLOCK
    things.close()
    things.close()


def test_large_disks_are_layers(tmp_path: Path) -> None:
    """A disk with a layer is not copied, and its image keeps its own too; one that is not raw is refused."""
    image = _image(tmp_path, "a")
    disk = Disk(path=image, serial="a", mode=DiskMode.OVERLAY)
    things = Peripherals(Hyperv(monitor=Path("monitor"), disks=(disk,)))
    blocks = things.disks["a"].disk.backing
    assert isinstance(blocks, Layer)
    blocks.write(0, b"changed!" * 64)
    assert blocks.read(0, 8) == b"changed!"
    assert image.read_bytes() == b"a" * 2 * BLOCK
    things.close()
    with pytest.raises(UsageError, match="has to be raw"):
        Peripherals(Hyperv(monitor=Path("monitor"), disks=(replace(disk, format=ImageFormat.QCOW2),)))


def test_network_if_asked_for(tmp_path: Path) -> None:
    """An adapter with a host behind it, or neither."""
    without = Peripherals(_spec(_image(tmp_path, "a")))
    assert (without.adapter, without.network, len(without.devices)) == (None, None, 1)
    things = Peripherals(_spec(network=True))
    assert things.adapter is not None
    assert things.adapter.station is things.network
    assert things.devices == (things.adapter,)


def test_an_image_that_is_no_disk(tmp_path: Path) -> None:
    """An image that is no multiple of a block is refused by name."""
    odd = tmp_path / "odd.img"
    odd.write_bytes(b"x" * 100)
    with pytest.raises(UsageError, match="odd"):
        Peripherals(_spec(odd))
