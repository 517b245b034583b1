"""One guest, booted to its shell so that a command can look at it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from harness.cli.options import Setting
from harness.deadline import Deadline
from harness.errors import GuestGone, InfraError
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell
from harness.matrix.patience import Patience
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import expect_page_size, machine_spec, subject_of
from harness.smoke.subject import Subject

__all__ = ["Booted", "booted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """A guest at its shell, with the page size it was asked for."""

    subject: Subject
    symbols: Symbols
    """Those of the kernel that runs."""
    seconds: float
    """It took to come up."""


@contextlib.contextmanager
def booted(cell: Cell, setting: Setting, console: Console) -> Iterator[Booted]:
    """A cell's guest; it is ended when the caller is done with it.

    Raises InfraError where it does not come up, has another page size, or ends before the caller is done.
    """
    named = cell.kernel in setting.store.catalogue.names
    kernel = setting.store.get(cell.kernel, beside=None if named else setting.beside)
    setting.kernel_progress.close()
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    record = Record()
    symbols = Symbols(kernel.running(cell.page_size))
    console.print(f"granule: booting {cell.id}", soft_wrap=True)
    spec = machine_spec(cell, kernel, setting.bench)
    with contextlib.ExitStack() as stack:
        try:
            started = setting.bench.guests.start(
                spec,
                lambda machine: boot(machine, symbols, patience, record),
                Deadline.after(patience.cell_s),
            )
            stack.callback(started.machine.close)
            soon = Deadline.after(patience.boot_s)
            subject = subject_of(cell, kernel, started.machine, patience, soon)
            expect_page_size(subject, record)
            yield Booted(subject=subject, symbols=symbols, seconds=started.seconds)
        except CellEnded as error:
            raise InfraError(f"{cell.id}: {record.verdict.value}: {record.reason}") from error
        except GuestGone as error:
            raise InfraError(f"{cell.id}: the guest ended before it could be looked at: {error}") from error
