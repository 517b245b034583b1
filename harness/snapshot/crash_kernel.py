"""Memory that a crash dump lacks: what was reserved for the kernel that made it.

It was RAM to the kernel that crashed, which maps it, so rules about what is RAM have to know of it. That
kernel has the ranges in two variables of its own. May import what else is in this package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from harness.errors import ChannelError
from harness.snapshot.inferred import regime_of, vmcoreinfo_of
from harness.snapshot.snapshot import Snapshot
from harness.snapshot.symbols import symbols_in
from harness.vmsa import Translation, walk

__all__ = ["crash_kernel_ram", "whole_ram"]

_RESOURCES: Final = ("crashk_res", "crashk_low_res")
"""kernel/crash_reserve.c, kernel/kexec_core.c before Linux 6.9; struct resource begins with start and end."""
MAX_BYTES: Final = 1 << 40
"""More than this is no reservation but a damaged variable."""


def crash_kernel_ram(snapshot: Snapshot) -> Iterator[range]:
    """Physical addresses that the kernel in a snapshot reserved for a crash kernel, as it says itself.

    Nothing where it has no symbols for its data (CONFIG_KALLSYMS_ALL), or reserved none.
    """
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    regime = regime_of(info, snapshot.memory) if info is not None else None
    table = symbols_in(snapshot) if regime is not None else None
    if regime is None or table is None:
        return
    for name in _RESOURCES:
        va = table.address_of(name)
        found = None if va is None else walk(regime, snapshot.read, va)
        if not isinstance(found, Translation):
            continue
        try:
            start, last = struct.unpack("<QQ", snapshot.read(found.pa, 16))
        except ChannelError:
            continue
        if start < last < start + MAX_BYTES:
            yield range(start, last + 1)


def whole_ram(snapshot: Snapshot) -> tuple[range, ...]:
    """What was RAM to a snapshot's machine, be it at hand or not, in order; what touches is one range."""
    joined: list[range] = []
    for one in sorted((*snapshot.ram, *crash_kernel_ram(snapshot)), key=lambda one: one.start):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return tuple(joined)
