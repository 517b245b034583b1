"""Whether guest RAM has room for kernel, initrd and device tree."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.linux.image import ImageHeader
from harness.qemu.placing import needed_mib, refuse_small_memory
from harness.spec import MachineSpec

MIB = 1 << 20


@pytest.mark.parametrize(
    ("image_mib", "initrd_bytes", "needed"),
    [
        # The kernel ends at 2 + image MiB; the tree, of 1 MiB, lies at the next 2 MiB after the initrd.
        (100, 0, 103),
        (100, 1, 105),
        (101, 0, 105),
        (100, 20 * MIB, 123),
        # The initrd is no lower than the middle of RAM: of 16 MiB, at 8, with 7 MiB, the tree at 16.
        (1, 0, 5),
        (1, 7 * MIB, 17),
        # Nor higher than 128 MiB because of that.
        (1, 200 * MIB, 329),
    ],
)
def test_needed_memory(image_mib: int, initrd_bytes: int, needed: int) -> None:
    """By where QEMU puts each of the three."""
    header = ImageHeader(text_offset=0, image_size_bytes=image_mib * MIB, flags=8)
    assert needed_mib(header, initrd_bytes) == needed


def test_refused_before_boot(tmp_path: Path) -> None:
    """A guest with too little memory is refused with what it needs; one with enough is not."""
    kernel, initrd = tmp_path / "Image", tmp_path / "initrd"
    kernel.write_bytes(struct.pack("<2I6Q4sI", 0, 0, 0, 400 * MIB, 8, 0, 0, 0, b"ARM\x64", 0))
    initrd.write_bytes(bytes(10))

    def spec(memory_mib: int) -> MachineSpec:
        return MachineSpec(kernel=kernel, initrd=initrd, cmdline="", memory_mib=memory_mib)

    with pytest.raises(UsageError, match=r"384 MiB of guest memory are too few.*takes 400 MiB.*405 MiB"):
        refuse_small_memory(spec(384))
    with pytest.raises(UsageError):
        refuse_small_memory(spec(404))
    refuse_small_memory(spec(405))
    kernel.write_bytes(b"no Image at all")
    refuse_small_memory(spec(1))
