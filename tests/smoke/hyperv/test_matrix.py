"""`--platform hyperv`: every check of every kernel passes, and a driver with a mistake in it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.hyperv.corpus import read_corpus
from harness.hyperv.modules import rebuild
from harness.kernels.kbuild.out_of_tree import with_modules
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.judge import TAINT_OF_MODULES
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.smoke import HYPERV_CHECKS
from harness.spec import Platform
from harness.verdict import CellResult, Verdict

KERNELS = ("debian-4k", "debian-16k", "trimmed-hyperv-4k", "trimmed-hyperv-16k", "trimmed-hyperv-64k")
JUDGED = {"power-off", "kernel-log", "wire"}
CORPUS = {bug.name: bug for bug in read_corpus(Path(__file__).parents[2] / "hyperv-corpus/index.toml")}
CELL_S = 1200.0


def _request(kernel: str) -> Request:
    return Request(kernels=(kernel,), platforms=(Platform.HYPERV,), timeout_s=CELL_S)


def _told(result: CellResult) -> str:
    findings = "\n".join(f"{check.name}: {finding}" for check in result.checks for finding in check.findings)
    times = ", ".join(f"{check.name} {check.duration_s:.1f} s" for check in result.checks)
    return f"{result.id}: {result.verdict.value} {result.reason}\n{findings}\n{times}"


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_check_passes(granule_bench: Bench, granule_kernels: KernelStore, kernel: str) -> None:
    """Disk, network, services and all that is checked on virt hold, and the wire keeps every rule."""
    if not granule_kernels.available(kernel):
        pytest.skip(f"{kernel} is not in the cache: granule kernels fetch {kernel}")
    wanted = JUDGED | {check.name for check in HYPERV_CHECKS}
    seen: set[str] = set()
    for cell in plan(_request(kernel), granule_kernels, granule_bench.qemu).cells:
        result = run_cell(cell, granule_kernels.get(kernel), granule_bench, lambda _check: None)
        print(_told(result))
        assert result.verdict is Verdict.PASS, _told(result)
        seen |= {check.name for check in result.checks if check.verdict is Verdict.PASS}
    assert wanted <= seen


def test_a_planted_mistake_fails_the_wire(
    granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path
) -> None:
    """With a mistake in storvsc the cell does not pass, and its wire names driver, rule and source line."""
    if not granule_kernels.available("debian-16k"):
        pytest.skip("debian-16k is not in the cache: granule kernels fetch debian-16k")
    bug = CORPUS["storvsc-room-for-guest-pages"]
    kernel = granule_kernels.get("debian-16k")
    made = rebuild(granule_bench.cache, kernel, bug.modules, bug.patch)
    (cell, *_) = plan(_request("debian-16k"), granule_kernels, granule_bench.qemu).cells
    checks = tuple(check for check in HYPERV_CHECKS if check.name in ("vmbus", "storvsc"))
    result = run_cell(
        replace(cell, checks=checks, allowed_taint=TAINT_OF_MODULES),
        with_modules(kernel, made, tmp_path), granule_bench, lambda _check: None,
    )  # fmt: skip
    (wire,) = (check for check in result.checks if check.name == "wire")
    assert result.verdict.is_failure
    assert wire.verdict is Verdict.FAIL
    place = f"storvsc, {bug.rule} (drivers/scsi/storvsc_drv.c:"
    assert any(finding.what.startswith(place) for finding in wire.findings)
