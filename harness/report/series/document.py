"""series.json: a series' whole result for other programs and for `granule report`, and its way back.

Versioned like report.json; cells are in the report.json beside it, by their ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError
from harness.kernels.trees.patches import Patch
from harness.reading import read_bounded
from harness.report.series.facts import About
from harness.series.affected import Affected
from harness.series.engine import Asked, SeriesResult, Unit
from harness.series.order import Mode
from harness.series.values import Built, Outcome, Variant
from harness.series.verdicts import Judged

__all__ = ["SCHEMA", "load_series", "render_series_json"]

SCHEMA: Final = "granule-series"
SCHEMA_VERSION: Final = 1
_MAX_BYTES: Final = 64 << 20


def render_series_json(result: SeriesResult, about: About) -> str:
    """The document as text, keys sorted."""
    asked = result.asked
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "about": {name: getattr(about, name) for name in About.__slots__},
        "mode": asked.mode.value,
        "page_sizes": [variant.token for variant in asked.variants],
        "groups": list(asked.groups),
        "patches": [
            {
                "number": step,
                "name": patch.name,
                "subject": patch.subject,
                "author": patch.author,
                "files": list(patch.files),
                "sha256": patch.sha256,
                "builds": affected.builds,
                "groups": list(affected.groups),
                "reasons": affected.reasons,
                "exercised": exercised,
            }
            for step, (patch, affected, exercised) in enumerate(
                zip(asked.patches, asked.affected, asked.exercised, strict=True), start=1
            )
        ],
        "kernels": [
            {
                "patch": step,
                "page_size": variant.token,
                "build": unit.built.as_json(),
                "outcomes": {check: _outcome(outcome) for check, outcome in unit.outcomes.items()},
                "reused": unit.reused,
                "done": unit.done,
            }
            for (step, variant), unit in sorted(result.units.items())
        ],
        "verdicts": [
            {"patch": step, "page_size": variant.token, "check": check, **_judged(one)}
            for (variant, check), column in result.table().items()
            for step, one in enumerate(column)
        ],
        "first_bad": [
            {
                "patch": bad.step,
                "after": bad.after,
                "page_size": bad.variant.token,
                "check": bad.check,
                "said": bad.judged.outcome.said,
                "place": bad.judged.outcome.place,
                "failed": bad.judged.outcome.failed,
                "runs": bad.judged.outcome.runs,
                "cells": list(bad.judged.outcome.cells),
            }
            for bad in result.bad()
        ],
        "new_warnings": [
            {"patch": step, "page_size": variant.token, "file": one.file, "line": one.line, "text": one.text}
            for step, variant in sorted(result.units)
            if step
            for one in result.warnings(step, variant)
        ],
        "stopped": result.stopped,
        "seconds": round(result.seconds, 1),
        "exit_status": int(result.exit_status),
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def load_series(path: Path) -> tuple[SeriesResult, About]:
    """Read a series.json; raises UsageError where it is none, of another version, or damaged."""
    data = read_bounded(path, _MAX_BYTES, too_long="no series.json that granule wrote is")
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise UsageError(f"{path} is no series.json that granule wrote")
        if document.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{path} has schema_version {document.get('schema_version')!r}; {SCHEMA_VERSION} is known"
            )
        return _result(document), About(**document["about"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _result(document: dict[str, Any]) -> SeriesResult:
    patches = document["patches"]
    asked = Asked(
        patches=tuple(
            Patch(
                name=one["name"],
                subject=one["subject"],
                author=one["author"],
                body="",
                diff=b"",
                files=tuple(one["files"]),
            )
            for one in patches
        ),
        affected=tuple(
            Affected(groups=tuple(one["groups"]), builds=bool(one["builds"]), reasons=dict(one["reasons"]))
            for one in patches
        ),
        exercised=tuple(bool(one["exercised"]) for one in patches),
        suites=(),
        groups=tuple(document["groups"]),
        variants=tuple(map(Variant.parse, document["page_sizes"])),
        mode=Mode(document["mode"]),
    )
    units = {
        (int(one["patch"]), Variant.parse(one["page_size"])): Unit(
            built=Built.from_json(one["build"]),
            outcomes={check: _read_outcome(table) for check, table in one["outcomes"].items()},
            reused=int(one["reused"]),
            done=int(one["done"]),
        )
        for one in document["kernels"]
    }
    return SeriesResult(
        asked=asked, units=units, stopped=str(document["stopped"]), seconds=float(document["seconds"])
    )


def _judged(one: Judged) -> dict[str, Any]:
    return {
        "verdict": one.word.value,
        "since": one.since,
        "failed": one.outcome.failed,
        "runs": one.outcome.runs,
        "said": one.outcome.said,
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "runs": outcome.runs,
        "failed": outcome.failed,
        "said": outcome.said,
        "place": outcome.place,
        "cells": list(outcome.cells),
    }


def _read_outcome(table: dict[str, Any]) -> Outcome:
    return Outcome(
        runs=int(table["runs"]),
        failed=int(table["failed"]),
        said=str(table["said"]),
        place=str(table["place"]),
        cells=tuple(map(str, table["cells"])),
    )
