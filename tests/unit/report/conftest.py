"""Matrix results to write reports of: one that passed, one with every verdict, one that is hostile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.determinism.conditions import Conditions
from harness.determinism.record import Fingerprint, Recipe, RunRecord
from harness.determinism.seed import Seed
from harness.linux.klog import harmless
from harness.spec import PageSize
from harness.verdict import CellResult, CheckResult, Finding, MatrixResult, Skipped, Verdict

HOSTILE = (
    b"\x1b]0;x\x07\x1b[2J\x00 ]]> </pre><script>alert(1)</script> \xff\xfe &amp; {{ 7 * 7 }} \xed\xa0\x80\r\n"
)


EXACT = RunRecord(
    conditions=Conditions(seed=Seed(2**64 - 1), icount_shift=3, kaslr=True),
    qemu="QEMU emulator version 7.2",
    kernel_sha256="a" * 64,
    initrd_sha256="b" * 64,
    streams=(Fingerprint(name="console", size_bytes=5, sha256="c" * 64),),
    runs=2,
    difference="the console differs",
    recipe=Recipe(
        kernel="./Image",
        kernel_options=("--modules", "m"),
        checks=("fork",),
        cmdline="",
        boot_time=True,
        timeout_s=None,
        granule="1",
    ),
)


def make_cell(**changes: Any) -> CellResult:
    values: dict[str, Any] = {
        "id": "16k-debian-16k-neoverse-n1-tcg",
        "page_size_asked": PageSize.K16,
        "page_size_in_force": PageSize.K16,
        "kernel": "debian-16k linux-image-6.12.107+deb13-arm64-16k",
        "cpu": "neoverse-n1",
        "accel": "tcg",
        "vcpus": 2,
        "memory_mib": 256,
        "verdict": Verdict.PASS,
        "reason": "",
        "checks": (
            CheckResult(
                name="page-size", verdict=Verdict.PASS, expectations=7, duration_s=0.25, output="65536\n"
            ),
            CheckResult(name="mmap", verdict=Verdict.PASS, expectations=12, duration_s=1.125),
            CheckResult(
                name="swap",
                verdict=Verdict.SKIP,
                expectations=0,
                duration_s=0.0,
                skip_reason="no CONFIG_ZRAM",
            ),
        ),
        "duration_s": 6.6,
        "boot_s": 3.3,
        "rerun": "granule smoke --kernel debian-16k --page-size 16k --cpu neoverse-n1 --accel tcg --vcpus 2",
        "console": "[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\n",
        "provenance": {"sha256": "9f" * 32, "qemu": "7.2.22"},
    }
    return CellResult(**(values | changes))


@pytest.fixture
def cell() -> Callable[..., CellResult]:
    """A passing cell, with fields changed at will."""
    return make_cell


@pytest.fixture
def passed() -> MatrixResult:
    """Three cells of three, all PASS."""
    cells = tuple(
        make_cell(
            id=f"{size.token}-k", page_size_asked=size, page_size_in_force=size, kernel=f"debian-{size.token}"
        )
        for size in PageSize
    )
    return MatrixResult(expected=3, cells=cells, host={"qemu": "7.2.22"}, duration_s=14.2)


@pytest.fixture
def mixed() -> MatrixResult:
    """A cell of every verdict, one cell missing, one skipped."""
    failed = CheckResult(
        name="block-ext4",
        verdict=Verdict.FAIL,
        expectations=4,
        duration_s=0.5,
        findings=(Finding(what="mount status", wanted="0", seen="1: Invalid argument"),),
    )
    oops = (
        "[    0.100000] noise\n"
        "[    0.700000] Unable to handle kernel NULL pointer dereference at virtual address 08\n"
        "[    0.700001] pc : trouble+0x58/0x100\n[    0.700002] ---[ end trace 0000000000000000 ]---\n"
        "[    0.800000] calm again\n"
    )
    cells = [
        make_cell(
            id=f"cell-{verdict.value.lower()}",
            verdict=verdict,
            reason="" if verdict.is_pass else f"because of {verdict.value}",
            page_size_in_force=None if verdict is Verdict.HANG else PageSize.K4,
            boot_s=None if verdict is Verdict.HANG else 3.0,
            checks=(failed,) if verdict is Verdict.FAIL else (),
            console=oops if verdict is Verdict.OOPS else "",
            diagnosis=("vCPU 0: __no_granule_support+0x20/0x28",) if verdict is Verdict.HANG else (),
            bundle="bundles/x",
            exact=EXACT if verdict is Verdict.FAIL else None,
        )
        for verdict in Verdict
    ]
    skipped = (Skipped(id="16k-debian-4k", reason="debian-4k is a 4K-only kernel"),)
    return MatrixResult(expected=11, cells=tuple(cells), skipped=skipped, duration_s=61.0)


@pytest.fixture
def chosen() -> MatrixResult:
    """A kernel that chooses at boot beside a compile-time one, asked by size and without; one note."""
    provenance = {"page size asked by": "no arm64.pagesize at all"}
    compiled = make_cell(id="compiled", checks=())
    by_size = make_cell(id="by-size", kernel="combined (three)", is_boot_time=True)
    none = make_cell(
        id="none", kernel="combined (three)", is_boot_time=True, asking="none", provenance=provenance
    )
    return MatrixResult(
        expected=3, cells=(by_size, compiled, none), caveats=("combined is 3 kernels in one file",)
    )


@pytest.fixture
def hostile() -> MatrixResult:
    """Guest bytes wherever a guest can put them; 5 MB of console made harmless, and one raw."""
    raw = HOSTILE.decode("utf-8", "replace")
    finding = Finding(what=raw, wanted=raw, seen=raw)
    check = CheckResult(
        name=raw, verdict=Verdict.FAIL, expectations=1, duration_s=0.1, findings=(finding,), skip_reason=raw
    )
    changes = {
        "verdict": Verdict.FAIL, "reason": raw, "checks": (check,), "diagnosis": (raw,),
        "provenance": {"banner": raw}, "bundle": raw, "rerun": raw,
    }  # fmt: skip
    big = harmless(HOSTILE * (5_000_000 // len(HOSTILE)))
    cells = (make_cell(id="a", console=big, **changes), make_cell(id="b", console=raw + "\ud800", **changes))
    return MatrixResult(expected=2, cells=cells, skipped=(Skipped(id=raw, reason=raw),), host={"x": raw})
