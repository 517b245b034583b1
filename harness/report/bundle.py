"""What is kept on disk of each cell: its console, and for one that did not pass all that repeats it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shlex
import shutil
from pathlib import Path

from harness.errors import InfraError, UsageError
from harness.report.json import load_report
from harness.report.wording import safe
from harness.verdict import CellResult, MatrixResult

__all__ = ["FAILED", "README", "claim_directory", "keep_bundles"]

FAILED = "failed"
"""Under the report directory: a directory for each cell that did not pass."""
README = "README.txt"
SNAPSHOT = "guest.snapshot"

REPORTS = (
    "report.json", "junit.xml", "report.html", "series.json", "series.html", "series.txt", "mail.txt",
)  # fmt: skip


def claim_directory(directory: Path) -> None:
    """Make a report directory, or empty it of an earlier run's report.

    Done before anything runs: a typing error is told now, and an old green report cannot be taken for that
    of a run which was cut short. Raises UsageError when it cannot be made or holds a report that is not ours.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable")
        report = directory / "report.json"
        if not report.exists():
            return
        load_report(report)
        for name in REPORTS:
            (directory / name).unlink(missing_ok=True)
        for name in ("consoles", FAILED):
            shutil.rmtree(directory / name, ignore_errors=True)
    except UsageError as error:
        raise UsageError(
            f"--report {directory} holds a report.json that is not ours to replace: {error}"
        ) from error
    except OSError as error:
        raise UsageError(f"--report {directory} cannot be used: {error.strerror}") from error


def keep_bundles(result: MatrixResult, directory: Path, *, program: str = "granule") -> MatrixResult:
    """Write `consoles/ID.log` for every cell and `failed/ID/` for each that did not pass.

    `program` is how the commands in a bundle's README.txt call granule. Returns the result with each bundle's
    place filled in. Raises InfraError when the disk does not take it.
    """
    try:
        return dataclasses.replace(
            result, cells=tuple(_keep(cell, directory, program) for cell in result.cells)
        )
    except OSError as error:
        raise InfraError(f"the consoles could not be written to {directory}: {error.strerror}") from error


def _keep(cell: CellResult, directory: Path, program: str) -> CellResult:
    consoles = directory / "consoles"
    consoles.mkdir(parents=True, exist_ok=True)
    (consoles / f"{cell.id}.log").write_text(cell.console, encoding="utf-8")
    if cell.verdict.is_pass:
        return cell
    bundle = directory / FAILED / cell.id
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "console.log").write_text(cell.console, encoding="utf-8")
    (bundle / "argv").write_text(cell.provenance.get("argv", "") + "\n", encoding="utf-8")
    (bundle / "rerun").write_text(cell.rerun + "\n", encoding="utf-8")
    facts = {
        "verdict": cell.verdict.value,
        "reason": cell.reason,
        "diagnosis": cell.diagnosis,
        "provenance": cell.provenance,
    }
    (bundle / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (bundle / README).write_text(_next_steps(cell, bundle, program), encoding="utf-8")
    return dataclasses.replace(cell, bundle=str(bundle))


def _next_steps(cell: CellResult, bundle: Path, program: str) -> str:
    """What can be done about a cell that did not pass, as commands to paste."""
    lines = [
        f"{cell.id}: {cell.verdict.value}: {safe(cell.reason)}",
        "",
        "Run this cell again, where it was run before:",
        f"  {safe(cell.rerun)}",
        "",
        "console.log is the kernel's console, argv the QEMU command line, facts.json what is known besides.",
        "",
    ]
    if not (bundle / SNAPSHOT).is_file():
        kept = cell.provenance.get("snapshot", "")
        why = safe(kept).removeprefix("none: ") or "none was asked for; run it again with --snapshot"
        return "\n".join([*lines, f"There is no snapshot of the guest: {why}.", ""])
    granule = shlex.quote(str(Path(program).absolute()) if "/" in program else program)
    commands = (
        (f"tables dump {SNAPSHOT}", "what the kernel maps"),
        (f"tables check {SNAPSHOT}", "its tables, held against the rules"),
        (f"tables walk {SNAPSHOT} linux_banner", "every step of a translation, of a symbol or VA"),
        (f"tables core {SNAPSHOT} guest.core", "a core for gdb, and the gdb command to paste"),
    )
    lines += [
        f"{SNAPSHOT} is the guest as it was: registers and memory. Where this directory is now:",
        f"  cd {shlex.quote(str(bundle.absolute()))}",
        *(f"  {granule} {words:44} # {what}" for words, what in commands),
        "",
    ]
    vmlinux = cell.provenance.get("vmlinux", "")
    if vmlinux:
        lines += [f"The kernel's vmlinux was {safe(vmlinux)}: --vmlinux gives it to `tables`.", ""]
    return "\n".join(lines)
