"""A real guest that means harm, under a real QEMU: whatever it says, the host lives on and stays small."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.assemble import FREESTANDING_C, assemble
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.deadline import Deadline
from harness.hyperv.checker import WireChecker
from harness.hyperv.devices.balloon import Balloon
from harness.hyperv.devices.netvsc import Netvsc
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.monitor import build_monitor
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Sink
from harness.hyperv.scsi.backing import Backing
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.violation import Rule
from harness.hyperv.wirelog import MAX_KEPT
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.probe import Qemu
from harness.spec import Hyperv, MachineSpec

SOURCE = Path(__file__).with_name("hostile.c")
ARENA_PA = RAM_BASE_PA + (16 << 20)
RESULTS_PA = RAM_BASE_PA + (20 << 20)
TURNS = 4000
GROWTH_MIB = 96
DISK_BYTES = 1 << 20
LIMIT_S = 600.0


@pytest.fixture(scope="module")
def kept() -> Iterator[Cache]:
    """Where binaries are kept."""
    with Cache() as cache:
        yield cache


def _anonymous_mib() -> int:
    """Memory of this process that is nobody else's (proc(5)): the guest's RAM, a file, is left out."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) >> 10


@pytest.mark.parametrize("seed", range(1, 7))
def test_the_host_outlives_its_guest(kept: Cache, qemu: Qemu, tmp_path: Path, seed: int) -> None:
    """Random calls, registers, messages, rings and packets on open channels of every device.

    Nothing raises out of the host's thread, its last call is answered as it should be, what is wrong is
    recorded within bounds, and the host has not grown.
    """
    numbers = {"SEED": seed, "TURNS": TURNS, "ARENA_PA": ARENA_PA, "RESULTS_PA": RESULTS_PA}
    image = assemble(
        Toolchain.find(), kept, SOURCE, numbers, what="a guest that means harm", flags=FREESTANDING_C
    )
    nothing = tmp_path / "initrd"
    nothing.write_bytes(b"")
    spec = MachineSpec(
        kernel=image, initrd=nothing, cmdline="", cpu="neoverse-n1", vcpus=1, memory_mib=64,
        hyperv=Hyperv(monitor=build_monitor(Toolchain.find(), kept)),
    )  # fmt: skip
    checkers: list[WireChecker] = []
    before = _anonymous_mib()
    with Backing(DISK_BYTES) as backing:
        devices = (Storvsc(ScsiDisk(backing)), Netvsc(IpHost({9: lambda: Sink(1 << 20)})), Balloon())
        with Machine(
            spec, qemu, devices=devices,
            watch=lambda host: checkers.append(WireChecker(host.log, host.memory, 16384)),
        ) as machine:  # fmt: skip
            host = machine.hyperv
            assert host is not None
            assert machine.process.wait(Deadline.after(LIMIT_S)) == 0, host.failure
            assert machine.is_off, CLEAN_END
            assert host.failure == ""
            raw = os.pread(machine.ram, 32, RESULTS_PA - RAM_BASE_PA)
            turns, status, index, channels = struct.unpack("<QQQQ", raw)
            assert (turns, status, index) == (TURNS, 1 << 32, 0)
            print(f"{channels} channels; {dict(host.hypercalls.counts)}; {host.log.counts}")
            assert channels >= 1
            # It did come through to all layers.
            assert {Rule.MESSAGE, Rule.RING, Rule.PACKET} <= host.log.counts.keys()
            assert len(host.log.violations) <= MAX_KEPT
            checkers[0].report()
    assert _anonymous_mib() - before < GROWTH_MIB
