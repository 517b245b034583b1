"""report.json: conforms to its schema, comes back equal, refuses what it is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.report
from harness.errors import UsageError
from harness.report.json import load_report, render_json
from harness.spec import GuestKind, Platform
from harness.verdict import CellResult, MatrixResult

SCHEMA = json.loads((Path(harness.report.__file__).parent / "report.schema.json").read_text())
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def violations(value: Any, schema: dict[str, Any], place: str = "report") -> list[str]:
    """What of a JSON Schema a value breaks, for the keywords that ours uses; unknown properties count."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "const" in schema and value != schema["const"]:
        return [f"{place}: not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} not allowed"]
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(value is None if t == "null" else isinstance(value, TYPES[t]) for t in wanted):
        return [f"{place}: not {wanted}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{place}: no {key}" for key in schema["required"] if key not in value]
        found += [f"{place}: unknown {key}" for key in value if key not in schema["properties"]]
        for key, one in value.items():
            found += violations(one, schema["properties"].get(key, {}), f"{place}.{key}")
    elif isinstance(value, dict):
        for key, one in value.items():
            found += violations(one, schema["additionalProperties"], f"{place}.{key}")
    if isinstance(value, list):
        for one in value:
            found += violations(one, schema["items"], f"{place}[]")
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        found.append(f"{place}: below {schema['minimum']}")
    return found


def test_a_platform_is_kept(cell: Callable[..., CellResult], tmp_path: Path) -> None:
    """A cell on Hyper-V comes back as one; a report of before there were platforms is of virt."""
    ours = MatrixResult(expected=1, cells=(cell(platform=Platform.HYPERV),))
    (tmp_path / "report.json").write_text(render_json(ours))
    assert load_report(tmp_path / "report.json") == ours
    older = json.loads(render_json(ours))
    del older["cells"][0]["platform"]
    (tmp_path / "report.json").write_text(json.dumps(older))
    assert load_report(tmp_path / "report.json").cells[0].platform is Platform.VIRT
    older["cells"][0]["platform"] = "xen"
    (tmp_path / "report.json").write_text(json.dumps(older))
    with pytest.raises(UsageError, match="platform` has to be one of virt, hyperv"):
        load_report(tmp_path / "report.json")


def test_a_guest_is_kept(cell: Callable[..., CellResult], tmp_path: Path) -> None:
    """A cell with a distribution's userspace comes back as one; an older report is of the micro guest."""
    ours = MatrixResult(expected=1, cells=(cell(guest=GuestKind.DEBIAN_LVM),))
    (tmp_path / "report.json").write_text(render_json(ours))
    assert load_report(tmp_path / "report.json") == ours
    older = json.loads(render_json(ours))
    del older["cells"][0]["guest"]
    (tmp_path / "report.json").write_text(json.dumps(older))
    assert load_report(tmp_path / "report.json").cells[0].guest is GuestKind.MICRO
    older["cells"][0]["guest"] = "plan9"
    (tmp_path / "report.json").write_text(json.dumps(older))
    with pytest.raises(UsageError, match="guest` has to be one of micro, debian, debian-lvm"):
        load_report(tmp_path / "report.json")


@pytest.mark.parametrize("name", ["chosen", "passed", "mixed", "hostile"])
def test_output_conforms_to_the_schema(name: str, request: pytest.FixtureRequest) -> None:
    """Every field is in the schema, with the type it names, and none is missing."""
    assert violations(json.loads(render_json(request.getfixturevalue(name))), SCHEMA) == []


def test_schema_check_itself_can_fail(passed: MatrixResult) -> None:
    """A missing field, an unknown one and a wrong value are each seen."""
    document = json.loads(render_json(passed))
    del document["cells"][0]["rerun"]
    document["cells"][1]["surprise"] = 1
    document["cells"][2]["verdict"] = "MAYBE"
    assert len(violations(document, SCHEMA)) == 3


