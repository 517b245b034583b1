"""What is kept on disk of each cell: its console, and for one that did not pass all that repeats it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

from harness.errors import InfraError, UsageError
from harness.report.json import load_report
from harness.verdict import CellResult, MatrixResult

__all__ = ["claim_directory", "keep_bundles"]

REPORTS = ("report.json", "junit.xml", "report.html")


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
        for name in ("consoles", "failed"):
            shutil.rmtree(directory / name, ignore_errors=True)
    except UsageError as error:
        raise UsageError(
            f"--report {directory} holds a report.json that is not ours to replace: {error}"
        ) from error
    except OSError as error:
        raise UsageError(f"--report {directory} cannot be used: {error.strerror}") from error


def keep_bundles(result: MatrixResult, directory: Path) -> MatrixResult:
    """Write `consoles/ID.log` for every cell and `failed/ID/` for each that did not pass.

    Returns the result with each bundle's place filled in. Raises InfraError when the disk does not take it.
    """
    try:
        return dataclasses.replace(result, cells=tuple(_keep(cell, directory) for cell in result.cells))
    except OSError as error:
        raise InfraError(f"the consoles could not be written to {directory}: {error.strerror}") from error


def _keep(cell: CellResult, directory: Path) -> CellResult:
    consoles = directory / "consoles"
    consoles.mkdir(parents=True, exist_ok=True)
    (consoles / f"{cell.id}.log").write_text(cell.console, encoding="utf-8")
    if cell.verdict.is_pass:
        return cell
    bundle = directory / "failed" / cell.id
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
    return dataclasses.replace(cell, bundle=str(bundle))
