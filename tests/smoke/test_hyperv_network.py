"""netvsc of unmodified kernels on a host of ours: addresses, pings, TCP both ways, MTUs, page buffers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.hyperv.checker import CheckReport, WireChecker
from harness.hyperv.devices.netvsc import Netvsc
from harness.hyperv.monitor import hyperv_setup
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Echo, Http, Sink, Source
from harness.hyperv.rndis.offload import Offload
from harness.kernels.store import KernelStore
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import Record
from harness.matrix.run import Bench, machine_spec, subject_of
from harness.qemu.machine import Machine
from harness.smoke.subject import Subject
from harness.spec import Accel

# Setting up netvsc takes many round trips, of which the console says nothing.
PATIENCE = replace(Patience.of(Accel.TCG, "neoverse-n1", 1200.0), silence_s=180.0)
MIB = 2
CONTENT = random.Random(2).randbytes(MIB << 20)  # noqa: S311 - content to compare, not a secret
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
PINGS = (1, 100, 1472, 1473, 4000, 8192, 16384, 30000)
KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
DEBIAN = ("debian-4k", "debian-16k")


@dataclass
class Guest:
    """A guest with one adapter, watched."""

    subject: Subject
    checker: WireChecker
    device: Netvsc
    host: IpHost
    name: str = ""

    def sh(self, script: str) -> str:
        done = self.subject.sh(script)
        assert done.ok, (script, done.text, self.subject.machine.transcript.content()[-1500:])
        return done.text.strip()

    def up(self, mtu: int | None = None) -> None:
        """Load the driver and take the address that DHCP gives."""
        self.subject.sh("modprobe hv_netvsc")
        find = "for d in /sys/class/net/*/device/driver; do readlink -f $d; echo $d; done | grep -A1 netvsc"
        Deadline.after(PATIENCE.command_s).wait_until(
            lambda: "netvsc" in self.subject.sh(find).text, "an interface of netvsc's"
        )
        self.name = self.sh(find).splitlines()[-1].split("/")[4]
        if mtu is not None:
            self.sh(f"ip link set {self.name} mtu {mtu}")
        self.sh(f"ip link set {self.name} up")
        told = self.sh(f"udhcpc -i {self.name} -n -q -f -s /bin/true -t 10 -T 1 2>&1")
        assert "10.9.8.2" in told, told
        self.sh(f"ip addr add 10.9.8.2/24 dev {self.name}")

    def ping(self, size: int, count: int = 3) -> None:
        told = self.sh(f"ping -q -c {count} -s {size} -W 10 10.9.8.1")
        assert f"{count} packets received, 0% packet loss" in told, told

    def carrier(self, up: bool) -> None:
        """Wait until the interface's carrier is so; reading it fails while the interface is down."""
        Deadline.after(PATIENCE.command_s).wait_until(
            lambda: self.subject.sh(f"cat /sys/class/net/{self.name}/carrier").text.strip() == str(int(up)),
            f"carrier {int(up)}",
        )

    def fetch(self) -> float:
        """Read from the source and check it: seconds on the host's clock."""
        begin = monotonic()
        told = self.sh("nc 10.9.8.1 19 </dev/null | md5sum")
        assert told.split()[0] == MD5, told
        return monotonic() - begin

    def put(self) -> float:
        """Send a file whose sum the guest computed, and have the host's sum back."""
        self.sh(f"[ -e /tmp/f ] || dd if=/dev/urandom of=/tmp/f bs=64k count={16 * MIB} 2>/dev/null")
        own = self.sh("md5sum /tmp/f").split()[0]
        begin = monotonic()
        told = self.sh("nc 10.9.8.1 9 </tmp/f")
        assert told.split() == [str(MIB << 20), own], (told, own)
        return monotonic() - begin

    def report(self) -> CheckReport:
        report = self.checker.report()
        for result in report.results:
            print(f"{result.rule.name:20} {result.comparisons:7} {result.verdict}")
        print(dict(self.device.send.packets), dict(sorted(self.device.send.ranges.items())),
              dict(self.device.frames), dict(self.host.drops))  # fmt: skip
        return report

    def compared(self, name: str) -> int:
        return sum(each.comparisons for each in self.checker.report().results if each.rule.name == name)


Start = Callable[..., Guest]


