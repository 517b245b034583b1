"""hv_sock of unmodified kernels: connections both ways, and rings that hosts before VMBus 5.0 insist on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.hyperv.net.streams import Echo
from harness.kernels.store import KernelStore

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
SENT_BYTES = 500_000
TO_HOST = f"modprobe hv_sock && timeout 90 probe tcp vsock 7 {SENT_BYTES}"
PORT = 5000

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]


def _have(kernels: KernelStore, name: str) -> None:
    if not kernels.available(name):
        pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_ways(start: Start, granule_kernels: KernelStore, kernel: str) -> None:
    """The guest connects to the host and the host to the guest; every byte comes back, and channels go."""
    _have(granule_kernels, kernel)
    guest = start(kernel)
    host = guest.subject.machine.hyperv
    sockets = host.peripherals.sockets
    guest.sh(TO_HOST)
    with ThreadPoolExecutor(max_workers=1) as beside:
        listening = beside.submit(guest.sh, f"timeout 90 probe tcp vsock-listen {PORT} {SENT_BYTES}")
        # Until somebody listens the guest leaves the offer alone (hvs_open_connection()).
        deadline = Deadline.after(guest.patience.command_s)
        while not listening.done():
            with host.locked() as bus:
                made = sockets.connect(bus, PORT, Echo())
            try:
                deadline.sooner(2.0).wait_until(partial(getattr, made, "opened_once"), "the guest to open it")
                break
            except DeadlineExceeded:
                continue
        listening.result()
    report = guest.report()
    assert report.findings == ()
    assert guest.compared("sock.ring") >= 2
    assert guest.compared("sock.piece") > SENT_BYTES // 4096


@pytest.mark.parametrize(
    ("kernel", "connects"), [("debian-4k", True), ("debian-16k", False), ("trimmed-hyperv-64k", False)]
)
def test_before_5_0(start: Start, granule_kernels: KernelStore, kernel: str, connects: bool) -> None:
    """Below VMBus 5.0 hv_sock asks for rings of 24 KiB, no whole pages at 16K and 64K: none is opened.

    vmbus_alloc_ring() refuses them with -EINVAL (drivers/hv/channel.c), hvs_open_connection() keeps that to
    itself, and connect() ends with a time-out. At 4K the same driver connects.
    """
    _have(granule_kernels, kernel)
    guest = start(kernel, vmbus=(4, 1))
    host = guest.subject.machine.hyperv
    done = guest.subject.sh(TO_HOST)
    with host.locked():
        made = [each for each in host.bus.channels if each.name == "hv_sock"]
        opened = guest.compared("sock.ring")
    assert host.bus.version.label == "4.1"
    assert done.ok is connects, done.text
    assert (opened > 0) is connects
    if not connects:
        assert "Connection timed out" in done.text
        assert len(made) == 1, "the host's offer came, and nobody opened it"
    assert guest.report().findings == ()
