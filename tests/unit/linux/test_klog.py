"""The console reader, on consoles that a 64K-page 6.12 kernel printed and on lines made from its source."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.klog import MAX_BLOCK_LINES, MAX_LINE_BYTES, EventKind, KernelLog, LogEvent, harmless

DATA = Path(__file__).parent / "data"


def read(data: bytes) -> tuple[LogEvent, ...]:
    log = KernelLog()
    return log.feed(data) + log.finish()


def kinds(data: bytes) -> list[EventKind]:
    return [event.kind for event in read(data)]


def sample(name: str) -> bytes:
    return (DATA / f"{name}.log").read_bytes()


def test_clean_boot_has_no_events() -> None:
    """A healthy boot, HugeTLB and `Checked W+X mappings` and all, says nothing."""
    assert read(sample("clean-boot")) == ()


def test_null_pointer_is_one_oops_with_its_fields() -> None:
    """`Unable to handle` and `Internal error` are one event, fields parsed, up to the end marker."""
    taint, event, power = read(sample("null-pointer"))
    assert (taint.kind, power.kind) == (EventKind.TAINT, EventKind.POWER_OFF)
    assert event.kind is EventKind.OOPS
    assert event.context[-1].startswith("---[ end trace")
    oops = event.oops
    assert oops is not None
    assert oops.what == (
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008"
    )
    assert (oops.esr, oops.far) == (0x96000047, 8)
    assert (oops.pc, oops.lr) == ("trouble+0x58/0x10000 [crash]", "trouble+0x4c/0x10000 [crash]")
    assert (oops.comm, oops.pid, oops.cpu, oops.tainted) == ("insmod", 45, 0, "GO")
    assert oops.call_trace[0] == "trouble+0x58/0x10000 [crash]"
    assert oops.call_trace[-1] == "el0t_64_sync+0x14c/0x150"
    assert len(oops.call_trace) == 11


def test_warning_carries_its_registers() -> None:
    """A WARN is a finding, not fatal, with pc and trace."""
    (event,) = read(sample("warning"))
    assert event.kind is EventKind.WARNING
    assert event.kind.is_finding
    assert not event.is_fatal
    assert event.oops is not None
    assert event.oops.pc == "trouble+0xbc/0x10000 [crash]"


def test_bug_that_dies_is_one_fatal_bug() -> None:
    """`Kernel BUG at` and the die() that follows are one event; the WARN after it is another."""
    bug, warning, _ = read(sample("bug"))
    assert (bug.kind, bug.is_fatal) == (EventKind.BUG, True)
    assert bug.oops is not None
    assert bug.oops.esr == 0xF2000800
    assert (warning.kind, warning.oops and warning.oops.comm) == (EventKind.WARNING, "swapper/1")


def test_lockups_end_with_their_traces() -> None:
    """A soft lockup and an RCU stall have no end marker and are still two events."""
    assert kinds(sample("soft-lockup")) == [EventKind.LOCKUP, EventKind.LOCKUP]
    assert all(event.oops and len(event.oops.call_trace) == 11 for event in read(sample("soft-lockup")))


def test_panic_is_fatal_and_keeps_the_kernel_offset() -> None:
    """A panic's block holds what the symboliser needs, and the end line is no second panic."""
    (event,) = read(sample("panic"))
    assert (event.kind, event.is_fatal) == (EventKind.PANIC, True)
    assert "Kernel Offset: 0x35285d200000 from 0xffff800080000000" in event.context


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", EventKind.PANIC),
        (
            "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            EventKind.ROOT_MISSING,
        ),
        ("Kernel panic - not syncing: No working init found.  Try passing init=", EventKind.ROOT_MISSING),
        ("Internal error: Oops - FPAC: 0000000072000000 [#1] PREEMPT SMP", EventKind.OOPS),
        ("Internal error: synchronous external abort: 0000000096000010 [#1] SMP", EventKind.OOPS),
        ("Unable to handle kernel paging request at virtual address dead000000000108", EventKind.OOPS),
        ("Insufficient stack space to handle exception!", EventKind.OOPS),
        ("SError Interrupt on CPU1, code 0x00000000be000011 -- SError", EventKind.OOPS),
        ("kernel BUG at mm/slub.c:4357!", EventKind.BUG),
        ("BUG: sleeping function called from invalid context at mm/slab.h:2", EventKind.BUG),
        ("BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0xa8/0x190", EventKind.BUG),
        ("BUG: KFENCE: use-after-free read in test+0x50/0x100", EventKind.BUG),
        ("BUG: Bad page state in process cc1  pfn:0a1b2", EventKind.BUG),
        ("BUG kmalloc-64 (Not tainted): Right Redzone overwritten", EventKind.BUG),
        ("[ BUG: Invalid wait context ]", EventKind.BUG),
        ("UBSAN: array-index-out-of-bounds in drivers/x.c:5:3", EventKind.BUG),
        ("WARNING: CPU: 3 PID: 1 at mm/debug_vm_pgtable.c:493 debug_vm_pgtable+0x4/0x8", EventKind.WARNING),
        ("WARNING: CPU: 1 PID: 0 at ct_kernel_exit.constprop.0+0x8c/0x94", EventKind.WARNING),
        ("WARNING: kernel/sched/core.c:8511 at sched_init+0x20/0x410, CPU#0: swapper/0", EventKind.WARNING),
        ("WARNING: [ptr == 0] lib/x.c:11 at y+0x20/0x410, CPU#12: kworker/u8:1/77", EventKind.WARNING),
        ("WARNING: at sched_init+0x20/0x410, CPU#0: swapper/0", EventKind.WARNING),
        ("WARNING: possible circular locking dependency detected", EventKind.WARNING),
        ("WARNING: suspicious RCU usage", EventKind.WARNING),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:77]", EventKind.LOCKUP),
        ("watchdog: Watchdog detected hard LOCKUP on cpu 1", EventKind.LOCKUP),
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", EventKind.LOCKUP),
        ("BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!", EventKind.LOCKUP),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", EventKind.LOCKUP),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", EventKind.LOCKUP),
        (
            "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-.... } 29 jiffies s: 5",
            EventKind.LOCKUP,
        ),
        ("INFO: task kworker/0:1:13 blocked for more than 120 seconds.", EventKind.LOCKUP),
        ("crash: loading out-of-tree module taints kernel.", EventKind.TAINT),
        (
            "x: module verification failed: signature and/or required key missing - tainting kernel",
            EventKind.TAINT,
        ),
        ("Out of memory: Killed process 45 (tail) total-vm:215744kB", EventKind.OOM),
        ("Memory cgroup out of memory: Killed process 9 (x)", EventKind.OOM),
        ("reboot: Power down", EventKind.POWER_OFF),
        ("reboot: Restarting system", EventKind.REBOOT),
        ("granule: ready", EventKind.INIT),
    ],
)
@pytest.mark.parametrize("prefix", ["", "[    1.234567] ", "[   12.345678][    T1] ", "[ 9.000001] [ T1] "])
def test_kernels_words_are_known_with_and_without_a_prefix(prefix: str, line: str, kind: EventKind) -> None:
    """Each form that the source prints is one event of its kind, its text without the prefix."""
    (event,) = read(f"{prefix}{line}\r\n".encode())
    assert (event.kind, event.line) == (kind, line)


