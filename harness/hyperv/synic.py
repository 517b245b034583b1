"""The synthetic interrupt controller: registers of each virtual processor, messages, event flags.

Source: TLFS, chapter 11 "Virtual Interrupt Controller"; Linux drivers/hv/hv.c, hv_synic_enable_regs() and
vmbus_on_msg_dpc(). One SINT is in use, 2 (VMBUS_MESSAGE_SINT).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from harness.hyperv.memory import HV_PAGE_BYTES, GuestMemory, fence
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.messages import MESSAGE_BYTES
from harness.hyperv.wire.numbers import Register
from harness.hyperv.wirelog import WireLog

__all__ = ["MAX_QUEUED", "MAX_RELID", "VMBUS_SINT", "Synic"]

VMBUS_SINT: Final = 2
MAX_RELID: Final = 2047
"""Event flags of a SINT: 256 bytes."""
MAX_QUEUED: Final = 1024
"""Messages that wait for one virtual processor."""
_SLOT_BYTES: Final = 256
_MESSAGE_PENDING: Final = 1
_CHANNEL_MESSAGE: Final = 1
"""HVMSG type of what VMBus sends (drivers/hv: hv_message_type 1)."""
_SINT_MASKED: Final = 1 << 16


class Synic:
    """The SynIC of all virtual processors.

    `interrupt(vp)` raises the interrupt of the VMBus on that processor: Linux takes the one of firmware's
    choice, whatever vector it writes into SINT2.
    """

    def __init__(self, memory: GuestMemory, vps: int, interrupt: Callable[[int], None], log: WireLog) -> None:
        self.vps = vps
        self._memory = memory
        self._interrupt = interrupt
        self._log = log
        self._registers: dict[tuple[int, int], int] = {}
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in range(vps))

    def get(self, vp: int, register: Register) -> int:
        """What a processor's register was set to, 0 at first."""
        return self._registers.get((vp, register), 0)

    def set(self, vp: int, register: Register, value: int) -> None:
        """Set a register; raises Violated where it names a page that is not RAM."""
        if register is Register.EOM:
            self.end_of_message(vp)
            return
        # Shown before it is judged: what is refused is what a checker wants to see.
        self._log.tell(lambda observer: observer.registered(vp, register, value))
        if register in (Register.SIMP, Register.SIEFP) and value & 1:
            page = value & ~(HV_PAGE_BYTES - 1)
            if not self._memory.has_page(page // HV_PAGE_BYTES):
                raise Violated(Rule.MEMORY, f"{register.name} of VP {vp} at {page:#x} is not RAM")
        self._registers[vp, register] = value
        if register is Register.SIMP:
            self.end_of_message(vp)

    def _page(self, vp: int, register: Register) -> int | None:
        """The address of SINT 2's slot in a page of a processor's, or None while it is not enabled."""
        value = self.get(vp, register)
        if not value & 1 or self.get(vp, Register.SINT2) & _SINT_MASKED:
            return None
        return (value & ~(HV_PAGE_BYTES - 1)) + VMBUS_SINT * _SLOT_BYTES

    def post(self, vp: int, payload: bytes) -> None:
        """Queue a message for a processor and deliver it as soon as its slot is free.

        Raises Violated when the guest takes none of the many that wait.
        """
        queue = self._queues[vp]
        if len(payload) > MESSAGE_BYTES:
            raise ValueError(f"a message of {len(payload)} bytes")
        if len(queue) >= MAX_QUEUED:
            raise Violated(Rule.STATE, f"VP {vp} takes no messages, and {MAX_QUEUED} wait for it")
        queue.append(payload)
        self.end_of_message(vp)

    def end_of_message(self, vp: int) -> None:
        """EOM: the slot may be free again."""
        queue, slot = self._queues[vp], self._page(vp, Register.SIMP)
        if not queue or slot is None:
            return
        if self._memory.load32(slot):
            # Busy. The flag makes the guest write EOM; looked at again in case it was emptied meanwhile.
            self._memory.write(slot + 5, bytes([_MESSAGE_PENDING]))
            fence()
            if self._memory.load32(slot):
                return
        payload = queue.popleft()
        self._memory.write(slot + 16, payload)
        pending = _MESSAGE_PENDING if queue else 0
        self._memory.write(slot + 4, struct.pack("<BBHQ", len(payload), pending, 0, 0))
        fence()
        self._memory.store32(slot, _CHANNEL_MESSAGE)
        self._interrupt(vp)

    def waiting(self, vp: int) -> int:
        """Messages queued for a processor."""
        return len(self._queues[vp])

    def signal(self, vp: int, relid: int) -> None:
        """Set a channel's event flag on a processor and interrupt it.

        Relids in use are 8 apart, so that no byte holds two flags and a plain store of one is atomic.
        """
        page = self._page(vp, Register.SIEFP)
        if page is None:
            return
        self._memory.write(page + relid // 8, bytes([1 << relid % 8]))
        fence()
        self._interrupt(vp)

    def drop_messages(self) -> None:
        """Forget what waits: the guest has let go of the bus."""
        for queue in self._queues:
            queue.clear()