def test_what_programs_rely_on(passed: MatrixResult, mixed: MatrixResult) -> None:
    """Counts, sizes in bytes, null for what is unknown, the exit status."""
    document = json.loads(render_json(passed))
    assert (document["schema"], document["schema_version"]) == ("granule-report", 1)
    assert (document["expected"], document["ran"], document["exit_status"]) == (3, 3, 0)
    assert [cell["page_size_asked_bytes"] for cell in document["cells"]] == [4096, 16384, 65536]
    assert document["cells"][0]["checks"] == 2, "the skipped check did not run"
    assert document["cells"][0]["expectations"] == 19
    hang = next(cell for cell in json.loads(render_json(mixed))["cells"] if cell["verdict"] == "HANG")
    assert hang["page_size_in_force_bytes"] is None
    assert hang["boot_s"] is None


@pytest.mark.parametrize("name", ["chosen", "passed", "mixed", "hostile"])
def test_report_comes_back_equal(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """What was written is what is read, hostile text included."""
    result = request.getfixturevalue(name)
    path = tmp_path / "report.json"
    path.write_text(render_json(result), encoding="utf-8")
    assert load_report(path) == result


def test_same_result_gives_same_bytes(passed: MatrixResult, cell: Callable[..., CellResult]) -> None:
    """The order in which a dict was filled does not show."""
    turned = dict(reversed(passed.cells[0].provenance.items()))
    other = dataclasses.replace(
        passed, cells=(dataclasses.replace(passed.cells[0], provenance=turned), *passed.cells[1:])
    )
    assert render_json(other) == render_json(passed)


def test_no_number_is_not_json(cell: Callable[..., CellResult]) -> None:
    """A duration that is no number does not make a file that no parser takes."""
    text = render_json(MatrixResult(expected=1, cells=(cell(duration_s=float("nan")),)))
    assert json.loads(text)["cells"][0]["duration_s"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a report of granule"),
        ('{"schema": "other"}', "not a report of granule"),
        ('{"schema": "granule-report"}', "schema_version None"),
        ('{"schema": "granule-report", "schema_version": 2}', "schema_version 2"),
        ('{"schema": "granule-report", "schema_version": true}', "schema_version True"),
        ('{"schema": "granule-report", "schema_version": 1}', "`cells` has to be"),
        ('{"schema": "granule-report", "schema_version": 1, "cells": [1]}', "`cells` has to be"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each kind of wrong file is one UsageError that says what is wrong with it."""
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_report(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("verdict", "MAYBE", r"cells\[0\].verdict"),
        ("page_size_asked_bytes", 8192, "4096, 16384 or 65536"),
        ("vcpus", True, r"cells\[0\].vcpus"),
        ("boot_s", "fast", r"cells\[0\].boot_s"),
        ("diagnosis", [1], r"cells\[0\].diagnosis"),
        ("check_results", [{"name": 1, "findings": []}], r"cells\[0\].check_results\[0\].name"),
    ],
)
def test_damage_is_named_by_its_place(
    passed: MatrixResult, tmp_path: Path, key: str, value: object, message: str
) -> None:
    """A field of the wrong type is named with its path in the document."""
    document = json.loads(render_json(passed))
    document["cells"][0][key] = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=message):
        load_report(path)


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """No traceback for a path that is not there."""
    with pytest.raises(UsageError, match="cannot read"):
        load_report(tmp_path / "absent.json")


def test_a_damaged_record_of_a_run(mixed: MatrixResult, tmp_path: Path) -> None:
    """A record that is wrong is refused with its place; a report without any is read."""
    document = json.loads(render_json(mixed))
    place, damaged = next((at, cell) for at, cell in enumerate(document["cells"]) if cell["exact"])
    damaged["exact"]["seed"] = "-1"
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=rf"cells\[{place}\]\.exact"):
        load_report(path)
    for cell in document["cells"]:
        del cell["exact"]
    path.write_text(json.dumps(document))
    assert all(cell.exact is None for cell in load_report(path).cells)