@pytest.mark.parametrize(
    "line",
    [
        "Kernel command line: console=ttyAMA0 panic=1 oops=panic Kernel panic - not syncing",
        "Warning: unable to open an initial console.",
        "WARNING: 'bootconfig' found on the kernel command line but CONFIG_BOOT_CONFIG is not set.",
        "WARNING: Flushing system-wide workqueues will be prohibited in near future.",
        "lockup_test: No soft lockup seen",
        "mymod: Unable to handle kernel of truth at virtual address",
        "input: BUG Technologies Keyboard as /devices/platform/bug",
        "debug: BUG_ON is enabled",
        "systemd[1]: Starting Kernel panic - not syncing.service",
        "Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]",
        "CPU1: Booted secondary processor 0x0000000001 [0x414fd0c1]",
        "rcu: Hierarchical RCU implementation.",
        "x86/cpu: INFO: task scheduler is fine",
        "Memory: 250496K/262144K available, Out of memory: never",
        "tainted love: no kernel",
    ],
)
@pytest.mark.parametrize("prefix", ["", "[    1.234567] "])
def test_look_alikes_are_not_events(prefix: str, line: str) -> None:
    """What only mentions trouble is none."""
    assert read(f"{prefix}{line}\n".encode()) == ()


def test_second_boot_is_a_reboot() -> None:
    """The kernel's first line, seen twice, is a reboot; an announced restart is not counted twice."""
    boot = b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\n"
    assert kinds(boot) == []
    assert kinds(boot + boot) == [EventKind.REBOOT]
    assert kinds(boot + b"[    1.000000] reboot: Restarting system\n" + boot) == [EventKind.REBOOT]
    assert kinds(boot * 3) == [EventKind.REBOOT, EventKind.REBOOT]


