"""Tests of harness.qemu.frozen against a monitor and a gdbstub of our own."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.memory.ram import WritableMemory
from harness.qemu.frozen import Frozen

PAN = 1 << 22
HOST = 1 << 34 | 1 << 27
MTREE = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-000000000000ffff (prio 0, i/o): io

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0
  0000000008080000-000000000808ffff (prio 0, i/o): control
  0000000040000000-0000000057ffffff (prio 0, ram): ram
  0000008000000000-000000ffffffffff (prio -1, i/o): gpex_mmio_window @0000008000000000

FlatView #2
 AS "other", root: other
  0000000000001000-0000000000001fff (prio 0, i/o): other
"""


class _Gdb:
    """Two vCPUs with a PSTATE each."""

    def __init__(self, *pstate: int, hcr: int = 0) -> None:
        self.pstate = {f"p1.{number}": value for number, value in enumerate(pstate)}
        self.hcr = hcr
        self.writes: list[tuple[str, int, int]] = []

    def registers(self, thread: str, names: tuple[str, ...], deadline: Deadline) -> dict[str, int]:
        """The stub's answer."""
        return {"cpsr": self.pstate[thread], "HCR_EL2": self.hcr} if "cpsr" in names else {}

    def set_register(self, thread: str, name: str, value: int, size_bytes: int, deadline: Deadline) -> None:
        """The stub takes a register."""
        assert name == "cpsr"
        self.pstate[thread] = value
        self.writes.append((thread, value, size_bytes))


class _Monitor:
    """Answers HMP commands with one text, and keeps what was asked."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def execute(self, command: str, deadline: Deadline, **arguments: object) -> str:
        """The monitor's answer."""
        assert command == "human-monitor-command"
        self.asked.append(arguments)
        return self.answer

    def execute_all(self, command: str, arguments: list[dict[str, Any]], deadline: Deadline) -> list[str]:
        """The same answer to each."""
        assert command == "human-monitor-command"
        self.asked += arguments
        return [self.answer] * len(arguments)


def _frozen(gdb: _Gdb | None = None, answer: str = "") -> Frozen:
    gdb = gdb or _Gdb(0x3C5)
    return Frozen(
        gdb=cast(Gdbstub, gdb), qmp=cast(Qmp, _Monitor(answer)), memory=cast(WritableMemory, None),
        vcpus=tuple(gdb.pstate),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "hcr", "during"),
    [
        (0x6000_0000 | PAN | 0x3C5, 0, 0x6000_0000 | 0x3C5),  # EL1h with PAN
        (0x6000_0000, 0, 0x6000_0005),  # EL0
        (PAN | 0x9, HOST, 0x9),  # EL2h, a host
        (0x0, HOST, 0x9),  # EL0 of a host
        (0x0, 1 << 34, 0x5),  # EL0 of a guest of a host
    ],
)
def test_a_vcpu_is_made_to_reach_both_halves_and_restored(before: int, hcr: int, during: int) -> None:
    """PAN is cleared and EL0 becomes the kernel's exception level, only as long as the context lasts."""
    gdb = _Gdb(0x3C5, before, hcr=hcr)
    with _frozen(gdb).privileged(1):
        assert gdb.pstate == {"p1.0": 0x3C5, "p1.1": during}
    assert gdb.pstate == {"p1.0": 0x3C5, "p1.1": before}
    assert {size_bytes for _, _, size_bytes in gdb.writes} == {4}


def test_pstate_is_restored_after_an_error() -> None:
    """What goes wrong within leaves PSTATE as it was."""
    gdb = _Gdb(PAN)
    with pytest.raises(RuntimeError, match="within"), _frozen(gdb).privileged():
        raise RuntimeError("within")
    assert gdb.pstate == {"p1.0": PAN}


@pytest.mark.parametrize(("answer", "pa"), [("gpa: 0x40201000\r\n", 0x4020_1000), ("Unmapped\r\n", None)])
def test_a_walk_is_asked_of_one_vcpu(answer: str, pa: int | None) -> None:
    """gva2gpa goes to the vCPU that was named, and its two answers are understood."""
    frozen = _frozen(answer=answer)
    assert frozen.debug_walk((0xFFFF_0000_0020_1000, 0x1000), 3) == (pa, pa)
    asked, _ = cast(Any, frozen.qmp).asked
    assert asked == {"command-line": "gva2gpa 0xffff000000201000", "cpu-index": 3}


def test_an_answer_that_makes_no_sense_is_an_error() -> None:
    """Anything else that QEMU says is told."""
    with pytest.raises(ChannelError, match="unknown command"):
        _frozen(answer="unknown command: 'gva2gpa'").debug_walk((0,))


def test_devices_of_the_memory_map() -> None:
    """Of the flat view of memory all but RAM, input and output included, and of no other address space."""
    assert _frozen(answer=MTREE).device_ranges() == (
        range(0x400_0000),
        range(0x808_0000, 0x809_0000),
        range(0x80_0000_0000, 0x100_0000_0000),
    )
    assert _frozen(answer="unknown command").device_ranges() == ()
