"""Reads an arm64 kernel's console as it comes and says what in it is trouble.

The bytes are untrusted: a guest may print megabytes, binary, escape sequences, or a line that never ends,
so what is kept is bounded (one line, one block). The forms looked for are those of the kernel's own source
(v6.12): arch/arm64/kernel/traps.c and process.c, arch/arm64/mm/fault.c, kernel/panic.c, lib/bug.c,
kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/hung_task.c, mm/oom_kill.c. Each is wanted at the start
of a message and nowhere else, so that a command line or a module's text that mentions a panic is not one.

May import the standard library and its own layer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from harness.linux.esr import describe_esr

__all__ = ["EventKind", "KernelLog", "LogEvent", "Oops", "describe_esr", "harmless"]

MAX_LINE_BYTES: Final = 4096
"""Longer than any record of printk's (1024 of text; a command line is 2048); the rest is dropped."""

MAX_BLOCK_LINES: Final = 120


class EventKind(Enum):
    """What a line, or the block that it opens, reports."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "bug"
    WARNING = "warning"
    LOCKUP = "lockup"
    TAINT = "taint"
    OOM = "oom"
    REBOOT = "reboot"
    POWER_OFF = "power off"
    INIT = "init"
    NEXT_KERNEL = "next kernel"
    ROOT_MISSING = "root missing"

    @property
    def is_fatal(self) -> bool:
        """True where the kernel does not go on, or not as the one that was being tested."""
        return self in (EventKind.PANIC, EventKind.OOPS, EventKind.REBOOT, EventKind.ROOT_MISSING)

    @property
    def is_finding(self) -> bool:
        """True for what a healthy kernel never prints."""
        return self not in (EventKind.POWER_OFF, EventKind.INIT, EventKind.NEXT_KERNEL)

    @property
    def opens_block(self) -> bool:
        """True where the lines that follow belong to it: registers, a call trace."""
        return self in (
            EventKind.PANIC,
            EventKind.OOPS,
            EventKind.BUG,
            EventKind.WARNING,
            EventKind.LOCKUP,
            EventKind.ROOT_MISSING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Oops:
    """The fields of a register dump; None or empty where the block lacks them or was cut short."""

    what: str
    """The line that opened it."""
    esr: int | None = None
    far: int | None = None
    """The address that faulted."""
    pc: str = ""
    """As printed: `vfs_read+0x1c/0x300`, with the module in brackets."""
    lr: str = ""
    comm: str = ""
    pid: int | None = None
    cpu: int | None = None
    tainted: str = ""
    """Taint letters without blanks, `GDO`; empty for a kernel that is not tainted."""
    call_trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """Something the kernel reported: the message without its time stamp, and the lines that belong to it."""

    kind: EventKind
    line: str
    context: tuple[str, ...] = ()
    oops: Oops | None = None
    """For a block that holds a register dump or a call trace."""

    @property
    def is_fatal(self) -> bool:
        """True for a fatal kind, and for a BUG() that ended in a die()."""
        return self.kind.is_fatal or any(line.startswith("Internal error: ") for line in self.context)


def _starts(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_KINDS: Final = (
    (
        EventKind.ROOT_MISSING,
        _starts(
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
            "Kernel panic - not syncing: No working init found",
            "Kernel panic - not syncing: Requested init ",
            "VFS: Unable to mount root fs",
            "No working init found",
        ),
    ),
    (EventKind.PANIC, _starts("Kernel panic - not syncing")),
    (
        EventKind.LOCKUP,
        _starts(
            r"(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for",
            r"(?:NMI watchdog: |watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu \d+",
            r"(?:workqueue: )?BUG: workqueue lockup - pool",
            r"(?:rcu: )?INFO: \S+ (?:self-)?detected (?:expedited )?stalls? on ",
            r"INFO: task .{1,64}:\d+ (?:is )?blocked .{0,64}more than \d+ seconds",
            r"INFO: task .{1,64}:\d+ blocked for more than",
        ),
    ),
    (
        EventKind.OOPS,
        _starts(
            "Internal error: ",
            "Unable to handle kernel .{1,100} at virtual address ",
            "Insufficient stack space to handle exception!",
            r"SError Interrupt on CPU\d+, code 0x",
            r"Bad mode in .{1,40} handler detected on CPU\d+",
        ),
    ),
    (
        EventKind.BUG,
        _starts(
            "[kK]ernel BUG at ",
            r"(?:\[ )?BUG: \S",
            r"BUG \S+ \((?:Not tainted|Tainted: )",  # mm/slub.c
            r"UBSAN: \S+ in ",
        ),
    ),
    (
        EventKind.WARNING,
        _starts(
            r"WARNING: CPU: \d+ PID: \d+ at ",  # __warn() of v6.12
            r"WARNING: .{0,400}\bat .{1,400}, CPU#\d+: ",  # __warn() of later kernels: the place comes first
            "WARNING: possible (?:circular locking|recursive locking|irq lock inversion)",
            r"WARNING: \S+-safe -> \S+-unsafe lock order",
            "WARNING: (?:inconsistent lock state|Nested lock was not taken|chain_key collision)",
            "WARNING: (?:bad unlock balance|bad contention|held lock freed|suspicious RCU usage)",
            "WARNING: (?:lock held when returning to user space|.{1,64} still has locks held!)",
        ),
    ),
    (
        EventKind.OOM,
        _starts("Out of memory: ", "Out of memory and no killable", "Memory cgroup out of memory: "),
    ),
    (
        EventKind.TAINT,
        _starts(r"(?:\S+: )?.{0,80}\btaint(?:s|ing) kernel", "Disabling lock debugging due to "),
    ),
    (EventKind.POWER_OFF, _starts("reboot: Power down", "reboot: System halted")),
    (EventKind.REBOOT, _starts("reboot: Restarting system")),
    (EventKind.INIT, _starts("granule: ")),
)
_BOOTING: Final = "Booting Linux on physical CPU "

# printk's own prefix: a level under earlycon, the time, and the caller with CONFIG_PRINTK_CALLER.
_STAMP: Final = re.compile(r"(?:<\d{1,2}>)?\[ *\d{1,10}\.\d{6}\](?: ?\[ *[TC]\d+\])? ?")
_CALLER: Final = re.compile(r"(?:<\d{1,2}>)?\[ *[TC]\d+\] ")
_FRAME: Final = re.compile(r"\s+\S|Code: |---\[ ")
_END: Final = re.compile(r"---\[ end (?:trace|Kernel panic)|={20,}$|Rebooting in \d+ seconds")


class KernelLog:
    """The state of one console: feed it bytes in any pieces; each event comes once its block is complete."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._stamped = False
        self._booted = False
        self._restarting = False
        self._next_expected = False
        self._open: EventKind | None = None
        self._block: list[str] = []
        self._in_trace = False

    @property
    def pending(self) -> EventKind | None:
        """What is being reported right now, its block not yet complete; None when nothing is."""
        return self._open

    def expect_kernel(self) -> None:
        """The kernel starts another (kexec): the next boot is that one's, and no reboot."""
        self._next_expected = True

    def feed(self, data: bytes) -> tuple[LogEvent, ...]:
        """Read more of the console; returns the events that it completed."""
        events: list[LogEvent] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            events += self._line(bytes(self._partial))
            self._partial.clear()
        self._keep(rest)
        return tuple(events)

    def finish(self) -> tuple[LogEvent, ...]:
        """The console has ended: read the last line, and close a block that never came to its end."""
        events = self._line(bytes(self._partial)) if self._partial else []
        self._partial.clear()
        return (*events, *self._close())

    def _keep(self, piece: bytes) -> None:
        self._partial += piece[: MAX_LINE_BYTES - len(self._partial)]

    def _line(self, raw: bytes) -> list[LogEvent]:
        message, is_kernels = self._message(harmless(raw).rstrip())
        if not is_kernels:
            return [LogEvent(kind=EventKind.INIT, line=message)] if message.startswith("granule: ") else []
        kind = self._kind(message)
        if self._open is not None:
            if self._belongs(message, kind):
                self._block.append(message)
                self._in_trace |= message == "Call trace:"
                if _END.match(message) or len(self._block) > MAX_BLOCK_LINES:
                    return self._close()
                return []
            closed = self._close()
        else:
            closed = []
        if kind is None:
            return closed
        if kind.opens_block:
            self._open, self._block, self._in_trace = kind, [message], False
            return closed
        return [*closed, LogEvent(kind=kind, line=message)]

    def _message(self, line: str) -> tuple[str, bool]:
        """The text after printk's prefix, and whether the kernel wrote it.

        A kernel that stamps its messages stamps all of them: a line without a stamp is then a program's, and
        what comes before a stamp is what a program left on that line.
        """
        stamp = _STAMP.match(line) or (_STAMP.search(line) if self._stamped else None)
        if stamp is not None:
            self._stamped = True
            return line[stamp.end() :], True
        caller = _CALLER.match(line)
        return (line[caller.end() :] if caller else line), not self._stamped

    def _kind(self, message: str) -> EventKind | None:
        if message.startswith(_BOOTING):
            again = self._booted and not self._restarting
            expected, self._next_expected = self._next_expected, False
            self._booted, self._restarting = True, False
            if expected:
                return EventKind.NEXT_KERNEL
            return EventKind.REBOOT if again else None
        kind = next((kind for kind, pattern in _KINDS if pattern.match(message)), None)
        if kind is EventKind.REBOOT:
            self._restarting = True
        return kind

    def _belongs(self, message: str, kind: EventKind | None) -> bool:
        """Whether a line is part of the block being collected, rather than what ends it."""
        if kind is EventKind.OOPS:
            # fault.c and bug.c say what happened, then die() prints "Internal error"; one block, one event.
            return not any(line.startswith("Internal error: ") for line in self._block) and self._open in (
                EventKind.OOPS,
                EventKind.BUG,
            )
        if kind is not None and not message.startswith("Disabling lock debugging due to "):  # by die() itself
            return False
        # These come without an end marker: the first line that is no frame of the trace ends them.
        ends_with_trace = self._open is EventKind.LOCKUP or self._block[0].startswith("BUG: ")
        is_report = any(name in self._block[0] for name in ("KASAN", "KFENCE", "KCSAN", "KMSAN"))
        if self._in_trace and ends_with_trace and not is_report:
            return _FRAME.match(message) is not None
        return True

    def _close(self) -> list[LogEvent]:
        if self._open is None:
            return []
        kind, block, self._open = self._open, self._block, None
        return [LogEvent(kind=kind, line=block[0], context=tuple(block[1:]), oops=_parse_oops(block))]


