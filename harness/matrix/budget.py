"""Memory for guests: never more of them at once than the host can hold."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from harness.qemu.clone import OVERHEAD_MIB

__all__ = ["MemoryBudget", "available_mib", "guest_memory_mib"]

# Left to the host and its file cache.
SPARED_MIB = 512


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable of the host, in MiB (proc(5))."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    return int(match[1]) >> 10 if match else 1024


def guest_memory_mib() -> int:
    """What all guests of a run may take together, in MiB."""
    return max(available_mib() - SPARED_MIB, 1)


class MemoryBudget:
    """Lets guests start as memory allows. A guest larger than all of it runs alone."""

    def __init__(self, total_mib: int) -> None:
        self._total_mib = total_mib
        self._used_mib = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserve(self, guest_mib: int) -> Iterator[None]:
        """Hold memory for a guest with that much RAM, waiting for other guests to end first."""
        need_mib = min(guest_mib + OVERHEAD_MIB, self._total_mib)
        with self._changed:
            self._changed.wait_for(lambda: self._used_mib + need_mib <= self._total_mib)
            self._used_mib += need_mib
        try:
            yield
        finally:
            with self._changed:
                self._used_mib -= need_mib
                self._changed.notify_all()
