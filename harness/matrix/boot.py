"""Getting a guest to its shell, or saying why it did not come."""

from __future__ import annotations

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.kernels.kernel import Kernel
from harness.linux.symbols import Symboliser
from harness.matrix.diagnosis import diagnose, symbols_of
from harness.matrix.patience import Patience
from harness.matrix.record import Record
from harness.qemu.machine import Machine
from harness.verdict import Verdict

__all__ = ["Symbols", "boot", "settle"]

LOOK_S = 1.0
# A kernel on a CPU without its granule never speaks; any other does within this, many times over.
MUTE_S = 3.0


class Symbols:
    """A kernel's symbols, read when first asked for: only a guest in trouble needs them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._found: tuple[Symboliser | None] | None = None

    def get(self) -> Symboliser | None:
        """The symbols, or None for a kernel that has none."""
        if self._found is None:
            self._found = (symbols_of(self._kernel),)
        return self._found[0]


def boot(machine: Machine, symbols: Symbols, patience: Patience, record: Record) -> None:
    """Wait for the guest's shell; raises CellEnded with HANG or TIMEOUT settled, or GuestGone."""
    deadline = Deadline.after(patience.boot_s)
    looked_at_mute = False
    while True:
        try:
            machine.shell.wait_ready(deadline.sooner(LOOK_S))
        except DeadlineExceeded:
            silent_s = machine.console.silent_s()
            # A guest whose run is to repeat is not stopped by our clock before it is given up.
            exact = machine.spec.exact is not None
            if not exact and silent_s > MUTE_S and not looked_at_mute and not machine.transcript.content():
                looked_at_mute = True
                _end_if_without_granule(machine, symbols, record)
            if silent_s > patience.silence_s or deadline.expired():
                found = diagnose(machine, symbols.get())
                hang = silent_s > patience.silence_s
                reason = f"no shell after {machine.age_s:.0f} s, the console silent for {silent_s:.0f} s"
                verdict = Verdict.HANG if hang else Verdict.TIMEOUT
                raise record.end(verdict, reason, found.lines) from None
        else:
            record.boot_s = machine.age_s
            return


def settle(machine: Machine, patience: Patience, record: Record) -> None:
    """Wait until a distribution's services have come up, or have failed: a check asks which.

    Raises CommandTimeout, GuestGone.
    """
    machine.shell.run("systemctl is-system-running --wait", Deadline.after(patience.boot_s))
    record.boot_s = machine.age_s


def _end_if_without_granule(machine: Machine, symbols: Symbols, record: Record) -> None:
    found = diagnose(machine, symbols.get())
    if found.no_granule:
        raise record.end(Verdict.HANG, found.no_granule, found.lines)
