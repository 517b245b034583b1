"""report.json: the whole of a run for other programs, and its way back into a `MatrixResult`.

The format is described field by field in report.schema.json beside this file (JSON Schema 2020-12). It is
versioned: `schema` names it and `schema_version` grows when a field changes its meaning or goes; a reader may
meet fields it does not know and ignores them. Sizes are in bytes (`_bytes`) or MiB (`_mib`), times in seconds
(`_s`), and `checks` counts the checks that ran, which SKIP is not.

May import harness.determinism, harness.errors, harness.spec, harness.verdict and the standard library.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from harness.determinism.record import RunRecord
from harness.errors import UsageError
from harness.reading import read_bounded
from harness.spec import GuestKind, PageSize, Platform
from harness.verdict import CellResult, CheckResult, Finding, MatrixResult, Skipped, Verdict

__all__ = ["SCHEMA", "SCHEMA_VERSION", "load_report", "render_json"]

SCHEMA: Final = "granule-report"
SCHEMA_VERSION: Final = 1
MAX_REPORT_BYTES: Final = 256 << 20


def render_json(result: MatrixResult) -> str:
    """The report as text, keys sorted: the same result gives the same bytes."""
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "expected": result.expected,
        "ran": result.ran,
        "exit_status": int(result.exit_status),
        "host": result.host,
        "duration_s": _seconds(result.duration_s),
        "skipped": [{"id": skipped.id, "reason": skipped.reason} for skipped in result.skipped],
        "caveats": list(result.caveats),
        "cells": [_cell(cell) for cell in result.cells],
    }
    # ASCII only: half a surrogate pair that came from a guest cannot make the file invalid UTF-8.
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def _cell(cell: CellResult) -> dict[str, Any]:
    in_force = cell.page_size_in_force
    return {
        "id": cell.id,
        "page_size_asked_bytes": cell.page_size_asked.bytes,
        "page_size_in_force_bytes": None if in_force is None else in_force.bytes,
        "kernel": cell.kernel,
        "cpu": cell.cpu,
        "accel": cell.accel,
        "vcpus": cell.vcpus,
        "memory_mib": cell.memory_mib,
        "verdict": cell.verdict.value,
        "reason": cell.reason,
        "checks": sum(check.verdict is not Verdict.SKIP for check in cell.checks),
        "expectations": sum(check.expectations for check in cell.checks),
        "check_results": [_check(check) for check in cell.checks],
        "duration_s": _seconds(cell.duration_s),
        "boot_s": None if cell.boot_s is None else _seconds(cell.boot_s),
        "rerun": cell.rerun,
        "console": cell.console,
        "diagnosis": list(cell.diagnosis),
        "bundle": cell.bundle,
        "provenance": cell.provenance,
        "commands": {check: list(said) for check, said in cell.commands.items()},
        "is_boot_time": cell.is_boot_time,
        "asking": cell.asking,
        "platform": cell.platform.value,
        "guest": cell.guest.value,
        "exact": None if cell.exact is None else cell.exact.to_json(),
    }


def _check(check: CheckResult) -> dict[str, Any]:
    return {
        "name": check.name,
        "verdict": check.verdict.value,
        "expectations": check.expectations,
        "duration_s": _seconds(check.duration_s),
        "findings": [
            {"what": finding.what, "wanted": finding.wanted, "seen": finding.seen}
            for finding in check.findings
        ],
        "skip_reason": check.skip_reason,
        "output": check.output,
    }


def _seconds(value: float) -> float:
    return value if math.isfinite(value) else 0.0  # JSON has no NaN


def load_report(path: Path) -> MatrixResult:
    """Read a report.json; raises UsageError when it is none, of another version, too large or damaged."""
    data = read_bounded(path, MAX_REPORT_BYTES, too_long="no report of ours is")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}): wanted a report.json that granule wrote") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not a report of granule: its `schema` has to be '{SCHEMA}'")
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema_version {version!r}, and this granule reads {SCHEMA_VERSION}: "
            "read it with the granule that wrote it, or run the cells again"
        )
    return _Reader(path).matrix(document)


class _Reader:
    """Reads a document's fields by type, so that whatever is wrong is named by its place in the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def matrix(self, document: dict[str, Any]) -> MatrixResult:
        cells = self._objects(document, "cells", "")
        skipped = self._objects(document, "skipped", "")
        return MatrixResult(
            expected=self._int(document, "expected", ""),
            cells=tuple(self._cell(cell, f"cells[{index}].") for index, cell in enumerate(cells)),
            skipped=tuple(
                Skipped(
                    id=self._str(one, "id", f"skipped[{index}]."),
                    reason=self._str(one, "reason", f"skipped[{index}]."),
                )
                for index, one in enumerate(skipped)
            ),
            host=self._strings(document, "host", ""),
            duration_s=self._float(document, "duration_s", ""),
            caveats=tuple(self._list_of_str({"caveats": [], **document}, "caveats", "")),
        )

    def _cell(self, cell: dict[str, Any], place: str) -> CellResult:
        in_force = cell.get("page_size_in_force_bytes")
        checks = self._objects(cell, "check_results", place)
        return CellResult(
            id=self._str(cell, "id", place),
            page_size_asked=self._page_size(cell, "page_size_asked_bytes", place),
            page_size_in_force=None
            if in_force is None
            else self._page_size(cell, "page_size_in_force_bytes", place),
            kernel=self._str(cell, "kernel", place),
            cpu=self._str(cell, "cpu", place),
            accel=self._str(cell, "accel", place),
            vcpus=self._int(cell, "vcpus", place),
            memory_mib=self._int(cell, "memory_mib", place),
            verdict=self._verdict(cell, place),
            reason=self._str(cell, "reason", place),
            checks=tuple(
                self._check(check, f"{place}check_results[{index}].") for index, check in enumerate(checks)
            ),
            duration_s=self._float(cell, "duration_s", place),
            boot_s=None if cell.get("boot_s") is None else self._float(cell, "boot_s", place),
            rerun=self._str(cell, "rerun", place),
            console=self._str(cell, "console", place),
            diagnosis=tuple(self._list_of_str(cell, "diagnosis", place)),
            bundle=self._str(cell, "bundle", place),
            provenance=self._strings(cell, "provenance", place),
            commands=self._commands(cell, place),
            # Reports of before there were boot-time kernels have neither.
            is_boot_time=cell.get("is_boot_time") is True,
            asking=self._str({"asking": "", **cell}, "asking", place),
            # Reports of before there was another have none.
            platform=self._platform({"platform": Platform.VIRT.value, **cell}, place),
            guest=self._guest({"guest": GuestKind.MICRO.value, **cell}, place),
            exact=self._exact(cell, place),
        )

    def _commands(self, cell: dict[str, Any], place: str) -> dict[str, tuple[str, ...]]:
        # Reports of before they were kept have none.
        found = cell.get("commands", {})
        if not isinstance(found, dict):
            raise self._wrong(f"{place}commands", "an object of lists")
        return {check: tuple(self._list_of_str(found, check, f"{place}commands.")) for check in found}

    def _platform(self, cell: dict[str, Any], place: str) -> Platform:
        try:
            return Platform(cell.get("platform"))
        except ValueError:
            raise self._wrong(f"{place}platform", "one of " + ", ".join(p.value for p in Platform)) from None

    def _guest(self, cell: dict[str, Any], place: str) -> GuestKind:
        try:
            return GuestKind(cell.get("guest"))
        except ValueError:
            known = ", ".join(guest.value for guest in GuestKind)
            raise self._wrong(f"{place}guest", f"one of {known}") from None

    def _exact(self, cell: dict[str, Any], place: str) -> RunRecord | None:
        # Reports of before there were such runs do not have it.
        if cell.get("exact") is None:
            return None
        try:
            return RunRecord.from_json(cell["exact"])
        except UsageError as error:
            raise UsageError(f"{self._path} is damaged at `{place}exact`: {error}") from error

    def _check(self, check: dict[str, Any], place: str) -> CheckResult:
        findings = self._objects(check, "findings", place)
        return CheckResult(
            name=self._str(check, "name", place),
            verdict=self._verdict(check, place),
            expectations=self._int(check, "expectations", place),
            duration_s=self._float(check, "duration_s", place),
            findings=tuple(
                Finding(
                    what=self._str(finding, "what", f"{place}findings[{index}]."),
                    wanted=self._str(finding, "wanted", f"{place}findings[{index}]."),
                    seen=self._str(finding, "seen", f"{place}findings[{index}]."),
                )
                for index, finding in enumerate(findings)
            ),
            skip_reason=self._str(check, "skip_reason", place),
            output=self._str(check, "output", place),
        )

    def _wrong(self, place: str, wanted: str) -> UsageError:
        return UsageError(f"{self._path} is damaged: `{place}` has to be {wanted}. Run the cells again.")

    def _page_size(self, source: dict[str, Any], key: str, place: str) -> PageSize:
        size = PageSize.of_bytes(self._int(source, key, place))
        if size is None:
            raise self._wrong(place + key, "4096, 16384 or 65536")
        return size

    def _verdict(self, source: dict[str, Any], place: str) -> Verdict:
        try:
            return Verdict(source.get("verdict"))
        except ValueError:
            raise self._wrong(f"{place}verdict", "one of " + ", ".join(v.value for v in Verdict)) from None

    def _str(self, source: dict[str, Any], key: str, place: str) -> str:
        value = source.get(key)
        if not isinstance(value, str):
            raise self._wrong(place + key, "a string")
        return value

    def _int(self, source: dict[str, Any], key: str, place: str) -> int:
        value = source.get(key)
        if type(value) is not int or value < 0:
            raise self._wrong(place + key, "an integer, not negative")
        return value

    def _float(self, source: dict[str, Any], key: str, place: str) -> float:
        value = source.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(place + key, "a number of seconds")
        return float(value)

    def _objects(self, source: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
        value = source.get(key)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self._wrong(place + key, "a list of objects")
        return value

    def _list_of_str(self, source: dict[str, Any], key: str, place: str) -> list[str]:
        value = source.get(key)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(place + key, "a list of strings")
        return value

    def _strings(self, source: dict[str, Any], key: str, place: str) -> dict[str, str]:
        value = source.get(key)
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self._wrong(place + key, "an object of strings")
        return value
