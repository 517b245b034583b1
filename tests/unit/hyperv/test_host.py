"""Tests of harness.hyperv.host and qtest with a QEMU of our own: two sockets, and vCPUs as bytes in RAM."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.hyperv.firmware.virt import GICR_PA
from harness.hyperv.host import Host
from harness.hyperv.layout import Layout
from harness.hyperv.memory import GuestMemory
from harness.hyperv.qtest import LineClosed, Qtest

RAM_BYTES = 4 << 20
HVC, SMC, DATA_ABORT = 0x16 << 26, 0x17 << 26, 0x24 << 26
ASKED, ANSWERED, DEAD = 1, 2, 3
HYPERCALL = 0x4600_0001
GET = 0x50 | 1 << 16 | 1 << 32


@dataclass
class FakeQemu:
    """Answers qtest commands and keeps them; the doorbell is a socket."""

    ecam: int = 0x40_1000_0000
    refuses: str = ""
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.qtest, self._ours = socket.socketpair()
        self.doorbell, self.ring = socket.socketpair()
        self.ram = bytearray(RAM_BYTES)
        self.memory = GuestMemory(self.ram)
        self.layout = Layout(ram_bytes=RAM_BYTES)
        self.host = Host(self.memory, self.layout, 2, (), doorbell=self.doorbell, qtest=self.qtest)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # The host may end with answers unread, which resets the line.
        with contextlib.suppress(OSError), self._ours.makefile("rb") as lines:
            for raw in lines:
                line = raw.decode().strip()
                self.commands.append(line)
                answer = "OK"
                if line.startswith("readl"):
                    there = int(line.split()[1], 16) == self.ecam + (30 << 15)
                    answer = f"OK {0x21B36 if there else 0xFFFFFFFF:#018x}"
                if self.refuses and self.refuses in line:
                    answer = "FAIL Unknown command"
                self._ours.sendall(answer.encode() + b"\n")

    def begin(self) -> None:
        self.host.begin(("/cpu0", "/cpu1"))

    def call(self, vcpu: int, *x: int, syndrome: int = HVC, state: int = ASKED) -> None:
        """What the monitor does for a vCPU that traps."""
        at = self.layout.mailbox_pa(vcpu)
        registers = [*x, *([0] * 18)][:18]
        self.memory.write(at, struct.pack("<18QQQQ", *registers, syndrome, 0xE1, 0xFA))
        self.memory.store32(at + 168, state)
        self.ring.send(b"\1")

    def answer(self, vcpu: int) -> tuple[list[int], int]:
        """Registers and action, once the host has answered; the vCPU goes on."""
        at = self.layout.mailbox_pa(vcpu)
        Deadline.after(10).wait_until(lambda: self.memory.load32(at + 168) == ANSWERED, "an answer")
        self.memory.store32(at + 168, 0)
        return list(struct.unpack("<18Q", self.memory.read(at, 144))), self.memory.load32(at + 172)

    def wait_for(self, command: str) -> None:
        """A command has come."""
        Deadline.after(10).wait_until(lambda: command in self.commands, command)

    def close(self) -> None:
        self.host.close()
        self.qtest.close()
        self._thread.join()
        for line in (self._ours, self.doorbell, self.ring):
            line.close()
        self.memory.close()


@pytest.fixture
def qemu() -> Iterator[FakeQemu]:
    """A QEMU whose vCPUs do what a test says."""
    made = FakeQemu()
    yield made
    made.close()


def test_a_call_is_answered_and_the_vcpu_woken(qemu: FakeQemu) -> None:
    """The answer is in the mailbox before the line is raised, and the line is lowered once it was seen."""
    qemu.begin()
    qemu.call(1, HYPERCALL, GET, 0, 0xFFFF_FFFE, 0x90003)
    x, action = qemu.answer(1)
    assert (x[0], x[6], action) == (1 << 32, 1, 0)
    qemu.wait_for("set_irq_in /cpu1 unnamed-gpio-in 3 1")
    qemu.wait_for("set_irq_in /cpu1 unnamed-gpio-in 3 0")
    assert qemu.host.answered == 1


@pytest.mark.parametrize("ecam", [0x40_1000_0000, 0x3F00_0000])
def test_the_doorbell_is_found_and_set_up(ecam: int) -> None:
    """It is looked for where QEMU may have put PCI, given its address, and the monitor is told."""
    qemu = FakeQemu(ecam=ecam)
    qemu.begin()
    qemu.wait_for(f"writel {ecam + (30 << 15) + 0x10:#x} 0x1000")
    qemu.wait_for(f"writel {ecam + (30 << 15) + 4:#x} 0x1")
    told = struct.unpack("<Q", qemu.memory.read(qemu.layout.boot_block_pa + 16, 8))
    assert told == (0x3EFF_1000,)
    qemu.close()


def test_a_qemu_without_a_doorbell_is_refused() -> None:
    """Where there is no such device the machine does not start, and says why."""
    qemu = FakeQemu(ecam=0)
    with pytest.raises(ChannelError, match="pci-serial"):
        qemu.begin()
    qemu.close()


def test_psci_is_passed_on_by_way_of_the_monitor(qemu: FakeQemu) -> None:
    """CPU_ON starts a vCPU in the monitor, the kernel's entry left for it; an unknown vCPU is refused."""
    qemu.begin()
    qemu.call(0, 0xC400_0003, 1, 0x4020_0000, 0x77)
    x, action = qemu.answer(0)
    assert action == 1
    assert x[2] == qemu.layout.secondary_pa
    assert struct.unpack("<QQ", qemu.memory.read(x[3], 16)) == (0x4020_0000, 0x77)
    qemu.call(0, 0xC400_0003, 2, 0x4020_0000, 0x77)
    x, action = qemu.answer(0)
    assert (x[0], action) == ((1 << 64) - 2, 0)


