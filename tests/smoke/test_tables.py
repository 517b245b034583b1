"""The check `kernel-tables`, whole: it passes on a sound guest, and fails where a fault was planted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.kernel_tables import kernel_tables
from harness.smoke.subject import Subject
from harness.snapshot import kernel_regime
from harness.spec import Accel
from harness.verdict import CheckResult
from harness.vmsa import Mapping, Right, Translation, mappings, permissions, walk

READ_ONLY, EL0, UXN = 1 << 7, 1 << 6, 1 << 54
KERNELS = ("debian-4k", "debian-16k", "trimmed-64k")


def _plant(subject: Subject, change: Callable[[int], int]) -> int:
    """Change the descriptor of one page or block of kernel text for good; returns its virtual address."""
    with subject.machine.frozen() as frozen:
        regime, read = kernel_regime(frozen.snapshot()), frozen.memory.read
        for leaf in mappings(regime, read):
            if (
                isinstance(leaf, Mapping)
                and Right.EXECUTE in permissions(regime, leaf.leaf, leaf.inherited).privileged
            ):
                found = walk(regime, read, leaf.va)
                assert isinstance(found, Translation)
                step = found.chain[-1]
                assert step.word is not None
                frozen.memory.write(step.pa, change(step.word).to_bytes(8, "little"))
                return leaf.va
    raise AssertionError("no kernel text was found")


@pytest.fixture
def run(
    granule_bench: Bench, granule_kernels: KernelStore
) -> Callable[[str, Callable[[int], int]], tuple[CheckResult, int]]:
    """Run the check on a guest with a planted fault; `change` makes the descriptor's new value."""

    def run_one(kernel: str, change: Callable[[int], int]) -> tuple[CheckResult, int]:
        planted: list[int] = []

        def check(subject: Subject, evidence: Evidence) -> None:
            """The cross-check, after a fault was planted."""
            planted.append(_plant(subject, change))
            kernel_tables(subject, evidence)

        request = Request(kernels=(kernel,), accel=Accel.TCG, checks=(Check(run=check),))
        (cell,) = plan(request, granule_kernels, granule_bench.qemu).cells
        result = run_cell(cell, granule_kernels.get(kernel), granule_bench, lambda _: None)
        return result.checks[0], planted[0]

    return run_one


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda word: word & ~READ_ONLY, "writable and executable"),
        (lambda word: word & ~UXN | EL0, "open to EL0"),
    ],
    ids=["text-writable", "text-open-to-el0"],
)
def test_a_planted_fault_fails_the_check(
    run: Callable[[str, Callable[[int], int]], tuple[CheckResult, int]],
    kernel: str,
    change: Callable[[int], int],
    what: str,
) -> None:
    """A flipped permission bit of kernel text fails the check, at the address where it was planted."""
    result, va = run(kernel, change)
    assert result.verdict.is_failure
    assert any(what in finding.what and f"{va:#x}" in finding.seen for finding in result.findings)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sound_guest_passes_and_says_who_was_asked(
    run: Callable[[str, Callable[[int], int]], tuple[CheckResult, int]], kernel: str
) -> None:
    """The control: a descriptor written back is no fault; each oracle is named, asked or not."""
    result, _ = run(kernel, lambda word: word)
    assert result.verdict.is_pass, result.findings
    assert result.expectations > 5_000
    assert "gva2gpa 300 addresses" in result.output
    wanted = "no ptdump (the kernel has no PTDUMP_DEBUGFS)" if kernel.startswith("debian") else "regions"
    assert wanted in result.output
    assert "vmcoreinfo 10 facts" in result.output
