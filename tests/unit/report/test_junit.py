"""junit.xml, read back by a parser."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from harness.report.junit import render_junit
from harness.verdict import MatrixResult


def parse(result: MatrixResult) -> ET.Element:
    return ET.fromstring(render_junit(result))  # noqa: S314 - our own output


def test_passing_matrix(passed: MatrixResult) -> None:
    """A suite per cell, a case per check, skips told from passes, nothing failed."""
    root = parse(passed)
    assert root.attrib == {
        "name": "granule", "time": "14.200", "tests": "9", "failures": "0", "errors": "0", "skipped": "3",
    }  # fmt: skip
    suite = root[0]
    assert [case.get("name") for case in suite.findall("testcase")] == ["page-size", "mmap", "swap"]
    assert suite.find("testcase[@name='swap']/skipped[@message='no CONFIG_ZRAM']") is not None
    assert suite.find("properties/property[@name='provenance.qemu'][@value='7.2.22']") is not None
    assert "Booting Linux" in (suite.findtext("system-out") or "")


def test_no_failed_cell_is_lost(mixed: MatrixResult) -> None:
    """Each cell that is not PASS fails, errs or skips once, a panic without any check too."""
    root = parse(mixed)
    for cell in mixed.cells:
        (suite,) = root.findall(f"testsuite[@name='{cell.id}']")
        outcomes = [outcome.tag for case in suite.findall("testcase") for outcome in case]
        wanted = {"PASS": [], "INFRA": ["error"], "SKIP": ["skipped"]}.get(cell.verdict.value, ["failure"])
        assert outcomes == wanted, cell.id
    assert root.find("testsuite[@name='skipped cells']/testcase/skipped") is not None


def test_notes_and_ways_of_asking(chosen: MatrixResult) -> None:
    """What a reader has to know is a property of the run; how a kernel was asked is one of its suite."""
    root = parse(chosen)
    assert [one.get("value") for one in root.findall("properties/property")] == list(chosen.caveats)
    asked = {
        suite.get("name"): suite.find("properties/property[@name='asking']")
        for suite in root.iter("testsuite")
    }
    assert {name: one.get("value") for name, one in asked.items() if one is not None}["none"] == "none"


def test_missing_cells_fail(mixed: MatrixResult) -> None:
    """A matrix that ran fewer cells than expected, or none, has a failure that says so."""
    failure = parse(mixed).find("testsuite[@name='matrix']/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "11 cells were expected and 10 ran"
    assert parse(MatrixResult(expected=0, cells=())).get("failures") == "1"


def test_hostile_text_is_legal_xml(hostile: MatrixResult) -> None:
    """Control characters, `]]>`, surrogates and 5 MB of console parse, with the text still there."""
    root = parse(hostile)
    outs = [suite.findtext("system-out") or "" for suite in root.findall("testsuite")]
    assert "]]> </pre><script>alert(1)</script>" in outs[0]
    assert len(outs[0]) <= 64 << 10
    render_junit(hostile).encode("utf-8")


@pytest.mark.parametrize("name", ["chosen", "passed", "mixed", "hostile"])
def test_counts_agree_with_elements(name: str, request: pytest.FixtureRequest) -> None:
    """The totals in the root are those of the cases."""
    root = parse(request.getfixturevalue(name))
    assert int(root.get("tests", "")) == len(root.findall(".//testcase"))
    assert int(root.get("failures", "")) == len(root.findall(".//failure"))
