"""What a machine does with the host of a Hyper-V guest: makes it, starts it, stops the guest beside it."""

from __future__ import annotations

import contextlib
import mmap
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, UsageError
from harness.hyperv.calibration.conversation import Recorder
from harness.hyperv.channel import Device
from harness.hyperv.checker import WireChecker
from harness.hyperv.host import Host
from harness.hyperv.layout import MAX_VCPUS, Layout
from harness.hyperv.memory import GuestMemory
from harness.hyperv.peripherals import Peripherals
from harness.hyperv.placement import SEED_BYTES, Boot, place
from harness.hyperv.wire.numbers import VmbusVersion
from harness.spec import Accel, MachineSpec

__all__ = ["LINES", "GuestHost", "make_host"]

LINES: Final = ("doorbell", "qtest")
"""Sockets that such a machine has in addition."""
MONITOR_S = 10.0
# A vCPU is in the monitor for less than a millisecond at a time.
RETRY_S = 0.002


class GuestHost(Host):
    """The host of one machine's guest, with what ties it to QEMU."""

    peripherals: Peripherals
    """What the machine's spec has on the bus."""
    checker: WireChecker | None = None
    """Judges the wire, where the spec says by which page size."""
    recorder: Recorder
    """Keeps the channel messages of both sides."""
    asked_to_power_off = False

    def go(self, qmp: Qmp) -> None:
        """Begin to serve, and let the vCPUs run that QEMU was started without."""
        deadline = Deadline.after(MONITOR_S)
        vcpus = qmp.execute("query-cpus-fast", deadline)
        self.begin(vcpu["qom-path"] for vcpu in sorted(vcpus, key=lambda each: int(each["cpu-index"])))
        qmp.execute("cont", deadline)

    def close(self) -> None:
        """End the thread and let go of guest memory and disks; safe to call again."""
        super().close()
        self.peripherals.close()

    def ask_to_power_off(self) -> bool:
        """Have the shutdown service ask the guest to; False where the guest has no driver that is ready."""
        with self.locked():
            self.asked_to_power_off = self.standard.shutdown.ask()
        return self.asked_to_power_off

    @contextlib.contextmanager
    def stopped(self, qmp: Qmp, gdb: Gdbstub, deadline: Deadline) -> Iterator[None]:
        """Have the vCPUs stopped, none of them in the monitor, and the devices leave memory alone.

        In the monitor a vCPU is at EL2, where no debugger's walk finds the kernel. Raises DeadlineExceeded
        when one does not leave it.
        """
        with contextlib.ExitStack() as held:

            def stop() -> bool:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(self.locked())
                    qmp.execute("stop", deadline)
                    stack.callback(_go_on, qmp)
                    if self.in_monitor() or self._pc_in_monitor(gdb, deadline):
                        return False
                    held.push(stack.pop_all())
                    return True

            deadline.wait_until(stop, "the vCPUs to leave the EL2 monitor", poll_s=RETRY_S)
            yield

    def _pc_in_monitor(self, gdb: Gdbstub, deadline: Deadline) -> bool:
        code = range(self.layout.monitor_pa, self.layout.monitor_end_pa)
        return any(gdb.registers(vcpu, ("pc",), deadline).get("pc") in code for vcpu in gdb.vcpus(deadline))


def _go_on(qmp: Qmp) -> None:
    with contextlib.suppress(ChannelError, DeadlineExceeded):
        qmp.execute("cont", Deadline.after(MONITOR_S))


def make_host(
    spec: MachineSpec, ram: int, devices: Sequence[Device], lines: Mapping[str, socket.socket]
) -> GuestHost:
    """Put kernel, tables and monitor into RAM, whose descriptor is `ram`, and make the host.

    Raises UsageError for what such a machine cannot have.
    """
    assert spec.hyperv is not None  # noqa: S101 - whoever calls this looked
    if spec.accel is not Accel.TCG:
        raise UsageError("a Hyper-V machine needs --accel tcg: under KVM, EL2 is the host's own")
    if spec.vcpus > MAX_VCPUS:
        raise UsageError(f"a Hyper-V machine has {MAX_VCPUS} vCPUs at most, and this asks for {spec.vcpus}")
    if spec.exact is not None:
        raise UsageError("a Hyper-V machine cannot be run so that it repeats: its host is not in the count")
    layout = Layout(ram_bytes=spec.memory_mib << 20)
    major, minor = spec.hyperv.vmbus
    try:
        maximum = VmbusVersion(major << 16 | minor)
    except ValueError:
        known = ", ".join(version.label for version in VmbusVersion)
        raise UsageError(f"there is no VMBus {major}.{minor}; there are {known}") from None
    memory = GuestMemory(mmap.mmap(ram, layout.ram_bytes))
    kernel, initrd = spec.direct
    boot = Boot(
        kernel=kernel, initrd=initrd, cmdline=spec.cmdline, monitor=spec.hyperv.monitor,
        firmware=spec.hyperv.firmware, vcpus=spec.vcpus, seed=secrets.token_bytes(SEED_BYTES),
    )  # fmt: skip
    place(memory, layout, boot)
    peripherals = Peripherals(spec.hyperv)
    host = GuestHost(
        memory, layout, spec.vcpus, (*peripherals.devices, *devices),
        doorbell=lines["doorbell"], qtest=lines["qtest"], maximum=maximum,
    )  # fmt: skip
    host.peripherals = peripherals
    host.recorder = Recorder()
    host.log.subscribe(host.recorder)
    host.bus.services = peripherals.sockets
    if spec.hyperv.page_size is not None:
        host.checker = WireChecker(host.log, memory, spec.hyperv.page_size.bytes)
    return host
