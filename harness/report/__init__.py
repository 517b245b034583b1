"""What people and programs read of a run: terminal, report.json, junit.xml, report.html.

Every writer is a pure function of a `MatrixResult`: the same result gives the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from harness.errors import InfraError
from harness.report.html import render_html
from harness.report.json import load_report, render_json
from harness.report.junit import render_junit
from harness.verdict import MatrixResult

__all__ = ["load_report", "write_reports", "write_whole"]


def write_reports(result: MatrixResult, directory: Path) -> tuple[Path, ...]:
    """Write report.json, junit.xml and report.html into a directory, made if need be; returns their paths.

    Each appears whole or not at all, replacing the one before. Raises InfraError when the directory cannot be
    made or written to, or the disk is full.
    """
    writers = (("report.json", render_json), ("junit.xml", render_junit), ("report.html", render_html))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return tuple(write_whole(directory / name, render(result)) for name, render in writers)
    except OSError as error:
        raise InfraError(
            f"the reports could not be written to {directory}: {error.strerror or error}. The verdicts above "
            "stand; make room or give another directory with --report, and run again for the files."
        ) from error


def write_whole(path: Path, text: str) -> Path:
    """Write a file that appears whole or not at all, replacing the one before; raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "replace"))
            # mkstemp's 0600 would hide the report from a CI system's collector.
            os.fchmod(stream.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    return path