_ESR: Final = (
    re.compile(r"\s*ESR ?[=:] 0x([0-9a-f]{1,16})"),
    re.compile(r"Internal error: .*: ([0-9a-f]{8,16}) \[#"),
    re.compile(r"SError Interrupt on CPU\d+, code 0x([0-9a-f]{1,16})"),
)
_FAR: Final = (
    re.compile(r"Unable to handle kernel .* at virtual address ([0-9a-f]{1,16})"),
    re.compile(r"\s*FAR ?[=:] 0x([0-9a-f]{1,16})"),
)
_CPU: Final = re.compile(
    r"CPU: (?P<cpu>\d{1,6}) (?:UID: \d+ )?PID: (?P<pid>\d{1,10}) Comm: (?P<comm>.{1,20}?) +"
    r"(?:Kdump: loaded )?(?:Not tainted|Tainted: (?P<tainted>[A-Z ]+?)) +\d"
)
_PC: Final = re.compile(r"pc : (.+)")
_LR: Final = re.compile(r"lr : (.+)")


def _first(block: list[str], *patterns: re.Pattern[str]) -> re.Match[str] | None:
    return next((found for pattern in patterns for line in block if (found := pattern.match(line))), None)


def _parse_oops(block: list[str]) -> Oops | None:
    """The fields of a block; None when it holds neither registers nor a trace, nor began as an oops."""
    esr, far = _first(block, *_ESR), _first(block, *_FAR)
    pc, lr, cpu = _first(block, _PC), _first(block, _LR), _first(block, _CPU)
    trace: list[str] = []
    if "Call trace:" in block:
        for line in block[block.index("Call trace:") + 1 :]:
            if not line[:1].isspace():
                break
            trace.append(line.strip())
    if not (esr or far or pc or trace):
        return None
    return Oops(
        what=block[0],
        esr=int(esr[1], 16) if esr else None,
        far=int(far[1], 16) if far else None,
        pc=pc[1] if pc else "",
        lr=lr[1] if lr else "",
        comm=cpu["comm"] if cpu else "",
        pid=int(cpu["pid"]) if cpu else None,
        cpu=int(cpu["cpu"]) if cpu else None,
        tainted=(cpu["tainted"] or "").replace(" ", "") if cpu else "",
        call_trace=tuple(trace),
    )


# C0 and DEL become their Unicode pictures; C1, line separators and bidirectional overrides, which have none,
# are spelled out. Line feed and tab stay.
_UNSEEN: Final = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_VISIBLE: Final[dict[int, str | int]] = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: 0x2421,
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{
        code: f"\\u{code:04x}"
        for code in (
            0x061C,
            0x200E,
            0x200F,
            *range(0x2028, 0x202F),
            *range(0x2066, 0x206A),
            0xFEFF,
            0xFFFE,
            0xFFFF,
        )
    },
}


def harmless(text: bytes) -> str:
    """Decode console bytes for a report: UTF-8, invalid bytes replaced, control characters made visible.

    `\\r\\n` becomes `\\n`; no terminal, HTML page or XML parser that is given the result acts on it.
    """
    return text.replace(b"\r\n", b"\n").removesuffix(b"\r").decode("utf-8", "replace").translate(_VISIBLE)
