"""Tests of harness.matrix.budget."""

from __future__ import annotations

import threading
from pathlib import Path

from harness.matrix.budget import MemoryBudget, available_mib
from harness.qemu.clone import OVERHEAD_MIB


def test_guests_wait_for_memory() -> None:
    """A guest that does not fit beside another starts when that one has ended."""
    budget = MemoryBudget(2 * (256 + OVERHEAD_MIB))
    running, started = threading.Event(), threading.Event()

    def second() -> None:
        with budget.reserve(512):
            started.set()

    with budget.reserve(256):
        running.set()
        thread = threading.Thread(target=second)
        thread.start()
        assert not started.wait(0.1)
    assert started.wait(10)
    thread.join()


def test_two_that_fit_run_at_once() -> None:
    """Guests that fit together do not wait for each other."""
    budget = MemoryBudget(2 * (256 + OVERHEAD_MIB))
    with budget.reserve(256), budget.reserve(256):
        pass


def test_a_guest_larger_than_the_host_runs_alone() -> None:
    """A guest that can never fit is let in when nothing else runs: QEMU will say if it cannot be."""
    with MemoryBudget(100).reserve(4096):
        pass


def test_available_memory_is_read_from_meminfo(tmp_path: Path) -> None:
    """MemAvailable counts, in MiB; without it a cautious figure."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:   2097152 kB\n")
    assert available_mib(meminfo) == 2048
    meminfo.write_text("MemTotal:  8000000 kB\n")
    assert available_mib(meminfo) == 1024
