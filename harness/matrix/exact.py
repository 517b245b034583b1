"""A cell whose run is to repeat: run twice, and compared to the byte; or run again from its report alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness import __version__
from harness.determinism.compare import Difference, Stream, compare, first_difference
from harness.determinism.record import Fingerprint, Recipe, RunRecord
from harness.determinism.report import report_stream
from harness.errors import InfraError, UsageError
from harness.kernels.kernel import Kernel
from harness.linux.klog import harmless
from harness.matrix.cell import Cell
from harness.matrix.run import CONSOLE_KEPT_BYTES, Bench, run_cell
from harness.qemu.machine import Machine
from harness.smoke import CHECKS, Check
from harness.spec import Accel, PageSize
from harness.verdict import CellResult, CheckResult, Verdict

__all__ = ["NEVER_EXACT", "Witnessed", "cell_of", "changed_inputs", "difference_from", "run_exact", "witness"]

NEVER_EXACT = {
    "block": "virtio-blk completes requests when the host does: no disks in a run that repeats",
    "network": "virtio-net delivers when the host's threads do: no network in a run that repeats",
    "ssh": "virtio-net delivers when the host's threads do: no network in a run that repeats",
    "user-tables": "it catches a process by stopping the guest at any moment; a guest whose run repeats is "
    "stopped only where it asks for input",
}
"""Checks, by name, that cannot be part of a run that repeats, and why."""

OnCheck = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """One run of a cell, with every byte that is compared."""

    result: CellResult
    streams: tuple[Stream, ...]
    """Console, the shell's line, report: always these."""


def witness(cell: Cell, kernel: Kernel, bench: Bench, on_check: OnCheck) -> Witnessed:
    """Run a cell once; `on_check` hears of the checks that were left out too."""
    said: dict[str, bytes] = {"console": b"", "shell": b""}

    def on_end(machine: Machine) -> None:
        said["console"] = machine.transcript.content()
        said["shell"] = machine.exact.transcript() if machine.exact is not None else b""

    result = run_cell(cell, kernel, bench, on_check, on_end)
    left_out = tuple(
        CheckResult(name=name, verdict=Verdict.SKIP, expectations=0, duration_s=0.0, skip_reason=reason)
        for name, reason in cell.left_out
    )
    for check in left_out:
        on_check(check)
    result = replace(result, checks=(*result.checks, *left_out))
    streams = tuple(Stream(name=name, content=content) for name, content in said.items())
    return Witnessed(result=result, streams=(*streams, report_stream(result)))


def run_exact(cell: Cell, kernel: Kernel, bench: Bench, on_check: OnCheck) -> CellResult:
    """Run a cell twice and compare; under `--explore` a cell that passes is run once.

    Two runs that differ are nobody's fault but ours: INFRA, unless one of them failed, which stays.
    """
    run = witness(cell, kernel, bench, on_check)
    if run.result.verdict is Verdict.INFRA:
        return run.result
    difference, runs = None, 1
    if not cell.explored or not run.result.verdict.is_pass:
        # The guest that did not pass has been kept already.
        again = witness(cell, kernel, replace(bench, post_mortem=None), lambda _check: None)
        difference, runs = compare(run.streams, again.streams), 2
        if again.result.verdict.is_failure and not run.result.verdict.is_failure:
            run = again
    record = _record(cell, kernel, bench, run, difference, runs)
    result = replace(run.result, exact=record)
    if difference is not None and result.verdict.is_pass:
        reason = f"two runs were not identical: {difference.where}"
        return replace(result, verdict=Verdict.INFRA, reason=reason)
    return result


def _record(
    cell: Cell, kernel: Kernel, bench: Bench, run: Witnessed, difference: Difference | None, runs: int
) -> RunRecord:
    if cell.exact is None:
        raise ValueError("a cell whose run is not to repeat")
    return RunRecord(
        conditions=cell.exact,
        qemu=bench.qemu.version_text,
        kernel_sha256=kernel.sha256,
        initrd_sha256=_sha256(bench.guest.initramfs(kernel.running(cell.page_size))),
        streams=tuple(map(Fingerprint.of, run.streams)),
        runs=runs,
        difference="" if difference is None else str(difference),
        recipe=Recipe(
            kernel=cell.kernel,
            kernel_options=cell.kernel_options,
            checks=tuple(check.name for check in cell.checks),
            cmdline=cell.cmdline,
            boot_time=cell.boot_time,
            timeout_s=cell.timeout_s,
            granule=__version__,
        ),
    )


def cell_of(result: CellResult, record: RunRecord, known: tuple[Check, ...] = CHECKS) -> Cell:
    """The cell that a report's result came from; raises UsageError for checks that are not `known`."""
    by_name = {check.name: check for check in known}
    names = record.recipe.checks
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UsageError(f"{result.id}: this granule has no check '{unknown[0]}', which is part of the run")
    return Cell(
        kernel=record.recipe.kernel,
        page_size=result.page_size_asked,
        cpu=result.cpu,
        accel=Accel.TCG,
        vcpus=result.vcpus,
        memory_mib=result.memory_mib,
        checks=tuple(by_name[name] for name in names),
        timeout_s=record.recipe.timeout_s,
        force=True,
        boot_time=record.recipe.boot_time,
        cmdline=record.recipe.cmdline,
        kernel_options=record.recipe.kernel_options,
        exact=record.conditions,
        left_out=tuple(
            (check.name, check.skip_reason)
            for check in result.checks
            if check.name in NEVER_EXACT and check.name not in names
        ),
    )


def changed_inputs(record: RunRecord, kernel: Kernel, size: PageSize, bench: Bench) -> tuple[str, ...]:
    """What of a run at that page size is not as it was recorded, one line each.

    Raises InfraError for an unreadable file.
    """
    return record.changed_inputs(
        granule=__version__,
        qemu=bench.qemu.version_text,
        kernel_sha256=kernel.sha256,
        initrd_sha256=_sha256(bench.guest.initramfs(kernel.running(size))),
    )


def difference_from(result: CellResult, record: RunRecord, again: Witnessed) -> tuple[str, ...]:
    """How a run differs from the recorded one, a paragraph for each stream that does; none when identical.

    The report keeps the console's text, made harmless, and what its own lines are made of: those are shown
    side by side. Of the shell's line it keeps the checksum only.
    """
    kept = {
        "console": (result.console.encode(), _kept_console(again)),
        "report": (report_stream(result).content, report_stream(again.result).content),
    }
    was = {fingerprint.name: fingerprint for fingerprint in record.streams}
    now = {stream.name: Fingerprint.of(stream) for stream in again.streams}
    found = []
    for name in record.changed(again.streams):
        shown = first_difference(name, *kept[name]) if name in kept else None
        sizes = [f"{one.size_bytes} bytes" if one else "absent" for one in (was.get(name), now.get(name))]
        plain = f"the {name} differs: {sizes[0]} then, {sizes[1]} now, and another sha256"
        found.append(str(shown) if shown is not None else plain)
    return tuple(found)


def _kept_console(run: Witnessed) -> bytes:
    """The console as a report keeps it; see `harness.matrix.run`."""
    content = next(stream.content for stream in run.streams if stream.name == "console")
    return harmless(content[-CONSOLE_KEPT_BYTES:]).encode()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
