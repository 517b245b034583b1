"""The kernel's page tables, read from outside while the vCPUs are stopped, and the guest's own words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.check.copied import CopiedTables
from harness.check.half import KernelHalf
from harness.check.kernel_tables import KernelTables, check_kernel_tables
from harness.check.walkers import Answers, ask
from harness.errors import UsageError
from harness.qemu.frozen import Frozen
from harness.smoke.evidence import Evidence
from harness.smoke.guest_words import GuestWords, guest_view, kfence_pool, read_words, reread
from harness.smoke.subject import Subject
from harness.snapshot import Snapshot, kernel_regime
from harness.vmsa import Regime

__all__ = ["Taken", "judge", "kernel_tables", "take"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """The kernel's half of a stopped guest, which can be judged when the guest runs again."""

    half: KernelHalf
    answers: Answers | None
    note: bytes | None
    """VMCOREINFO, from the guest's memory."""


def kernel_tables(subject: Subject, evidence: Evidence) -> None:
    """Every leaf of the kernel half is sound, as QEMU's walk, the kernel's own and its layout have it."""
    words = read_words(subject)
    with subject.machine.frozen() as frozen:
        snapshot = frozen.snapshot()
        if not any("TCR_EL1" in vcpu.registers for vcpu in snapshot.vcpus):
            evidence.not_here("KVM does not show this vCPU's system registers")
            return
        try:
            regime = kernel_regime(snapshot)
        except UsageError as error:
            evidence.holds("kernel page tables", False, wanted="found", seen=str(error))
            return
        taken = take(subject, frozen, snapshot, regime, words)
    evidence.equal("granule of the kernel half", subject.page_size.value, regime.geometry.granule_log2)
    start_s = time.monotonic()
    found = judge(subject, taken, words, reread(subject, words))
    evidence.checked(found.leaves + found.compared)
    evidence.note(f"oracles: {found.evidence}; judged in {time.monotonic() - start_s:.2f} s")
    for finding in found.findings:
        evidence.found(finding)


def take(subject: Subject, frozen: Frozen, snapshot: Snapshot, regime: Regime, words: GuestWords) -> Taken:
    """What has to be had of a guest while it is stopped."""
    copy = CopiedTables(frozen.memory.read, 1 << regime.geometry.granule_log2)
    half = KernelHalf.of(regime, copy.read, snapshot.ram, devices=frozen.device_ranges())
    answers = None
    # Under KVM QEMU has no walker of its own: the rules, the model and the guest remain.
    if subject.machine.accelerator == "tcg":
        with _reaching(frozen, snapshot, regime) as vcpu:
            if vcpu is not None:
                answers = ask(half.leaves, lambda vas: frozen.debug_walk(vas, vcpu))
    copy.close()
    pool = kfence_pool(half, frozen.memory.read, words)
    return Taken(
        half=replace(half, view=replace(half.view, kfence_pool=pool)),
        answers=answers,
        note=words.note_of(frozen.memory.read),
    )


def judge(subject: Subject, taken: Taken, before: GuestWords, after: GuestWords) -> KernelTables:
    """Hold what was taken against what the guest said before and after."""
    view = guest_view(subject, before, after, taken.note)
    absent = dict(view.absent)
    if taken.answers is None:
        absent["gva2gpa"] = (
            "QEMU has no walker of its own under KVM" if subject.machine.accelerator != "tcg"
            else "every vCPU was in user space with KPTI's trampoline for tables"
        )  # fmt: skip
    view = replace(view, kfence_pool=taken.half.view.kfence_pool, absent=absent)
    return check_kernel_tables(replace(taken.half, view=view), taken.answers)


@contextlib.contextmanager
def _reaching(frozen: Frozen, snapshot: Snapshot, regime: Regime) -> Iterator[int | None]:
    """A vCPU whose TTBR1 leads to the kernel's tables, made able to walk them; None where there is none.

    One stopped in EL0 has KPTI's trampoline there, where the CPU needs it.
    """
    for number, vcpu in enumerate(snapshot.vcpus):
        upper = getattr(vcpu.regimes(), "upper", None)
        if isinstance(upper, Regime) and upper.table_pa == regime.table_pa:
            with frozen.privileged(number):
                yield number
            return
    yield None
