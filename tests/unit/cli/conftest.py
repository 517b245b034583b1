"""A cell whose run repeats, as a report has it."""

from __future__ import annotations

import pytest

from harness.determinism.conditions import Conditions
from harness.determinism.record import Fingerprint, Recipe, RunRecord
from harness.determinism.seed import Seed
from harness.spec import PageSize
from harness.verdict import CellResult, Verdict

RECORD = RunRecord(
    conditions=Conditions.of(Seed(7)),
    qemu="QEMU",
    kernel_sha256="a" * 64,
    initrd_sha256="b" * 64,
    streams=(Fingerprint(name="console", size_bytes=5, sha256="c" * 64),),
    runs=2,
    difference="",
    recipe=Recipe(
        kernel="k", kernel_options=(), checks=(), cmdline="", boot_time=False, timeout_s=None, granule="1"
    ),
)
CELL = CellResult(
    id="4k-k",
    page_size_asked=PageSize.K4,
    page_size_in_force=PageSize.K4,
    kernel="k",
    cpu="max",
    accel="tcg",
    vcpus=1,
    memory_mib=384,
    verdict=Verdict.PASS,
    reason="",
    checks=(),
    duration_s=1.0,
    boot_s=1.0,
    rerun="granule smoke --deterministic 7",
    console="",
    exact=RECORD,
)


@pytest.fixture
def exact_cell() -> CellResult:
    """A cell that passed and was identical, twice."""
    return CELL


@pytest.fixture
def exact_record() -> RunRecord:
    """The record of that cell's run."""
    return RECORD
