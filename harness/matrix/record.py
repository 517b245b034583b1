"""A cell's result while it grows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from harness.kernels.kernel import Kernel
from harness.matrix.cell import Cell
from harness.spec import PageSize
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["CellEnded", "Record", "cell_without_guest"]

_MAX_COMMANDS = 200
_MAX_SCRIPT_CHARS = 8192


class CellEnded(Exception):
    """The cell has its verdict, and nothing more is to be asked of its guest."""


@dataclass(slots=True)
class Record:
    """What is known so far."""

    started_s: float = field(default_factory=time.monotonic)
    checks: list[CheckResult] = field(default_factory=list)
    in_force: PageSize | None = None
    boot_s: float | None = None
    accelerator: str = ""
    verdict: Verdict = Verdict.PASS
    reason: str = ""
    diagnosis: tuple[str, ...] = ()
    console: str = ""
    tainted: int | None = None
    """/proc/sys/kernel/tainted at the end; None where it was not read."""
    provenance: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    """What each check ran in the guest."""
    running: str = ""
    """The check that is running."""
    snapshot: str = ""
    """The file of the guest as it was, or why there is none; empty where none was asked for."""

    @property
    def is_bad(self) -> bool:
        """True as soon as the cell cannot pass any more."""
        return self.verdict is not Verdict.PASS or any(check.verdict.is_failure for check in self.checks)

    def hear(self, script: str) -> None:
        """A script is run in the guest by the check that is running."""
        said = self.commands.setdefault(self.running, [])
        if len(said) < _MAX_COMMANDS:
            said.append(script[:_MAX_SCRIPT_CHARS])

    def end(self, verdict: Verdict, reason: str, diagnosis: tuple[str, ...] = ()) -> CellEnded:
        """Settle the verdict; returns the exception that leaves the cell, for the caller to raise.

        The first one stays, but for INFRA, which yields to whatever blames the kernel: a line to a guest
        that breaks because its kernel oopsed is an oops.
        """
        if self.verdict is Verdict.PASS or (self.verdict is Verdict.INFRA and verdict.is_failure):
            self.verdict, self.reason, self.diagnosis = verdict, reason, diagnosis
        return CellEnded()

    def result(self, cell: Cell, kernel: Kernel) -> CellResult:
        """The finished value. A cell in which none of its own checks passed is not a PASS.

        A guest that merely boots and powers off has shown nothing of what was asked. Nor is one a PASS in
        which a check that is required was skipped: it is a SKIP, for that check's reason.
        """
        failed = [check.name for check in self.checks if check.verdict.is_failure]
        if failed:
            self.end(Verdict.FAIL, f"failed: {', '.join(failed)}")
        required = {check.name for check in cell.checks if check.required}
        for check in self.checks:
            if check.verdict is Verdict.SKIP and check.name in required:
                self.end(Verdict.SKIP, f"{check.name} could not run: {check.skip_reason}")
        own = {check.name for check in cell.checks}
        if not any(check.verdict.is_pass and check.name in own for check in self.checks):
            self.end(Verdict.FAIL, "no check ran")
        return CellResult(
            id=cell.id,
            page_size_asked=cell.page_size,
            page_size_in_force=self.in_force,
            kernel=f"{kernel.name} ({kernel.origin})",
            cpu=cell.cpu,
            accel=self.accelerator,
            vcpus=cell.vcpus,
            memory_mib=cell.memory_mib,
            verdict=self.verdict,
            reason=self.reason,
            checks=tuple(self.checks),
            duration_s=time.monotonic() - self.started_s,
            boot_s=self.boot_s,
            rerun=cell.rerun,
            console=self.console,
            is_boot_time=cell.boot_time,
            asking="" if cell.asking is None else cell.asking.name,
            platform=cell.platform,
            guest=cell.guest,
            diagnosis=self.diagnosis,
            commands={}
            if self.verdict.is_pass
            else {check: tuple(said) for check, said in self.commands.items()},
            provenance={**self.provenance, **({"snapshot": self.snapshot} if self.snapshot else {})},
        )


def cell_without_guest(cell: Cell, reason: str) -> CellResult:
    """The result of a cell whose kernel or machine could not be had: INFRA."""
    return CellResult(
        id=cell.id,
        page_size_asked=cell.page_size,
        page_size_in_force=None,
        kernel=cell.kernel,
        cpu=cell.cpu,
        accel="",
        vcpus=cell.vcpus,
        memory_mib=cell.memory_mib,
        verdict=Verdict.INFRA,
        reason=reason,
        checks=(),
        duration_s=0.0,
        boot_s=None,
        rerun=cell.rerun,
        console="",
        is_boot_time=cell.boot_time,
        asking="" if cell.asking is None else cell.asking.name,
        platform=cell.platform,
        guest=cell.guest,
    )
