"""What is kept on disk of each cell: its console, and for one that did not pass all that repeats it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from harness.errors import InfraError
from harness.verdict import CellResult, MatrixResult

__all__ = ["keep_bundles"]


def keep_bundles(result: MatrixResult, directory: Path) -> MatrixResult:
    """Write `consoles/ID.log` for every cell and `failed/ID/` for each that did not pass.

    Returns the result with each bundle's place filled in. Raises InfraError when the disk does not take it.
    """
    try:
        # A report directory is one run's: what an earlier run left there must not be taken for this one's.
        if (directory / "report.json").is_file():
            for name in ("consoles", "failed"):
                shutil.rmtree(directory / name, ignore_errors=True)
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
