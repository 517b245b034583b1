"""Hypercalls of an arm64 guest, as Linux makes them: `hvc #0` with the function id of SMCCC in x0.

Source: Linux arch/arm64/hyperv/hv_core.c and include/asm-generic/hyperv-tlfs.h; TLFS, chapter 3.
x1 is the control word, x2 and up the input. Only four calls are made.
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from harness.hyperv.memory import HV_PAGE_BYTES, GuestMemory
from harness.hyperv.synic import Synic
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.messages import MESSAGE_BYTES
from harness.hyperv.wire.numbers import HypercallCode, Register, Status
from harness.hyperv.wirelog import WireLog

__all__ = ["FUNCTION_ID", "GuestCrash", "Hypercalls", "MessagePort", "ReferenceClock"]

FUNCTION_ID: Final = 0x4600_0001
"""HV_FUNC_ID: SMCCC's vendor-specific hypervisor service call 1 (arch/arm64/include/asm/mshyperv.h)."""
FAST: Final = 1 << 16
REP_COMPLETE_SHIFT: Final = 32
REP_MASK: Final = 0xFFF
SELF: Final = 0xFFFF_FFFE
"""HV_VP_INDEX_SELF."""
POST_MESSAGE_BYTES: Final = 16 + MESSAGE_BYTES
CRASH_TEXT_BYTES: Final = HV_PAGE_BYTES
"""hv_kmsg_dump() gives one page of Hyper-V's at most (drivers/hv/hv_common.c)."""
_TICK_NS: Final = 100

# Bits of HV_REGISTER_FEATURES: reference counter, SynIC, hypercall registers, VP index; then, in the upper
# half, posting and signalling (include/asm-generic/hyperv-tlfs.h, HV_MSR_* and HV_POST_MESSAGES).
_FEATURES: Final = (1 << 1 | 1 << 2 | 1 << 5 | 1 << 6) | (1 << 4 | 1 << 5) << 32
_MISC_FEATURES: Final = 1 << 8
"""HV_FEATURE_GUEST_CRASH_MSR_AVAILABLE."""
_CRASH_NOTIFY: Final = 1 << 63
_CRASH_MESSAGE: Final = 1 << 62
_VERSION: Final = 20348 | (10 << 16 | 0) << 32
"""Of the hypervisor: build number, then major and minor version in the upper half; Windows Server 2022's."""


class MessagePort(Protocol):
    """What takes posted messages and signals: the bus."""

    def posted(self, connection: int, payload: bytes) -> Status:
        """A message of the guest's."""
        ...

    def signalled(self, connection: int) -> Status:
        """A signal of the guest's."""
        ...


class ReferenceClock:
    """The partition's reference counter (TLFS, chapter 12): 100 ns each, from when this was made."""

    def __init__(self) -> None:
        self._started_ns = time.monotonic_ns()

    def now(self) -> int:
        """Its value."""
        return (time.monotonic_ns() - self._started_ns) // _TICK_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCrash:
    """What a guest said through the crash registers when it panicked (hyperv_report_panic_msg())."""

    parameters: tuple[int, int, int]
    """P0: an error number or the panic's source; P1: the guest OS id; P2."""
    text: str
    """The end of its kernel log, a page of it at most; empty when it gave none."""


