"""A process's page tables, read from outside while it runs, against what the guest's kernel says of it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.check.user_tables import (
    Answers,
    Captured,
    Held,
    Observed,
    Process,
    ask_walker,
    capture,
    check_answers,
    check_user_tables,
    parse_held,
)
from harness.deadline import Deadline
from harness.linux.kpageflags import parse_kpageflags
from harness.linux.pagemap import parse_pages
from harness.linux.release import at_least
from harness.linux.smaps import parse_smaps
from harness.qemu.frozen import Frozen
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.snapshot import REGISTERS
from harness.vmsa import Regime, Registers, Translation, VaRange, derive, walk

__all__ = ["Caught", "catch", "holding", "look", "observe", "settle", "user_tables"]

MONITOR_S = 20.0
HELD_S = 300
TRIES = 50
KEEP_BYTES = 32 << 20
MONITORS = "/proc/kpageflags"


def user_tables(subject: Subject, evidence: Evidence) -> None:
    """A process with each kind of mapping is mapped as its kernel says, page by page, and not otherwise."""
    with holding(subject) as (held, nonce):
        if held is None:
            evidence.holds("probe hold", False, wanted="mappings", seen=nonce)
            return
        before = observe(subject, held)
        if not (before.smaps and len(before.pages)) and not subject.sh(f"test -e {MONITORS}").ok:
            evidence.not_here("the kernel was built without CONFIG_PROC_PAGE_MONITOR")
            return
        seen = None
        with catch(subject, held, nonce) as caught:
            if isinstance(caught, Caught):
                seen = look(caught, with_qemu=subject.machine.accelerator == "tcg")
        if seen is None:
            if str(caught).startswith("KVM"):
                evidence.not_here(str(caught))
            else:
                evidence.holds("the process, by its TTBR0", False, wanted="caught", seen=str(caught))
            return
        captured, answers = seen
        process = settle(subject, held, before, (captured,))
    found = check_user_tables(captured, process)
    evidence.checked(found.leaves + found.pages + found.tables + len(answers))
    evidence.note(
        f"{found.leaves} leaves, {found.pages} pages ({found.unstable} more changed meanwhile), "
        f"{found.tables} tables, gva2gpa {len(answers)} addresses"
    )
    for name, reason in held.absent:
        evidence.note(f"not held: {name} ({reason})")
    for finding in (*found.findings, *check_answers(captured, answers)):
        evidence.found(finding)


@contextlib.contextmanager
def holding(subject: Subject) -> Iterator[tuple[Held | None, str]]:
    """A process in the guest that holds mappings and spins, and its nonce; it is gone afterwards.

    Where there is none, what was said instead takes the nonce's place.
    """
    nonce = secrets.token_hex(16)
    done = subject.sh(f"exec probe hold {nonce} {HELD_S}")
    held = parse_held(done.output) if done.ok else None
    if held is None:
        yield None, done.text.strip()[-200:] or f"exit status {done.status}"
        return
    try:
        yield held, nonce
    finally:
        # Its memory goes back before the next check looks at what is free.
        subject.sh(f"kill -9 {held.pid}; while kill -0 {held.pid} 2>/dev/null; do usleep 10000; done")


def observe(subject: Subject, held: Held) -> Observed:
    """What the kernel says of the process now."""
    deadline = subject.deadline.sooner(subject.command_s)
    run = subject.machine.shell.run
    smaps = run(f"exec cat /proc/{held.pid}/smaps", deadline, keep_bytes=KEEP_BYTES)
    pages = run(f"exec probe pages {held.pid}", deadline, keep_bytes=KEEP_BYTES)
    return Observed(smaps=parse_smaps(smaps.output), pages=parse_pages(pages.output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """A stopped guest, one of whose vCPUs has the process's tables."""

    frozen: Frozen
    regime: Regime
    """For the lower range."""
    vcpu: int


@contextlib.contextmanager
def catch(subject: Subject, held: Held, nonce: str) -> Iterator[Caught | str]:
    """Stop the guest while a vCPU runs the process, as its nonce proves; otherwise why that could not be."""
    for number in range(TRIES):
        if number:
            # Stopped again at once the vCPU would still be where it was.
            subject.sh("usleep 20000")
        with subject.machine.frozen() as frozen:
            for vcpu, thread in enumerate(frozen.vcpus):
                registers = frozen.gdb.registers(thread, REGISTERS, Deadline.after(MONITOR_S))
                if "TCR_EL1" not in registers:
                    yield "KVM does not show this vCPU's system registers"
                    return
                regime = _regime_of(frozen, registers, held, bytes.fromhex(nonce))
                if regime is not None:
                    yield Caught(frozen=frozen, regime=regime, vcpu=vcpu)
                    return
    yield f"in other address spaces, {TRIES} times"


def _regime_of(frozen: Frozen, registers: dict[str, int], held: Held, nonce: bytes) -> Regime | None:
    """The lower range of a vCPU, at EL0 or in the kernel, whose TTBR0 is the process's; None for another."""
    page = held.named("nonce")
    regime = derive(Registers.from_names(registers), VaRange.LOWER)
    if page is None or not isinstance(regime, Regime):
        return None
    found = walk(regime, frozen.memory.read, page.start_va)
    if isinstance(found, Translation) and frozen.memory.read(found.pa, len(nonce)) == nonce:
        return regime
    return None


def look(caught: Caught, *, with_qemu: bool = True) -> tuple[Captured, Answers]:
    """A copy of the process's tables, and QEMU's own walk for a sample of addresses."""
    captured = capture(caught.regime, caught.frozen.memory.read)
    if not with_qemu:  # under KVM QEMU has no walker of its own
        return captured, ()
    walk_of = caught.frozen.debug_walk
    with caught.frozen.privileged(caught.vcpu):
        return captured, ask_walker(captured, lambda vas: walk_of(vas, caught.vcpu))


def settle(subject: Subject, held: Held, before: Observed, tables: Sequence[Captured]) -> Process:
    """Ask the kernel once more: what it says of the process now, and of the frames of its tables."""
    page_log2 = subject.page_size.value
    frames = sorted({link.table.next_pa >> page_log2 for captured in tables for link in captured.links})
    done = subject.sh(f"printf '%s\\n' {' '.join(f'{frame:x}' for frame in frames)} | probe pageflags")
    return Process(
        held=held,
        before=before,
        after=observe(subject, held),
        table_flags=dict(zip(frames, parse_kpageflags(done.output), strict=False)),
        tables_are_pxn=at_least(subject.kernel.release, (5, 13)),
        folds=None if subject.config is None else subject.option("ARM64_CONTPTE") == "y",
    )
