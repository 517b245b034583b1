"""Boot-time and compile-time kernels of one run side by side: what the choice at boot changes, per cell.

May import harness.verdict and the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.verdict import CellResult, MatrixResult, Verdict

__all__ = ["Pair", "pairs_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two cells that differ in nothing but how their kernel came by its page size."""

    boot_time: CellResult
    compile_time: CellResult

    @property
    def differences(self) -> tuple[str, ...]:
        """Checks with another verdict: `swap: PASS at boot, FAIL compiled in`, or `absent`."""
        ours, theirs = (_verdicts(cell) for cell in (self.boot_time, self.compile_time))
        return tuple(
            f"{name}: {ours.get(name, 'absent')} at boot, {theirs.get(name, 'absent')} compiled in"
            for name in {**ours, **theirs}
            if ours.get(name) != theirs.get(name)
        )


def pairs_of(result: MatrixResult) -> tuple[Pair, ...]:
    """Each boot-time cell asked for its size by name, with each compile-time cell on the same machine."""
    by_size = [cell for cell in result.cells if not cell.asking]
    return tuple(
        Pair(boot_time=ours, compile_time=theirs)
        for ours in by_size
        for theirs in by_size
        if ours.is_boot_time and not theirs.is_boot_time and _machine(ours) == _machine(theirs)
    )


def _machine(cell: CellResult) -> tuple[object, ...]:
    machine = (cell.page_size_asked, cell.cpu, cell.accel, cell.vcpus, cell.memory_mib)
    return *machine, cell.platform, cell.guest


def _verdicts(cell: CellResult) -> dict[str, str]:
    return {check.name: check.verdict.value for check in cell.checks if check.verdict is not Verdict.SKIP} | {
        check.name: f"SKIP ({check.skip_reason})" for check in cell.checks if check.verdict is Verdict.SKIP
    }