@pytest.fixture
def start(granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[Start]:
    """Boots a kernel with an adapter: `start("debian-16k", send_section_bytes=256)`."""
    machines: list[Machine] = []

    def begin(name: str, *, vcpus: int = 1, **options: Any) -> Guest:
        if not granule_kernels.available(name):
            pytest.skip(f"{name} is not in the cache: granule kernels fetch {name}")
        host = IpHost(
            {7: Echo, 9: lambda: Sink(len(CONTENT)), 19: lambda: Source(CONTENT), 80: lambda: Http(CONTENT)}
        )
        device = Netvsc(host, **options)
        (cell, *_) = plan(
            Request(kernels=(name,), accel=Accel.TCG), granule_kernels, granule_bench.qemu
        ).cells
        kernel = granule_kernels.get(name)
        spec = replace(
            machine_spec(cell, kernel, granule_bench),
            hyperv=hyperv_setup(granule_bench.cache), memory_mib=512, disks=(), vcpus=vcpus,
        )  # fmt: skip
        checkers: list[WireChecker] = []
        machine = Machine(
            spec, granule_bench.qemu, devices=[device],
            watch=lambda host: checkers.append(WireChecker(host.log, host.memory, cell.page_size.bytes)),
        )  # fmt: skip
        machines.append(machine)
        boot(machine, Symbols(kernel), PATIENCE, Record())
        subject = subject_of(cell, kernel, machine, PATIENCE, Deadline.after(PATIENCE.cell_s))
        return Guest(subject, checkers[0], device, host)

    yield begin
    for machine in machines:
        machine.close()


def _clean(guest: Guest, *rules: str) -> None:
    report = guest.report()
    assert guest.subject.machine.hyperv is not None
    assert guest.subject.machine.hyperv.log.violations == ()
    assert report.findings == ()
    for rule in rules:
        assert guest.compared(rule) > 0, rule


@pytest.mark.parametrize("kernel", KERNELS)
def test_page_buffers(start: Start, kernel: str) -> None:
    """With send sections of 256 bytes, packets go by page buffers, and arrive whole."""
    guest = start(kernel, send_section_bytes=256)
    guest.up()
    for size in PINGS:
        guest.ping(size)
    guest.put()
    guest.fetch()
    assert guest.device.send.packets["pages"] > 500
    _clean(
        guest, "netvsc.ranges", "netvsc.offset", "netvsc.consecutive", "netvsc.ram", "netvsc.descriptor",
        "netvsc.rndis",
    )  # fmt: skip


@pytest.mark.parametrize("kernel", DEBIAN)
def test_large_sends(start: Start, kernel: str) -> None:
    """Segments longer than the link takes come whole, in page buffers of several 4K pages."""
    guest = start(kernel, offload=Offload(large_send_bytes=60000))
    guest.up()
    guest.put()
    guest.fetch()
    assert guest.device.largest_frame > 3 * 1514  # nc writes 8 KiB at a time
    _clean(guest, "netvsc.consecutive", "netvsc.descriptor", "netvsc.rndis")


@pytest.mark.parametrize("kernel", DEBIAN)
def test_no_offload(start: Start, kernel: str) -> None:
    """Without offload the kernel sums up itself, and what it sums is right."""
    guest = start(kernel, offload=Offload(checksum=False))
    guest.up()
    guest.put()
    guest.fetch()
    assert not [reason for reason in guest.host.drops if "checksum" in reason]
    _clean(guest, "netvsc.rndis")


@pytest.mark.parametrize("kernel", DEBIAN)
def test_sub_channels(start: Start, kernel: str) -> None:
    """With two processors there are two channels; a new MTU takes the second away and brings another."""
    guest = start(kernel, vcpus=2)
    guest.up()
    for mtu in (1500, 3000):
        guest.sh(f"ip link set {guest.name} mtu {mtu}")
        Deadline.after(PATIENCE.command_s).wait_until(lambda: guest.device.sub_channels == 1, "a sub-channel")
        for _ in range(4):
            guest.put()
            guest.fetch()
    assert guest.device.frames["netvsc.1"] > 0
    _clean(guest, "netvsc.ring", "netvsc.section", "netvsc.rndis")


@pytest.mark.parametrize("kernel", DEBIAN)
def test_link(start: Start, kernel: str) -> None:
    """The cable pulled out and in again is the interface's carrier."""
    guest = start(kernel)
    guest.up()
    machine = guest.subject.machine
    assert machine.hyperv is not None
    for up in (False, True):
        with machine.hyperv.locked():
            guest.device.set_link(up)
        guest.carrier(up)
    guest.ping(100)
    _clean(guest, "netvsc.rndis")
