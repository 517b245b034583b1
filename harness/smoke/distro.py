"""A distribution's own userspace: services, packages, runtimes, file systems, volumes.

Each check is a shell script of guests/disk/checks that runs in the guest with what is installed there, and
says what it compared in the form of the probe programs.
"""

from __future__ import annotations

import time

from harness.guests import ElfScan
from harness.linux.tap import parse_tap
from harness.paths import data_dir
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import PageSize
from harness.verdict import CheckResult, Finding

__all__ = [
    "clock",
    "elf_alignment",
    "files",
    "load",
    "packages",
    "pressure",
    "root_volume",
    "runtimes",
    "services",
    "volumes",
]

LARGEST = PageSize.K64
NOTE = "# "
NOTES_LIMIT = 20
NOTE_LIMIT = 300
CLOCK_SLACK_S = 5
"""How far off a clock may be: its real-time clock counts seconds, and a busy host is late."""


def clock(subject: Subject, evidence: Evidence) -> None:
    """The time of day is the host's, in a clone that stood still for days too, and goes on."""
    earliest_s = int(time.time()) - CLOCK_SLACK_S
    done = subject.sh("date +%s; sleep 1; date +%s")
    latest_s = int(time.time()) + CLOCK_SLACK_S
    words = done.text.split()[:2]
    if not evidence.holds(
        "the time of day", len(words) == 2 and all(word.isascii() and word.isdigit() for word in words),
        wanted="two numbers of seconds", seen=done.text[:NOTE_LIMIT],
    ):  # fmt: skip
        return
    first_s, second_s = (int(word[:20]) for word in words)
    evidence.holds(
        "the time of day, in seconds since 1970", earliest_s <= first_s <= latest_s,
        wanted=f"{earliest_s} to {latest_s}", seen=str(first_s),
    )  # fmt: skip
    evidence.holds("a second later", second_s > first_s, wanted=f"more than {first_s}", seen=str(second_s))


def services(subject: Subject, evidence: Evidence) -> None:
    """systemd has reached its target, with no unit failed and no job left."""
    _script(subject, evidence, "services")


def packages(subject: Subject, evidence: Evidence) -> None:
    """The package manager finds every file as it was installed (dpkg --verify)."""
    _script(subject, evidence, "packages")


def runtimes(subject: Subject, evidence: Evidence) -> None:
    """Python, Perl, a JIT (PCRE2's) and jemalloc work, and know the page size."""
    _script(subject, evidence, "runtimes")


def files(subject: Subject, evidence: Evidence) -> None:
    """fio's writes verify on ext4 and XFS with blocks below and at the page size, and both are clean."""
    _script(subject, evidence, "files")


def load(subject: Subject, evidence: Evidence) -> None:
    """stress-ng's memory stressors verify what they wrote, and iperf3 carries its bytes."""
    _script(subject, evidence, "load")


def pressure(subject: Subject, evidence: Evidence) -> None:
    """Memory that goes out to swap under a limit verifies when it comes back."""
    _script(subject, evidence, "pressure")


def volumes(subject: Subject, evidence: Evidence) -> None:
    """LVM volumes are snapshotted and grow under load, are thin, are encrypted, and are clean afterwards."""
    _script(subject, evidence, "volumes")


def root_volume(subject: Subject, evidence: Evidence) -> None:
    """The root is a logical volume, which is snapshotted and grows while it is in use, and is clean."""
    _script(subject, evidence, "root_volume")


def elf_alignment(scan: ElfScan, size: PageSize) -> CheckResult:
    """The check that a page size can map every program and library of the image, as the host sees them.

    What cannot be mapped at 64K is named in its output at any size.
    """
    evidence = Evidence()
    evidence.checked(scan.scanned)
    for path, align in scan.unaligned:
        what = f"alignment of the segments of {path}, in bytes"
        if align % size.bytes:
            evidence.found(Finding(what=what, wanted=f"a multiple of {size.bytes}", seen=str(align)))
        evidence.note(f"not for {LARGEST.label} pages: {path} is aligned to {align}")
    evidence.note(
        f"{scan.scanned} programs and libraries, {len(scan.unaligned)} not for {LARGEST.label} pages"
    )
    return evidence.result("elf-alignment", 0.0)


def _script(subject: Subject, evidence: Evidence, name: str) -> None:
    home = data_dir("guests") / "disk" / "checks"
    script = "".join((home / f"{part}.sh").read_text() for part in ("points", name))
    done = subject.sh(script)
    evidence.tap(f"{name}.sh", parse_tap(done.output), done.status)
    notes = [line for line in done.text.splitlines() if line.startswith(NOTE)]
    for line in notes[:NOTES_LIMIT]:
        evidence.note(line.removeprefix(NOTE)[:NOTE_LIMIT])
