"""What is kept of a guest whose cell did not pass, while its QEMU still answers: registers and memory.

A verdict is never changed here: a guest that cannot be saved is said to be so, and that is all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.qemu.machine import Machine
from harness.snapshot import save

__all__ = ["DEFAULT_LIMIT", "SNAPSHOT_NAME", "PostMortem"]

SNAPSHOT_NAME: Final = "guest.snapshot"
DEFAULT_LIMIT: Final = 4
"""Snapshots of one run: each takes as much disk as its guest touched memory, 60 MiB to 1 GiB."""


class PostMortem:
    """Saves guests to DIRECTORY/CELL/guest.snapshot, for several threads; at most `limit` of them."""

    def __init__(self, directory: Path, *, limit: int = DEFAULT_LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._lock = threading.Lock()
        self._kept = 0
        self._left_out: list[str] = []

    @property
    def left_out(self) -> tuple[str, ...]:
        """Cells whose guest was not saved because there were enough."""
        with self._lock:
            return tuple(self._left_out)

    def keep(self, cell_id: str, machine: Machine, provenance: Mapping[str, str]) -> str:
        """Stop the guest and save it; returns the file's name, or why there is none: `none: …`."""
        with self._lock:
            if self._kept >= self._limit:
                self._left_out.append(cell_id)
                return f"none: {self._limit} were kept of other cells (--snapshot-limit)"
            self._kept += 1
        try:
            self._save(cell_id, machine, provenance)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here is no verdict on the guest
            with self._lock:
                self._kept -= 1
            return f"none: the guest could not be saved ({str(error) or type(error).__name__})"
        return SNAPSHOT_NAME

    def _save(self, cell_id: str, machine: Machine, provenance: Mapping[str, str]) -> None:
        status = machine.process.exit_status()
        if status is not None:
            raise RuntimeError(f"QEMU had ended by itself, with status {status}")
        bundle = self._directory / cell_id
        bundle.mkdir(parents=True, exist_ok=True)
        with machine.frozen() as frozen:
            save(replace(frozen.snapshot(cell_id), provenance=dict(provenance)), bundle / SNAPSHOT_NAME)