@pytest.mark.parametrize(
    ("function", "argument", "syndrome", "answer", "action"),
    [
        (0x8400_0000, 0, HVC, 0x8400_0000, 1),  # PSCI_VERSION: QEMU's to answer
        (0x8400_0008, 0, SMC, 0x8400_0008, 1),  # SYSTEM_OFF
        (0x8400_000A, 0x8000_0000, HVC, 0, 0),  # PSCI_FEATURES(SMCCC_VERSION): we have it
        (0x8400_000A, 0x8400_0001, HVC, 0x8400_000A, 1),
        (0x8000_0000, 0, HVC, 0x1_0002, 0),
        (0x8000_0001, 0x8000_8000, HVC, (1 << 64) - 1, 0),
        (0x8600_FF01, 0, HVC, 0x4D32_BA58, 0),
        (0xC600_1234, 0, HVC, (1 << 64) - 1, 0),
        (HYPERCALL, GET, SMC, (1 << 64) - 1, 0),  # hypercalls are HVC's
    ],
)
def test_calls_before_hyper_v(
    qemu: FakeQemu, function: int, argument: int, syndrome: int, answer: int, action: int
) -> None:
    """Each of SMCCC's questions has its answer, PSCI goes to QEMU, and what is neither is not supported."""
    qemu.begin()
    qemu.call(0, function, argument, syndrome=syndrome)
    x, seen = qemu.answer(0)
    assert (x[0], seen) == (answer, action)


def test_interrupts_go_through_the_gic(qemu: FakeQemu) -> None:
    """A message for VP 1 makes PPI 18 pending in that processor's redistributor, once."""
    qemu.begin()
    page = qemu.layout.monitor_pa - 4096
    for register, value in ((0xA0013, page | 1), (0xA0002, 18), (0x90002, 1)):
        qemu.call(1, HYPERCALL, 0x51 | 1 << 16 | 1 << 32, 0, 0xFFFF_FFFE, register, 0, value)
        qemu.answer(1)
    with qemu.host.locked():
        qemu.host.synic.post(1, b"message.")
    qemu.wait_for(f"writel {GICR_PA + 0x2_0000 + 0x1_0000 + 0x200:#x} {1 << 18:#x}")
    assert qemu.memory.read(page + 512 + 16, 8) == b"message."


