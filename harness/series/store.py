"""What has been built and run, on disk: a file for each result, there whole or not at all.

    ROOT/builds/KEY.json      a Built
    ROOT/runs/KEY-N.json      the cells of a suite's run number N, as report.json has them

A key is made of all that a result depends on, so that work is found again whatever command asked for it:
after a kill, with a patch added, or with the base alone. Nothing is kept of what this machine was to
blame for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.report.json import load_report, render_json
from harness.saving import replacing, saving_to
from harness.series.values import Built, Outlook
from harness.verdict import MatrixResult, Verdict

__all__ = ["Results"]

_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Results:
    """Results below a directory, made when the first is kept."""

    root: Path

    def built(self, key: str) -> Built | None:
        """What was kept of a build; None where nothing was, or its kernel has gone from the cache."""
        try:
            path = self.root / "builds" / f"{key}.json"
            with path.open("rb") as file:
                built = Built.from_json(json.loads(file.read(_MAX_BYTES)))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if built.outlook is Outlook.BUILT and not Path(built.image).is_file():
            return None
        return built

    def keep_built(self, key: str, built: Built) -> None:
        """Keep it; raises InfraError where the disk is full."""
        self._write("builds", key, json.dumps(built.as_json(), indent=1))

    def ran(self, key: str, number: int) -> MatrixResult | None:
        """What was kept of a run."""
        try:
            return load_report(self.root / "runs" / f"{key}-{number}.json")
        except UsageError:
            return None

    def keep_ran(self, key: str, number: int, result: MatrixResult) -> None:
        """Keep it, unless this machine was to blame; raises InfraError where the disk is full."""
        if result.ran == result.expected > 0 and all(
            cell.verdict is not Verdict.INFRA for cell in result.cells
        ):
            self._write("runs", f"{key}-{number}", render_json(result))

    def _write(self, kind: str, name: str, text: str) -> None:
        path = self.root / kind / f"{name}.json"
        with saving_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(text.encode())
