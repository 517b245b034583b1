"""The host of a Hyper-V guest: a thread that answers its calls and serves its devices.

    vCPU ──mailbox in RAM, then a byte──> doorbell (a socket) ──> this thread
    this thread ──answer in the mailbox──> qtest: a line that wakes the vCPU, or an interrupt for the guest

The doorbell is the transmitter of a 16550 (`pci-serial`) that no firmware table tells of: the guest could
find it by scanning PCI, and write bytes into a socket of ours, which mean no more than `look`. A vCPU waits
in WFI at EL2, so that QEMU halts it. What wakes it is its VFIQ input, which is never delivered as an
interrupt (HCR_EL2.FMO is 0) but counts as work (QEMU target/arm/cpu.c, arm_cpu_has_work()).
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Final

from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.hyperv.channel import Device
from harness.hyperv.devices.standard import StandardDevices
from harness.hyperv.firmware import virt
from harness.hyperv.hypercall import GuestCrash, Hypercalls, ReferenceClock
from harness.hyperv.layout import BootBlock, Layout, Mailbox, VcpuState
from harness.hyperv.memory import GuestMemory, fence
from harness.hyperv.qtest import LineClosed, Qtest
from harness.hyperv.smccc import Calls, ExceptionClass
from harness.hyperv.synic import Synic
from harness.hyperv.vmbus import POLL_S, VmBus
from harness.hyperv.wire.numbers import VmbusVersion
from harness.hyperv.wirelog import WireLog

__all__ = ["Host"]

SETUP_S = 10.0
_DOORBELL_BYTES = 4096
_LOWER_S: Final = 0.0005
"""How soon to look again whether a vCPU that was woken has seen it."""

_VFIQ: Final = 3
"""ARM_CPU_VFIQ: the CPU's fourth input (QEMU target/arm/cpu.h)."""
_ISPENDR0: Final = 0x1_0000 + 0x200
"""GICR_ISPENDR0, in the redistributor's second frame."""

# The doorbell on PCI: bus 0, device 30. QEMU has ECAM above RAM unless the CPU's addresses do not reach.
DOORBELL_SLOT: Final = 30
_ECAMS: Final = (0x40_1000_0000, 0x3F00_0000)
_SERIAL_ID: Final = 0x0002_1B36
"""Red Hat's pci-serial (QEMU docs/specs/pci-ids.rst)."""
_COMMAND, _BAR0 = 0x04, 0x10
_IO_ENABLE: Final = 1
_IO_WINDOW_PA: Final = 0x3EFF_0000
_IO_PORT: Final = 0x1000