def test_programs_output_is_not_the_kernels() -> None:
    """Once messages carry time stamps, a line without one is a program's, be it the word of a panic."""
    stamped = b"[    0.100000] Run /init as init process\n"
    assert kinds(stamped + b"Kernel panic - not syncing: said cat\n") == []
    assert kinds(stamped + b"~ # [    0.200000] Kernel panic - not syncing: x\n") == [EventKind.PANIC]


@given(cuts=st.lists(st.integers(0, 4200), max_size=12))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    """However the bytes are cut up, the events are the same."""
    data = sample("bug")
    log = KernelLog()
    edges = [0, *sorted(cuts), len(data)]
    found = [event for a, b in pairwise(edges) for event in log.feed(data[a : max(a, b)])]
    assert (*found, *log.finish()) == read(data)


def test_block_cut_short_is_reported_at_the_end() -> None:
    """A kernel that dies inside its own oops is heard: pending at once, an event from finish()."""
    log = KernelLog()
    head = b"\n".join(sample("null-pointer").split(b"\n")[:20]) + b"\n"
    assert [event.kind for event in log.feed(head)] == [EventKind.TAINT]
    assert log.pending is EventKind.OOPS
    (event,) = log.finish()
    assert event.kind is EventKind.OOPS
    assert log.pending is None


def test_block_without_end_is_bounded() -> None:
    """A warning followed by a chatty kernel does not swallow the console."""
    chatter = b"".join(b"[    1.%06d] chatter\n" % n for n in range(1000))
    (event,) = read(b"[    1.000000] WARNING: CPU: 0 PID: 1 at x.c:1 y+0x0/0x4\n" + chatter)
    assert len(event.context) <= MAX_BLOCK_LINES


def test_line_without_end_is_bounded_and_fast() -> None:
    """Sixteen megabytes without a line feed cost neither the memory nor the time of sixteen megabytes."""
    log = KernelLog()
    started = time.monotonic()
    for _ in range(1024):
        assert log.feed(b"A" * 16384) == ()
    assert len(log._partial) == MAX_LINE_BYTES
    assert log.feed(b"\n[    1.000000] Kernel panic - not syncing: after all\n") == ()
    assert log.pending is EventKind.PANIC
    assert time.monotonic() - started < 5


@given(st.binary(max_size=4096))
def test_nonsense_never_raises(data: bytes) -> None:
    """Any bytes are read without an exception."""
    read(data)


@given(st.binary(max_size=512))
def test_harmless_leaves_no_control_character(data: bytes) -> None:
    """Only line feed and tab are left of all control characters, and no direction override."""
    text = harmless(data)
    assert all(c in "\n\t" or (ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0) for c in text)
    assert not any(0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in text)
    text.encode("utf-8")


def test_harmless_shows_what_was_there() -> None:
    """An escape sequence, a NUL and a stray carriage return stay visible; CRLF is a line's end."""
    assert harmless(b"a\x1b[31mb\0c\rd\r\ne\xff\x9b") == "a␛[31mb␀c␍d\ne\ufffd\ufffd"


def test_a_kernel_started_by_another() -> None:
    """Expected once, it ends what the one before was reporting, and is no finding; unexpected, a reboot."""
    log = KernelLog()
    banner = b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\n"
    assert log.feed(banner) == ()
    log.expect_kernel()
    crash = b"[    9.0] x\n[    9.000000] Kernel panic - not syncing: c\n[    9.000001] Bye!\n"
    panic, kernel = log.feed(crash + banner)
    assert (panic.kind, panic.context) == (EventKind.PANIC, ("Bye!",))
    assert (kernel.kind, kernel.is_fatal, kernel.kind.is_finding) == (EventKind.NEXT_KERNEL, False, False)
    assert [event.kind for event in log.feed(banner)] == [EventKind.REBOOT]
