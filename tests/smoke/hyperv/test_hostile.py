"""A host that is hostile or just unusual: unmodified kernels lose devices, get nonsense, and live on."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.hyperv.devices.faults import Fault
from harness.hyperv.scsi.command import READS
from harness.hyperv.wire.packets import completion, inband, transfer_pages
from harness.kernels.store import KernelStore

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-64k")
CARD = "for d in /sys/class/net/*; do readlink -f $d/device/driver; done | grep -q hv_netvsc"

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, granule_kernels: KernelStore) -> str:
    name = str(request.param)
    if not granule_kernels.available(name):
        pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")
    return name


def _alive(guest: Any) -> None:
    """The shell answers, the heart beats on, and the kernel has reported nothing fatal."""
    machine = guest.subject.machine
    heart = machine.hyperv.standard.heartbeat
    before = heart.beats
    Deadline.after(guest.patience.command_s).wait_until(lambda: heart.beats > before + 1, "two heartbeats")
    assert guest.sh("echo here") == "here"
    assert machine.console.fatal_event() is None
    tainted = int(guest.sh("cat /proc/sys/kernel/tainted"))
    assert not tainted & (1 << 7 | 1 << 9), (
        "the kernel oopsed or warned (Documentation/admin-guide/tainted-kernels)"
    )


def _channel(guest: Any, device: Any) -> Any:
    return guest.subject.machine.hyperv.bus.channel_of(device)


def test_a_card_is_taken_away_and_comes_back(start: Start, kernel: str) -> None:
    """A card is rescinded: it goes, the kernel lives on, and offered again it is there again."""
    guest = start(kernel)
    host = guest.subject.machine.hyperv
    wait = Deadline.after(guest.patience.command_s).wait_until
    wait(lambda: guest.subject.sh(CARD).ok, "the card")
    with host.locked() as bus:
        bus.rescind(guest.adapter)
    wait(lambda: not guest.subject.sh(CARD).ok, "the card to go")
    with host.locked() as bus:
        bus.add(guest.adapter)
    wait(lambda: guest.subject.sh(CARD).ok, "the card to come back")
    _alive(guest)
    assert guest.report().findings == ()


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"], indirect=True)
def test_a_disk_is_taken_away(start: Start, kernel: str) -> None:
    """A disk is rescinded: the kernel lives on, but what rescinds waits for the disk's cache without end.

    sd_remove() synchronises the cache of a disk that says it has one, storvsc has no channel to send that
    into, and the command does not come to an end (seen with 6.12): nothing is rescinded any more then.
    """
    guest = start(kernel)
    host = guest.subject.machine.hyperv
    wait = Deadline.after(guest.patience.command_s).wait_until
    guest.sh(f"dd if={guest.disk('granule-raw')} of=/dev/null bs=4k count=1 2>/dev/null")
    with host.locked() as bus:
        bus.rescind(guest.raw)
    stuck = "cat /proc/[0-9]*/stack 2>/dev/null | grep -A30 sd_sync_cache | grep -q vmbus_onoffer_rescind"
    wait(lambda: guest.subject.sh(stuck).ok, "the rescind to wait for the cache")
    _alive(guest)
    assert guest.subject.sh(stuck).ok


def test_answers_out_of_order(start: Start, kernel: str) -> None:
    """Answers that overtake each other leave every block where it belongs."""
    guest = start(
        kernel, faults=tuple(Fault(opcodes=READS, after=at, delay_s=0.3) for at in range(20, 200, 7))
    )
    device = guest.disk("granule-raw")
    told = guest.sh(
        f"for n in 0 1 2 3; do probe direct read {device} 16384 $((n * 64)) 64 0 >/tmp/$n & done; wait; "
        "cat /tmp/0 /tmp/1 /tmp/2 /tmp/3 | md5sum"
    )
    assert told.split()[0] == hashlib.md5(guest.data[: 256 * 16384], usedforsecurity=False).hexdigest()
    assert guest.raw.faults.injected > 5
    assert guest.report().findings == ()


NONSENSE = {
    "an empty packet": inband(b""),
    "a packet of zeros": inband(bytes(512)),
    "a packet of ones": inband(b"\xff" * 512),
    "a payload beyond its packet": struct.pack("<HHHHQ", 6, 0x7FFF, 4, 0, 1) + bytes(16),
    "a payload within the descriptor": struct.pack("<HHHHQ", 6, 0, 4, 0, 1) + bytes(16),
    "a type that there is not": struct.pack("<HHHHQ", 0x55, 2, 4, 0, 1) + bytes(16),
    "an answer to nothing": completion(0x1234_5678_9ABC, bytes(64)),
    "an answer to a request that is too high": completion((1 << 64) - 1, bytes(64)),
    "sections beyond the receive buffer": transfer_pages(
        struct.pack("<II", 107, 0) + bytes(32), request_id=77, set_id=0xCAFE, ranges=((4096, 0xFFFF_F000),)
    ),
    "more sections than it names": transfer_pages(
        struct.pack("<II", 107, 0) + bytes(32), request_id=78, set_id=0xCAFE, ranges=()
    ),
}


def test_nonsense_in_every_ring(start: Start, kernel: str) -> None:
    """Packets that no host sends, in the rings of disk, network and heartbeat, do not crash the kernel."""
    guest = start(kernel)
    host = guest.subject.machine.hyperv
    for what, raw in NONSENSE.items():
        for device in (guest.adapter, guest.files, host.standard.vss):
            with host.locked():
                channel = _channel(guest, device)
                if channel is not None:
                    channel.send_raw(raw)
        print(what)
        assert guest.subject.sh("true").ok, what
    _alive(guest)
    read = f"dd if={guest.disk('granule-raw')} of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null"
    assert guest.subject.sh(read).ok


@pytest.mark.parametrize("version", [(3, 0), (4, 0), (5, 0), (5, 2)])
def test_hosts_of_other_versions(start: Start, kernel: str, version: tuple[int, int]) -> None:
    """With the newest version taken away the kernel comes up with the one that is left."""
    guest = start(kernel, vmbus=version)
    bus = guest.subject.machine.hyperv.bus
    Deadline.after(guest.patience.command_s).wait_until(partial(getattr, bus, "version"), "a version")
    assert bus.version.label == f"{version[0]}.{version[1]}"
    guest.disk("granule-raw")
    _alive(guest)
    assert guest.report().findings == ()
