"""Having a guest load its next kernel, and what it means when its kernel will not."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from harness.build.programs import KEXEC, build_programs
from harness.build.toolchain import Toolchain
from harness.channel.exact_shell import ExactShell
from harness.channel.shell import Shell
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kexec.stage import Stage, find_disk, refused_by_config
from harness.matrix.run import Bench
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.verdict import Verdict

__all__ = ["Refusal", "load_next", "refusal", "shell_of"]

_SAID = re.compile(r"^kexec: (?P<what>.{1,200}): (?P<errno>E[A-Z0-9]{1,20}): .{1,100}$", re.MULTILINE)
_LOADED = re.compile(r"^kexec: loaded by (kexec_load|kexec_file_load)$", re.MULTILINE)
# Few large requests: each costs an emulated disk as much as a small one.
READ_AHEAD_KIB = 4096
_TARGET = f"/sbin/{KEXEC}"

# Of these the kernel, or whoever runs it, has decided that it starts no other, or not that one
# (kexec_load(2), kexec_file_load(2); certs and crypto of Linux for the signature's).
_NOT_ALLOWED = {
    "ENOSYS": "the kernel was built without CONFIG_KEXEC and CONFIG_KEXEC_FILE",
    "EPERM": "the kernel forbids it: lockdown, or kernel.kexec_load_disabled",
    "ENODATA": "the kernel demands a signature, and there is none",
    "EKEYREJECTED": "the kernel demands a signature by a key that it trusts",
    "ENOKEY": "the kernel demands a signature by a key that it knows",
    "EBADMSG": "the kernel demands a signature, and there is no sound one",
    "ENOPKG": "the kernel demands a signature of a kind that it cannot verify",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A guest did not load its next kernel."""

    reason: str
    verdict: Verdict
    """SKIP where its kernel does not allow it, FAIL where it should have."""


def shell_of(subject: Subject) -> Shell:
    """The line to a guest whose kernel is to change; raises UsageError for a run that is to repeat."""
    shell = subject.machine.shell
    if isinstance(shell, ExactShell):
        raise UsageError("a run that is to repeat cannot start another kernel by kexec")
    return shell


def load_next(
    subject: Subject, stage: Stage, number: int, bench: Bench, evidence: Evidence, *, panic: bool = False
) -> Refusal | None:
    """Have a guest load the stage of that number, from the disks of `chain_machine`; None when it has.

    `panic`: for when it panics.
    """
    reason = refused_by_config(subject, panic=panic)
    if reason:
        return Refusal(reason=reason, verdict=Verdict.SKIP)
    if not subject.has_driver(evidence, "VIRTIO_BLK", "virtio_blk"):
        return Refusal(
            reason="the next kernel is on a disk, and there is no virtio_blk", verdict=Verdict.SKIP
        )
    program = build_programs(Toolchain.find(), bench.cache) / KEXEC
    shell_of(subject).put(program, _TARGET, Deadline.after(subject.command_s))
    # Tens of megabytes: as long as the cell has, and not what one command may take.
    done = subject.machine.shell.run(_script(stage, number, panic=panic), subject.deadline)
    found = _LOADED.search(done.text)
    if done.ok and found is not None:
        evidence.note(f"{stage.kernel.name} was loaded by {found[1]}")
        return None
    has_granule = _has_granule(stage, bench)
    return refusal(done.text, has_granule=has_granule)


def refusal(said: str, *, has_granule: bool = True) -> Refusal:
    """What a program's last words mean; `has_granule`: the CPU has the next kernel's page size."""
    match = _SAID.search(said)
    if match is None:
        return Refusal(reason=f"the next kernel was not loaded: {said.strip()[-300:]}", verdict=Verdict.FAIL)
    errno, what = match["errno"], match["what"]
    if errno == "EINVAL" and what == "kexec_file_load" and not has_granule:
        reason = "the kernel refuses an Image whose page size this CPU does not have"
        return Refusal(reason=f"{reason} ({what}: {errno})", verdict=Verdict.SKIP)
    if errno in _NOT_ALLOWED and what in ("kexec_load", "kexec_file_load"):
        return Refusal(reason=f"{_NOT_ALLOWED[errno]} ({what}: {errno})", verdict=Verdict.SKIP)
    return Refusal(reason=f"the next kernel was not loaded: {match[0]}", verdict=Verdict.FAIL)


def _script(stage: Stage, number: int, *, panic: bool) -> str:
    """Copies Image and initramfs off their disks, loads them, and gives their memory back."""
    files = dict(zip(("image", "initrd"), stage.spec.direct, strict=True))
    paths = {what: f"/run/kexec-{what}" for what in files}
    copies = [
        f"{find_disk(f'{what}-{number}')} && echo {READ_AHEAD_KIB} > /sys/block/$d/queue/read_ahead_kb && "
        f"head -c {file.stat().st_size} /dev/$d > {paths[what]}"
        for what, file in files.items()
    ]
    words = [KEXEC, "--load", paths["image"], "--initrd", paths["initrd"]]
    words += ["--command-line", stage.spec.cmdline, *(("--panic",) if panic else ())]
    clean_up = f"s=$?; rm -f {' '.join(paths.values())}; exit $s"
    return f"{' && '.join(copies)} && {shlex.join(words)}; {clean_up}"


def _has_granule(stage: Stage, bench: Bench) -> bool:
    granules = bench.qemu.cpu_model(stage.cell.cpu, stage.cell.accel).granules
    return not granules or stage.cell.page_size in granules
