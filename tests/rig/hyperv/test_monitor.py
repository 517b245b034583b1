"""Tests of the EL2 monitor and the host's thread, with a guest of ours that does nothing but call."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.assemble import assemble
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.hyperv.monitor import build_monitor
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.probe import Qemu
from harness.spec import Hyperv, MachineSpec

SOURCE = Path(__file__).with_name("caller.S")
RESULTS_PA = RAM_BASE_PA + (16 << 20)
DOORBELL_PA = 0x3EFF_1000
COUNTER_HZ = 62_500_000
"""CNTFRQ_EL0 of QEMU's emulated CPUs."""
CALLS = 300
FLOOD = 20_000


@pytest.fixture(scope="module")
def kept() -> Iterator[Cache]:
    """Where binaries are kept."""
    with Cache() as cache:
        yield cache


def _spec(kept: Cache, tmp_path: Path, *, vcpus: int, cpu: str, delay: int = 1) -> MachineSpec:
    numbers = {
        "CALLS": CALLS, "DELAY": delay, "VCPUS": vcpus, "FLOOD": FLOOD, "RESULTS_PA": RESULTS_PA,
        "DOORBELL_PA": DOORBELL_PA,
    }  # fmt: skip
    image = assemble(Toolchain.find(), kept, SOURCE, numbers, what="a guest that calls")
    nothing = tmp_path / "initrd"
    nothing.write_bytes(b"")
    return MachineSpec(
        kernel=image, initrd=nothing, cmdline="", cpu=cpu, vcpus=vcpus, memory_mib=64,
        hyperv=Hyperv(monitor=build_monitor(Toolchain.find(), kept)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("vcpus", "cpu"), [(1, "neoverse-n1"), (2, "cortex-a76"), (4, "max"), (2, "a64fx"), (1, "cortex-a57")]
)
def test_every_call_is_answered(kept: Cache, qemu: Qemu, tmp_path: Path, vcpus: int, cpu: str) -> None:
    """Each vCPU runs at EL1 and gets every answer, other registers unchanged; a flooded doorbell is harmless.

    How long a call takes is printed, not judged.
    """
    spec = _spec(kept, tmp_path, vcpus=vcpus, cpu=cpu)
    with Machine(spec, qemu) as machine:
        assert machine.hyperv is not None
        assert machine.process.wait(Deadline.after(120)) == 0
        assert machine.is_off, CLEAN_END
        assert machine.hyperv.failure == ""
        assert machine.hyperv.log.violations == ()
        assert machine.hyperv.hypercalls.counts == {"get_vp_registers": CALLS * vcpus}
        for vcpu in range(vcpus):
            raw = os.pread(machine.ram, 32, RESULTS_PA - RAM_BASE_PA + vcpu * 64)
            done, ticks, right, level = struct.unpack("<QQQQ", raw)
            assert (done, right, level >> 2) == (1, CALLS, 1)
            print(f"{cpu}, vCPU {vcpu}: {ticks / COUNTER_HZ / CALLS * 1e6:.0f} us a call")


def test_a_waiting_vcpu_is_halted(kept: Cache, qemu: Qemu, tmp_path: Path) -> None:
    """While the host lets a vCPU wait for its answer, its thread sleeps: it never runs or wants to."""
    spec = _spec(kept, tmp_path, vcpus=1, cpu="neoverse-n1", delay=10_000_000)
    with Machine(spec, qemu) as machine, contextlib.ExitStack() as held:
        host = machine.hyperv
        assert host is not None

        def between_calls() -> bool:
            """Hold the host where the vCPU has seen its last answer, and the line that woke it is low."""
            with contextlib.ExitStack() as stack:
                stack.enter_context(host.locked())
                if host.answered < 3 or host.in_monitor() or host._raised:
                    return False
                held.push(stack.pop_all())
                return True

        Deadline.after(60).wait_until(between_calls, "the guest to have made calls")
        Deadline.after(60).wait_until(lambda: host.in_monitor() == (0,), "the next call", poll_s=0.001)
        (vcpu,) = machine.qmp.execute("query-cpus-fast", Deadline.after(10))
        thread = Path(f"/proc/{machine.process.pid}/task/{vcpu['thread-id']}/stat")
        Deadline.after(60).wait_until(lambda: _state(thread) == "S", "the vCPU's thread to sleep")
        with pytest.raises(DeadlineExceeded):
            Deadline.after(0.5).wait_until(lambda: _state(thread) != "S", "the vCPU's thread to run")
        assert host.in_monitor() == (0,)


def _state(thread: Path) -> str:
    """proc(5): R while it runs or could, S while it sleeps."""
    return thread.read_text().rpartition(")")[2].split()[0]
