"""The cross-check finds faults planted in a live kernel's tables, where they were planted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.deadline import Deadline
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.smoke.tables import NAMES, kernel_tables
from harness.spec import Accel
from harness.verdict import CheckResult
from harness.vmsa import (
    Mapping,
    Regime,
    Registers,
    Right,
    Translation,
    VaRange,
    derive,
    mappings,
    permissions,
    walk,
)

READ_ONLY, EL0, UXN = 1 << 7, 1 << 6, 1 << 54


def _plant(subject: Subject, change: Callable[[int], int]) -> int:
    """Change the descriptor of one page or block of kernel text; returns its virtual address."""
    with subject.machine.frozen() as frozen:
        registers = Registers.from_names(frozen.gdb.registers(frozen.vcpus[0], NAMES, Deadline.after(20)))
        regime = derive(registers, VaRange.UPPER)
        assert isinstance(regime, Regime)
        read = frozen.memory.read
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
) -> Callable[[str, Callable[[int], int]], CheckResult]:
    """Run the check on a guest with a planted fault; `change` makes the descriptor's new value."""

    def run_one(kernel: str, change: Callable[[int], int]) -> CheckResult:
        planted: list[int] = []

        def check(subject: Subject, evidence: Evidence) -> None:
            """The cross-check, after a fault was planted."""
            planted.append(_plant(subject, change))
            kernel_tables(subject, evidence)

        request = Request(kernels=(kernel,), accel=Accel.TCG, checks=(Check(run=check),))
        (cell,) = plan(request, granule_kernels, granule_bench.qemu).cells
        result = run_cell(cell, granule_kernels.get(kernel), granule_bench, lambda _: None)
        (own, *_) = result.checks
        for finding in own.findings:
            assert f"{planted[0]:#x}" in finding.seen, finding
        return own

    return run_one


@pytest.mark.parametrize("kernel", ["debian-4k", "debian-16k"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda word: word & ~READ_ONLY, "writable and executable"),
        (lambda word: word & ~UXN | EL0, "open to EL0"),
    ],
    ids=["text-writable", "text-open-to-el0"],
)
def test_a_planted_fault_is_found(
    run: Callable[[str, Callable[[int], int]], CheckResult],
    kernel: str,
    change: Callable[[int], int],
    what: str,
) -> None:
    """A flipped permission bit of kernel text is found, at the address where it was planted."""
    result = run(kernel, change)
    assert result.verdict.is_failure
    assert any(what in finding.what for finding in result.findings)


def test_an_untouched_kernel_has_no_finding(run: Callable[[str, Callable[[int], int]], CheckResult]) -> None:
    """The control: a descriptor written back as it was is no fault."""
    result = run("debian-16k", lambda word: word)
    assert result.verdict.is_pass
    assert result.expectations > 10_000
