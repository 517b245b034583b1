"""Tests of harness.determinism.report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.determinism.report import report_stream
from harness.spec import PageSize
from harness.verdict import CellResult, CheckResult, Finding, Verdict

CHECK = CheckResult(
    name="fork",
    verdict=Verdict.FAIL,
    expectations=2,
    duration_s=1.0,
    findings=(Finding(what="page", wanted="1", seen="2"),),
)
CELL = CellResult(
    id="4k",
    page_size_asked=PageSize.K4,
    page_size_in_force=PageSize.K4,
    kernel="k",
    cpu="max",
    accel="tcg",
    vcpus=1,
    memory_mib=256,
    verdict=Verdict.FAIL,
    reason="failed: fork",
    checks=(CHECK,),
    duration_s=1.0,
    boot_s=1.0,
    rerun="granule smoke",
    console="",
)


def test_report_without_times() -> None:
    """Two runs that differ in times and places only give the same report."""
    later = replace(
        CELL,
        duration_s=9.0,
        boot_s=8.0,
        bundle="/elsewhere",
        diagnosis=("the console has been silent for 3.1 s",),
        provenance={"argv": "fd 9"},
        checks=(replace(CHECK, duration_s=7.0),),
    )
    assert report_stream(CELL) == report_stream(later)


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, verdict=Verdict.OOPS),
        replace(CELL, reason="another"),
        replace(CELL, page_size_in_force=None),
        replace(CELL, checks=()),
        replace(CELL, checks=(replace(CHECK, expectations=3),)),
        replace(CELL, checks=(replace(CHECK, findings=()),)),
        replace(CELL, checks=(replace(CHECK, output="x"),)),
    ],
)
def test_report_with_findings(other: CellResult) -> None:
    """Whatever a run found is in the report that is compared."""
    assert report_stream(CELL) != report_stream(other)


def test_durations_in_words() -> None:
    """How long something took is no difference where it is said in a sentence; what else is said there is."""
    said = [
        report_stream(replace(CELL, reason=f"no shell after {time}", checks=(replace(CHECK, output=output),)))
        for time, output in (("31 s", "judged in 0.21 s"), ("35 s", "judged in 0.40 s"), ("31 s", "judged"))
    ]
    assert said[0] == said[1] != said[2]
