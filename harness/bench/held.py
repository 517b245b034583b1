"""The large area of a process, found in a guest by a walk of its tables: the last that is asked of a guest.

The process touches each page and then does nothing but run, so that the tables of the one vCPU are its own
whenever the guest is stopped. May import harness.bench, harness.bulk, harness.snapshot, harness.qemu.
"""

from __future__ import annotations

import contextlib
from typing import Final

from harness.bench.shape import Shape, found_shape
from harness.bulk import walk_all
from harness.deadline import Deadline
from harness.errors import CommandTimeout, DeadlineExceeded, UsageError
from harness.qemu.machine import Machine
from harness.snapshot import user_regime
from harness.spec import PageSize

__all__ = ["HELD_VA", "held_shape"]

HELD_VA: Final = 0x2_0000_0000
"""Where it is: below 2^36, the smallest user half, and where a table of level 3 begins at each page size."""
START_S: Final = 0.5
LIMIT_S: Final = 30.0


def held_shape(machine: Machine, program: str, page_size: PageSize, area_bytes: int) -> Shape | None:
    """Have the program hold such an area and walk it; None where it is not all there in time.

    A guest whose run is to repeat is stopped by the host's clock for it: nothing that comes after repeats.
    """
    with contextlib.suppress(CommandTimeout):  # it never ends
        machine.shell.run(f"exec {program} --hold {HELD_VA:#x} {area_bytes}", Deadline.after(START_S))
        return None
    found: list[Shape] = []

    def is_there() -> bool:
        with machine.frozen() as frozen:
            snapshot = frozen.snapshot()
            try:
                regime = user_regime(snapshot)
            except UsageError:
                return False
            leaves = walk_all(regime, snapshot.tables())
            found[:] = [found_shape(leaves, page_size, HELD_VA, area_bytes)]
        return sum(found[0].leaves.values()) * page_size.bytes >= area_bytes

    try:
        Deadline.after(LIMIT_S).wait_until(is_there, "the large area")
    except DeadlineExceeded:
        return None
    return found[0]