class Host:
    """Serves one guest, from `begin` to `close`; a context manager.

    Arguments: `devices`, beside the standard ones; `doorbell` and `qtest`, our ends of QEMU's; `maximum`, the
    newest version of VMBus to agree to.
    Anything of its objects' may be touched from another thread inside `locked` only.
    """

    def __init__(
        self, memory: GuestMemory, layout: Layout, vcpus: int, devices: Iterable[Device], *,
        doorbell: socket.socket, qtest: socket.socket, maximum: VmbusVersion = VmbusVersion.V5_3,
    ) -> None:  # fmt: skip
        self.log = WireLog()
        self.memory = memory
        self.layout = layout
        self._vcpus = vcpus
        self._interrupts: set[int] = set()
        self.synic = Synic(memory, vcpus, self._interrupts.add, self.log)
        clock = ReferenceClock()
        self.standard = StandardDevices.make(clock.now)
        self.bus = VmBus(memory, self.synic, (*self.standard, *devices), self.log, maximum=maximum)
        self.hypercalls = Hypercalls(memory, self.synic, self.bus, self.log, clock)
        self._calls = Calls(memory, layout, vcpus, self.hypercalls)
        self._doorbell = doorbell
        self._doorbell.setblocking(False)
        self._qtest = Qtest(qtest)
        self._wake, self._wakes = socket.socketpair()
        self._lock = threading.Lock()
        # A thread that takes its lock again at once leaves nobody else a chance: whoever waits holds this.
        self._turnstile = threading.Lock()
        self._stopping = False
        self._cpu_paths: tuple[str, ...] = ()
        self._raised: set[int] = set()
        self._next_poll_s = 0.0
        self.failure = ""
        """Why the thread ended before QEMU did, in words; empty as long as all is well."""
        self.answered = 0
        """Calls of the guest's that were answered."""
        self._thread = threading.Thread(target=self._run, name="hyper-v", daemon=True)

    def begin(self, cpu_paths: Iterable[str]) -> None:
        """Set the doorbell up and start to serve; QEMU's vCPUs are stopped until this returns.

        `cpu_paths`: QOM paths of the vCPUs, in order. Raises ChannelError where QEMU is not as expected.
        """
        self._cpu_paths = tuple(cpu_paths)
        deadline = Deadline.after(SETUP_S)
        offset = DOORBELL_SLOT << 15
        for ecam in _ECAMS:
            with contextlib.suppress(ChannelError):
                if self._qtest.ask(f"readl {ecam + offset:#x}", deadline) == _SERIAL_ID:
                    break
        else:
            raise ChannelError("QEMU has no pci-serial where the doorbell should be")
        self._qtest.push(
            f"writel {ecam + offset + _BAR0:#x} {_IO_PORT:#x}",
            f"writel {ecam + offset + _COMMAND:#x} {_IO_ENABLE:#x}",
        )
        self.memory.write(
            self.layout.boot_block_pa + BootBlock.DOORBELL, struct.pack("<Q", _IO_WINDOW_PA + _IO_PORT)
        )
        self._thread.start()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and let go of guest memory; safe to call again."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._wakes.send(b"x")
        if self._thread.is_alive():
            self._thread.join()
        self._wake.close()
        self._wakes.close()
        self.memory.close()

    @property
    def crash(self) -> GuestCrash | None:
        """What the guest reported of its panic."""
        return self.hypercalls.crash

    @contextlib.contextmanager
    def locked(self) -> Iterator[VmBus]:
        """Keep the thread from doing anything: to read what it keeps, call a device, or look at memory."""
        with self._turnstile:
            self._lock.acquire()
        try:
            yield self.bus
            if self._thread.is_alive():
                self._flush()
        finally:
            self._lock.release()

    def in_monitor(self) -> tuple[int, ...]:
        """vCPUs that wait for an answer of ours; ask inside `locked`, with the vCPUs stopped."""
        return tuple(vcpu for vcpu in range(self._vcpus) if self._state(vcpu) != VcpuState.IDLE)

    # The thread

    def _run(self) -> None:
        poll = select.poll()
        for line in (self._doorbell.fileno(), self._qtest.fileno(), self._wake.fileno()):
            poll.register(line, select.POLLIN)
        more = False
        try:
            while not self._stopping:
                ready = {line for line, _ in poll.poll(0 if more else self._patience_s() * 1000)}
                with self._turnstile:
                    pass
                with self._lock:
                    more = self._turn(ready)
        except LineClosed:
            pass  # whoever runs QEMU learns of its end, and why, from QEMU
        except ChannelError as error:
            self.failure = str(error)
        except Exception:  # noqa: BLE001 - a fault of ours: whoever waits for the guest is told
            self.failure = f"granule's host of the guest failed: {traceback.format_exc(limit=-4)}"

    def _patience_s(self) -> float:
        left_s = max(0.0, self._next_poll_s - time.monotonic())
        return min(_LOWER_S, left_s) if self._raised else left_s

    def _turn(self, ready: set[int]) -> bool:
        """Everything that is to be done now; True when there is more already. `ready`: lines to be read."""
        self._read_lines(ready)
        for vcpu in range(self._vcpus):
            state = self._state(vcpu)
            if state != VcpuState.ANSWERED and vcpu in self._raised:
                self._raised.remove(vcpu)
                self._qtest.push(f"set_irq_in {self._cpu_paths[vcpu]} unnamed-gpio-in {_VFIQ} 0")
            if state == VcpuState.ASKED:
                self._answer(vcpu)
            elif state == VcpuState.DEAD:
                raise ChannelError(f"the EL2 monitor met an exception on vCPU {vcpu}: {self._syndrome(vcpu)}")
        more = self.bus.serve()
        now_s = time.monotonic()
        if now_s >= self._next_poll_s:
            self._next_poll_s = now_s + POLL_S
            self.bus.poll(now_s)
        self._flush()
        return more

    def _read_lines(self, ready: set[int]) -> None:
        if self._doorbell.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                if not self._doorbell.recv(_DOORBELL_BYTES):
                    raise LineClosed("QEMU closed the doorbell")
        if self._qtest.fileno() in ready:
            self._qtest.drain()

    def _state(self, vcpu: int) -> int:
        return self.memory.load32(self.layout.mailbox_pa(vcpu) + Mailbox.STATE)

    def _syndrome(self, vcpu: int) -> str:
        raw = self.memory.read(self.layout.mailbox_pa(vcpu) + Mailbox.SYNDROME, 24)
        esr, elr, far = struct.unpack("<QQQ", raw)
        return f"ESR_EL2 {esr:#x}, ELR_EL2 {elr:#x}, FAR_EL2 {far:#x}"

    def _answer(self, vcpu: int) -> None:
        """Answer the call in a vCPU's mailbox and wake it."""
        pa = self.layout.mailbox_pa(vcpu)
        raw = self.memory.read(pa, Mailbox.SYNDROME + 8)
        *x, esr = struct.unpack(f"<{Mailbox.REGISTER_COUNT + 1}Q", raw)
        if esr >> 26 not in (ExceptionClass.HVC64, ExceptionClass.SMC64):
            raise ChannelError(
                f"vCPU {vcpu} trapped to EL2 for what is no call: {self._syndrome(vcpu)}. This CPU model"
                " has a trap that the monitor does not turn off; try another with --cpu"
            )
        action = self._calls.handle(vcpu, esr >> 26, x)
        self.memory.write(pa, struct.pack(f"<{Mailbox.REGISTER_COUNT}Q", *x))
        self.memory.store32(pa + Mailbox.ACTION, action)
        fence()
        self.memory.store32(pa + Mailbox.STATE, VcpuState.ANSWERED)
        self.answered += 1
        self._raised.add(vcpu)
        self._qtest.push(f"set_irq_in {self._cpu_paths[vcpu]} unnamed-gpio-in {_VFIQ} 1")

    def _flush(self) -> None:
        """Raise the interrupts that were asked for."""
        if self._interrupts:
            registers = (virt.GICR_PA + vcpu * virt.GICR_STRIDE + _ISPENDR0 for vcpu in self._interrupts)
            self._qtest.push(*(f"writel {pa:#x} {1 << virt.VMBUS_INTID:#x}" for pa in registers))
            self._interrupts.clear()
