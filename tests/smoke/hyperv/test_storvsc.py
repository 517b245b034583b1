"""storvsc of unmodified kernels on a disk of ours: ext4, every transfer size, errors, and no broken rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.hyperv.devices.faults import Fault
from harness.hyperv.scsi.command import MEDIUM_READ_ERROR, READS

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
BLOCKS = (512, 1024, 4096, 16384, 65536, 131072, 1 << 20)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()  # noqa: S324 - to compare


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_transfer_size(start: Start, kernel: str) -> None:
    """Blocks of 512 B to 1 MiB, cached and direct from odd places, read and written, arrive whole."""
    guest = start(kernel)
    device = guest.disk("granule-raw")
    half = len(guest.data)
    for number, size in enumerate(BLOCKS):
        count = min((2 << 20) // size, 256)
        skip = number * ((4 << 20) // size)
        part = guest.data[skip * size : (skip + count) * size]
        # At 512 into a page of the guest's, at 4 KiB and 512, and at the beginning of one.
        for offset in (None, 0, 512, 4608):
            guest.sh("echo 1 >/proc/sys/vm/drop_caches")
            there = half // size + skip
            if offset is None:
                read = f"dd if={device} bs={size} skip={skip} count={count} 2>/dev/null"
                write = (
                    f"dd of={device} bs={size} iflag=fullblock seek={there} conv=fsync,notrunc 2>/dev/null"
                )
            else:
                read = f"probe direct read {device} {size} {skip} {count} {offset}"
                write = f"probe direct write {device} {size} {there} {count} {offset}"
            requests = sum(guest.raw.pages.values())
            assert guest.sh(f"{read} | md5sum").split()[0] == md5(part), (size, offset)
            if offset is not None and size <= 65536:
                assert sum(guest.raw.pages.values()) - requests >= count, "that was not direct I/O"
            guest.sh(f"{read} | {write}")
            with guest.subject.machine.hyperv.locked():
                assert guest.raw.disk.backing.read(there * size // 512, len(part)) == part, (size, offset)
                guest.raw.disk.backing.clear(there * size // 512, len(part) // 512)
    report = guest.report()
    assert report.findings == ()
    assert report.silent == ()
    assert report.passed
    assert max(guest.raw.pages) > 100
    print(dict(sorted(guest.raw.pages.items())))


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"])
def test_unmap(start: Start, kernel: str) -> None:
    """blkdiscard reaches the host, and what was discarded reads as zeros."""
    guest = start(kernel)
    device = guest.disk("granule-raw")
    queue = f"/sys/block/{Path(device).name}/queue"
    assert int(guest.sh(f"cat {queue}/discard_max_bytes")) == (1 << 15) * 512
    guest.sh(f"blkdiscard -o 1048576 -l 2097152 {device}")
    with guest.subject.machine.hyperv.locked():
        read = guest.raw.disk.backing.read(0, 4 << 20)
    assert read == guest.data[: 1 << 20] + bytes(2 << 20) + guest.data[3 << 20 : 4 << 20]
    assert guest.report().findings == ()


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"])
def test_limits_and_faults(start: Start, kernel: str) -> None:
    """The host's limit is the queue's; short, late and failing reads end as they should, data unharmed."""
    faults = (
        Fault(opcodes=READS, after=60, times=3, short_bytes=1024),
        Fault(opcodes=READS, after=80, times=2, delay_s=0.3),
    )
    guest = start(kernel, faults=faults, max_transfer_bytes=128 << 10)
    device = guest.disk("granule-raw")
    queue = f"/sys/block/{Path(device).name}/queue"
    assert guest.sh(f"cat {queue}/max_hw_sectors_kb") == "128"
    assert guest.sh(f"cat {queue}/max_segments") == "33"
    expected = hashlib.md5(guest.data[: 16 << 20]).hexdigest()  # noqa: S324 - to compare
    assert (
        guest.sh(f"dd if={device} bs=64k count=256 iflag=direct 2>/dev/null | md5sum").split()[0] == expected
    )
    assert guest.raw.faults.injected == 5
    with guest.subject.machine.hyperv.locked():
        guest.raw.faults.add(Fault(opcodes=READS, times=1000, sense=MEDIUM_READ_ERROR))
    assert not guest.subject.sh(f"probe direct read {device} 4096 0 1 0 >/dev/null").ok
    assert "Medium Error" in guest.subject.machine.transcript.content().decode()
    assert guest.report().findings == ()
