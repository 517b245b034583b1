"""Unmodified kernels on Hyper-V that is not: the bus, its services, the ordinary checks, a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestGone
from harness.hyperv.host import Host
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.wire.integration import IcStatus
from harness.hyperv.wire.numbers import VmbusVersion
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import Record
from harness.matrix.run import Bench, machine_spec, subject_of
from harness.qemu.machine import Machine
from harness.smoke.subject import Subject
from harness.spec import Accel, Hyperv

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
PATIENCE = Patience.of(Accel.TCG, "neoverse-n1", None)
SOON_S = 60.0

Start = Callable[..., Subject]


@pytest.fixture
def start(granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[Start]:
    """Boots a kernel on Hyper-V to its shell: `start(name, vmbus=(5, 3), cmdline=...)`."""
    machines: list[Machine] = []

    def begin(name: str, *, cmdline: str = "", vmbus: tuple[int, int] = (5, 3)) -> Subject:
        if not granule_kernels.available(name):
            pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")
        asked = Request(kernels=(name,), accel=Accel.TCG, cmdline=cmdline)
        (cell, *_) = plan(asked, granule_kernels, granule_bench.qemu).cells
        kernel: Kernel = granule_kernels.get(name)
        spec = machine_spec(cell, kernel, granule_bench)
        setup: Hyperv = replace(hyperv_setup(granule_bench.cache), vmbus=vmbus)
        machine = Machine(replace(spec, hyperv=setup), granule_bench.qemu)
        machines.append(machine)
        boot(machine, Symbols(kernel), PATIENCE, Record())
        return subject_of(cell, kernel, machine, PATIENCE, Deadline.after(PATIENCE.cell_s))

    yield begin
    for machine in machines:
        machine.close()


def _host(subject: Subject) -> Host:
    assert subject.machine.hyperv is not None
    return subject.machine.hyperv


def _until(condition: Callable[[], bool], what: str) -> None:
    Deadline.after(SOON_S).wait_until(condition, what)


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k", "trimmed-hyperv-64k"])
def test_a_panic_is_reported(start: Start, kernel: str) -> None:
    """A panic's kernel log comes through the crash registers, and the bus is let go of."""
    subject = start(kernel)
    host = _host(subject)
    with pytest.raises(GuestGone):
        subject.sh("echo c >/proc/sysrq-trigger")
    _until(lambda: host.crash is not None and bool(host.crash.text), "a report of the crash")
    assert host.crash is not None
    assert "sysrq triggered crash" in host.crash.text
    assert len(host.crash.text) <= 4096
    _until(lambda: host.bus.unloads == 1, "UNLOAD")
    assert host.log.violations == ()


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"])
def test_an_older_host(start: Start, kernel: str) -> None:
    """With a host of 4.1 the guest tries newer versions, is refused, and comes up with that one."""
    subject = start(kernel, vmbus=(4, 1))
    host = _host(subject)
    assert host.bus.version is VmbusVersion.V4_1
    assert host.bus.refused_versions == [0x50003, 0x50002, 0x50001, 0x50000]
    _until(lambda: host.standard.heartbeat.beats >= 1, "a heartbeat")
    assert host.log.violations == ()


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k", "trimmed-hyperv-64k"])
def test_key_value_pairs(start: Start, kernel: str) -> None:
    """A daemon in the guest answers the host's questions through packets of up to 16 KiB (hv_kvp.c)."""
    subject = start(kernel)
    host, kvp = _host(subject), _host(subject).standard.kvp
    daemon = Path(__file__).with_name("kvp_daemon.sh").read_text()
    with ThreadPoolExecutor(max_workers=1) as beside:
        running = beside.submit(subject.sh, daemon)
        _until(lambda: kvp.is_ready or running.done(), "the daemon")
        with host.locked():
            assert kvp.enumerate_pool(), str(running)
        _until(lambda: kvp.done, "the guest's items")
        assert running.result().status == 0
    assert kvp.version == (4, 0)
    assert kvp.items == {"OSName": "granule", "PageSize": str(subject.page_size.bytes)}
    assert kvp.status == IcStatus.CONT
    assert host.log.violations == ()