def test_a_flood_of_the_doorbell_means_nothing(qemu: FakeQemu) -> None:
    """Bytes without a call in any mailbox are read and forgotten."""
    qemu.begin()
    qemu.ring.sendall(bytes(range(256)) * 200)
    qemu.call(0, 0x8000_0000)
    assert qemu.answer(0)[0][0] == 0x1_0002
    assert qemu.host.answered == 1
    assert qemu.host.failure == ""


def test_a_trap_that_is_no_call_is_our_failure(qemu: FakeQemu) -> None:
    """A CPU whose traps the monitor does not know ends the host's thread with what is needed to find out."""
    qemu.begin()
    qemu.call(1, 0, syndrome=DATA_ABORT | 0x123)
    Deadline.after(10).wait_until(lambda: bool(qemu.host.failure), "the failure")
    assert "vCPU 1" in qemu.host.failure
    assert f"{DATA_ABORT | 0x123:#x}" in qemu.host.failure


def test_a_dead_monitor_is_our_failure(qemu: FakeQemu) -> None:
    """An exception of the monitor's own is told with its syndrome."""
    qemu.begin()
    qemu.call(0, 0, syndrome=0x96000000, state=DEAD)
    Deadline.after(10).wait_until(lambda: "0x96000000" in qemu.host.failure, "the failure")


def test_the_end_of_qemu_is_no_failure(qemu: FakeQemu) -> None:
    """When QEMU closes its lines the thread ends quietly: whoever runs QEMU knows more."""
    qemu.begin()
    qemu.ring.close()
    Deadline.after(10).wait_until(lambda: not qemu.host._thread.is_alive(), "the thread's end")
    assert qemu.host.failure == ""


def test_a_refused_command_is_a_failure() -> None:
    """A QEMU that does not know set_irq_in is told of, not waited for."""
    qemu = FakeQemu(refuses="set_irq_in")
    qemu.begin()
    qemu.call(0, 0x8000_0000)
    Deadline.after(10).wait_until(lambda: "FAIL" in qemu.host.failure, "the failure")
    qemu.close()


def test_nothing_is_done_inside_locked(qemu: FakeQemu) -> None:
    """While somebody holds the lock a call waits; afterwards it is answered."""
    qemu.begin()
    with qemu.host.locked():
        qemu.call(0, 0x8000_0000)
        assert qemu.host.in_monitor() == (0,)
        assert qemu.memory.load32(qemu.layout.mailbox_pa(0) + 168) == ASKED
    assert qemu.answer(0)[0][0] == 0x1_0002


def test_closing_leaves_no_thread(qemu: FakeQemu) -> None:
    """`close` ends the thread, twice is harmless, and before `begin` it is too."""
    qemu.begin()
    qemu.host.close()
    qemu.host.close()
    assert not any(thread.name == "hyper-v" for thread in threading.enumerate())
    other = FakeQemu()
    other.close()


def test_answers_that_come_in_pieces() -> None:
    """qtest's lines are put together from what arrives, and an answer is its own command's."""
    ours, theirs = socket.socketpair()
    line = Qtest(ours)
    line.push("writel 0x1 0x2", "writel 0x3 0x4")
    for piece in (b"O", b"K\nOK", b"\n"):
        theirs.send(piece)
        line.drain()
    theirs.send(b"OK 0x0000000000000012\n")
    assert line.ask("readl 0x1", Deadline.after(5)) == 0x12
    theirs.close()
    with pytest.raises(LineClosed):
        line.drain()
    ours.close()
