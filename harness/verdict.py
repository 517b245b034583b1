"""What a run found: findings, a result per check, a verdict per cell, and the exit status of it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from harness.determinism.record import RunRecord
from harness.errors import ExitStatus
from harness.spec import GuestKind, PageSize, Platform

__all__ = ["CellResult", "CheckResult", "Finding", "MatrixResult", "Skipped", "Verdict"]


class Verdict(Enum):
    """The outcome of a cell or a check; a closed set."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    WRONG_PAGE_SIZE = "WRONG_PAGE_SIZE"
    OOPS = "OOPS"
    PANIC = "PANIC"
    HANG = "HANG"
    TIMEOUT = "TIMEOUT"
    BOOT_FAILED = "BOOT_FAILED"
    INFRA = "INFRA"
    SKIP = "SKIP"

    @property
    def is_pass(self) -> bool:
        """True for PASS only: SKIP is not a pass."""
        return self is Verdict.PASS

    @property
    def is_failure(self) -> bool:
        """True where the kernel under test is to blame."""
        return self not in (Verdict.PASS, Verdict.SKIP, Verdict.INFRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something the guest did that it should not have: what was looked at, what was wanted, what was seen."""

    what: str
    wanted: str
    seen: str

    def __str__(self) -> str:
        return f"{self.what}: wanted {self.wanted}, saw {self.seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check in one cell. `expectations` counts the facts it compared; PASS needs at least one."""

    name: str
    verdict: Verdict
    expectations: int
    duration_s: float
    findings: tuple[Finding, ...] = ()
    skip_reason: str = ""
    output: str = ""
    """What a command of the user's printed (`granule run`), made harmless and cut to a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One cell of the matrix: a kernel, a page size, a machine, and what came of it."""

    id: str
    """Unique in a matrix and readable: `16k-debian-16k-neoverse-n1-tcg`."""
    page_size_asked: PageSize
    page_size_in_force: PageSize | None
    """None when the guest never said."""
    kernel: str
    """The kernel's name and provenance in one line."""
    cpu: str
    accel: str
    """The accelerator that was really in use, as QEMU answered; empty when it never did."""
    vcpus: int
    memory_mib: int
    verdict: Verdict
    reason: str
    """One line on why it is not PASS; empty when it is."""
    checks: tuple[CheckResult, ...]
    duration_s: float
    boot_s: float | None
    """From the start of QEMU to the shell's first answer."""
    rerun: str
    """The one command that runs this cell again."""
    console: str
    """The kernel's console, decoded, with escape sequences made harmless; its tail when long."""
    diagnosis: tuple[str, ...] = ()
    """Lines that help: a symbolised pc per vCPU, the kernel's own words."""
    bundle: str = ""
    """Directory with transcript, argv and versions, kept for a cell that did not pass."""
    provenance: dict[str, str] = field(default_factory=dict)
    """kernel sha256, release, QEMU version, argv."""
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each check ran in the guest, kept of a cell that did not pass."""
    is_boot_time: bool = False
    """Its kernel takes the page size from the command line."""
    asking: str = ""
    """How that kernel was asked, where not by the size's name: `page_size_asked` is what was due."""
    platform: Platform = Platform.VIRT
    guest: GuestKind = GuestKind.MICRO
    exact: RunRecord | None = None
    """For a cell whose run is to repeat: what runs it again, and tells whether it did repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A cell that cannot be, left out before boot, with its reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixResult:
    """A whole run. `expected` counts the cells that had to run; `cells` are those that did."""

    expected: int
    cells: tuple[CellResult, ...]
    skipped: tuple[Skipped, ...] = ()
    host: dict[str, str] = field(default_factory=dict)
    """What it ran on: QEMU version, machine, cores, time of the run in UTC."""
    duration_s: float = 0.0
    caveats: tuple[str, ...] = ()
    """What a reader has to know to take the verdicts for what they are, a sentence each."""

    @property
    def ran(self) -> int:
        """How many cells ran to a verdict."""
        return len(self.cells)

    @property
    def exit_status(self) -> ExitStatus:
        """0 only if every expected cell ran and passed; a failure outranks an infrastructure error."""
        if any(cell.verdict.is_failure for cell in self.cells):
            return ExitStatus.FAILED
        if any(cell.verdict is Verdict.INFRA for cell in self.cells):
            return ExitStatus.INFRA
        if self.expected == 0 or self.ran != self.expected:
            return ExitStatus.FAILED
        if not all(cell.verdict.is_pass for cell in self.cells):
            return ExitStatus.FAILED
        return ExitStatus.PASSED