class Hypercalls:
    """Answers hypercalls; `handle` never raises for anything that a guest does."""

    def __init__(
        self, memory: GuestMemory, synic: Synic, port: MessagePort, log: WireLog, clock: ReferenceClock
    ) -> None:
        self._memory = memory
        self._synic = synic
        self._port = port
        self._log = log
        self._clock = clock
        self.counts: Counter[str] = Counter()
        """Calls by name, and those that do not exist together as `other`."""
        self.crash: GuestCrash | None = None
        """The first report of a crash, or the first with a text."""

    def handle(self, vp: int, x: list[int]) -> None:
        """Carry out the call in registers x0 to x17 of a processor and put its results there."""
        code = x[1] & 0xFFFF
        try:
            call = HypercallCode(code)
        except ValueError:
            self.counts["other"] += 1
            self._violation(vp, f"hypercall {code:#x} is not offered")
            x[0] = Status.INVALID_HYPERCALL_CODE
            return
        self.counts[call.name.lower()] += 1
        try:
            x[0] = self._carry_out(vp, call, x)
        except Violated as error:
            self._log.violated(error, f"VP {vp}")
            x[0] = Status.INVALID_PARAMETER

    def _carry_out(self, vp: int, call: HypercallCode, x: list[int]) -> int:
        fast = bool(x[1] & FAST)
        if call is HypercallCode.POST_MESSAGE:
            return Status.INVALID_HYPERCALL_INPUT if fast else self._post(x[2])
        if not fast:
            self._violation(vp, f"{call.name} with its input in memory, which Linux never does")
            return Status.INVALID_HYPERCALL_INPUT
        if call is HypercallCode.SIGNAL_EVENT:
            return self._port.signalled(x[2] & 0xFFFF_FFFF)
        if x[1] >> REP_COMPLETE_SHIFT & REP_MASK != 1 or x[3] & 0xFFFF_FFFF not in (SELF, vp):
            self._violation(
                vp, f"{call.name} of {x[1] >> REP_COMPLETE_SHIFT & REP_MASK} registers, VP {x[3]:#x}"
            )
            return Status.INVALID_PARAMETER
        try:
            register = Register(x[4] & 0xFFFF_FFFF)
        except ValueError:
            self._violation(vp, f"there is no register {x[4]:#x}")
            return Status.INVALID_PARAMETER
        if call is HypercallCode.GET_VP_REGISTERS:
            x[6], x[7] = self._get(vp, register)
        else:
            self._set(vp, register, x[6])
        return 1 << REP_COMPLETE_SHIFT

    def _violation(self, vp: int, what: str) -> None:
        self._log.violated(Violated(Rule.HYPERCALL, what), f"VP {vp}")

    def _post(self, pa: int) -> int:
        if pa % 8:
            return Status.INVALID_ALIGNMENT
        if pa % HV_PAGE_BYTES + POST_MESSAGE_BYTES > HV_PAGE_BYTES:
            raise Violated(Rule.HYPERCALL, f"the input at {pa:#x} crosses a 4 KiB page (TLFS 3.4)")
        raw = self._memory.read(pa, POST_MESSAGE_BYTES)
        connection, _, _, size_bytes = struct.unpack_from("<IIII", raw)
        if size_bytes > MESSAGE_BYTES:
            raise Violated(
                Rule.HYPERCALL, f"a message of {size_bytes} bytes, where {MESSAGE_BYTES} is the limit"
            )
        return self._port.posted(connection, raw[16 : 16 + size_bytes])

    def _get(self, vp: int, register: Register) -> tuple[int, int]:
        """The 128 bits of a register."""
        if register is Register.HYPERVISOR_VERSION:
            return _VERSION, 0
        if register is Register.FEATURES:
            return _FEATURES, _MISC_FEATURES
        if register is Register.CRASH_CTL:
            return _CRASH_NOTIFY | _CRASH_MESSAGE, 0
        if register is Register.VP_INDEX:
            return vp, 0
        if register is Register.TIME_REF_COUNT:
            return self._clock.now(), 0
        return self._synic.get(vp, register), 0

    def _set(self, vp: int, register: Register, value: int) -> None:
        self._synic.set(vp, register, value)
        told = self.crash is not None and bool(self.crash.text)
        if register is Register.CRASH_CTL and value & _CRASH_NOTIFY and not told:
            self.crash = self._read_crash(vp, value)

    def _read_crash(self, vp: int, control: int) -> GuestCrash:
        p = [self._synic.get(vp, Register(Register.CRASH_P0 + index)) for index in range(5)]
        text = b""
        if control & _CRASH_MESSAGE and p[4]:
            if p[4] > CRASH_TEXT_BYTES or p[3] % HV_PAGE_BYTES:
                self._violation(
                    vp, f"a crash report of {p[4]} bytes at {p[3]:#x}: 4 KiB of one page is the limit"
                )
            text = self._memory.read(p[3], min(p[4], CRASH_TEXT_BYTES))
        return GuestCrash(parameters=(p[0], p[1], p[2]), text=text.decode(errors="replace"))
