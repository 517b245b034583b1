"""A machine's state saved and loaded: QEMU's migration, with guest RAM left where it is.

With the capability `x-ignore-shared` (QEMU migration/ram.c, ramblock_is_ignored()) the stream carries no RAM
that is mapped shared, so it holds device state only. RAM is the file itself, which a clone maps private.
"""

from __future__ import annotations

import contextlib
import os
import select
from dataclasses import dataclass, field
from io import FileIO

from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, InfraError
from harness.qemu.process import QemuProcess

__all__ = ["CannotMigrate", "SavedState", "load_state", "save_state"]

MONITOR_S = 10.0
MIGRATE_S = 60.0
# A few hundred KB are usual; it grows with the devices, not with RAM.
STATE_LIMIT_BYTES = 64 << 20


class CannotMigrate(InfraError):
    """QEMU cannot save this machine's state, or cannot go on from it; `str()` has QEMU's own reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """A stopped machine: what a clone goes on from. The descriptors belong to whoever made it."""

    ram: int
    """A file with the guest's RAM, which QEMU opens for writing and never writes to."""
    devices: int
    """A file with the migration stream."""
    console: bytes = field(repr=False, default=b"")
    """What the guest had printed."""
    overlays: tuple[int, ...] = ()
    """Files with what the guest had written to disks that are overlays, in the spec's order."""

    def reopened(self) -> FileIO:
        """The migration stream from its start, with a file position of its own."""
        return FileIO(os.open(f"/proc/self/fd/{self.devices}", os.O_RDONLY | os.O_CLOEXEC))


def save_state(qmp: Qmp) -> bytes:
    """The device state of a stopped machine; raises CannotMigrate with what stands in the way."""
    deadline = Deadline.after(MIGRATE_S)
    blockers = qmp.execute("query-migrate", deadline).get("blocked-reasons", [])
    if blockers:
        raise CannotMigrate(f"QEMU cannot save this machine: {'; '.join(map(str, blockers))}")
    _prepare(qmp, deadline)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with FileIO(reader) as stream:
        try:
            qmp.send_descriptor("state", writer, deadline)
        finally:
            os.close(writer)
        qmp.execute("migrate", deadline, uri="fd:state")
        saved = _read_all(stream, deadline)
    _await_migration(qmp, deadline)
    return saved


def _read_all(stream: FileIO, deadline: Deadline) -> bytes:
    """What QEMU writes until it closes its end, which it does when it is done, well or not."""
    saved = bytearray()
    while True:
        readable, _, _ = select.select([stream], [], [], deadline.left_s())
        if not readable:
            raise DeadlineExceeded("QEMU did not save its state in time")
        data = stream.read(1 << 20)
        if not data:
            return bytes(saved)
        saved += data
        if len(saved) > STATE_LIMIT_BYTES:
            raise CannotMigrate(f"the device state is larger than {STATE_LIMIT_BYTES >> 20} MiB")


def load_state(qmp: Qmp, process: QemuProcess, descriptor: int) -> None:
    """Load the device state from a descriptor that QEMU inherited under that number; vCPUs stay stopped."""
    deadline = Deadline.after(MIGRATE_S)
    try:
        _prepare(qmp, deadline)
        qmp.execute("migrate-incoming", deadline, uri=f"fd:{descriptor}")
        _await_migration(qmp, deadline)
    except ChannelError as error:
        # A QEMU that cannot load a state says why on stderr and ends (migration.c).
        with contextlib.suppress(DeadlineExceeded):
            process.wait(Deadline.after(1))
        said = process.stderr().strip() or str(error)
        raise CannotMigrate(f"QEMU could not load the saved state: {said}") from error


def _prepare(qmp: Qmp, deadline: Deadline) -> None:
    wanted = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    qmp.execute("migrate-set-capabilities", deadline, capabilities=wanted)


def _await_migration(qmp: Qmp, deadline: Deadline) -> None:
    while True:
        event = qmp.wait_event("MIGRATION", deadline)
        if event is None:
            raise DeadlineExceeded("QEMU's migration did not end in time")
        if event.get("status") == "completed":
            return
        if event.get("status") in ("failed", "cancelled"):
            about = qmp.execute("query-migrate", deadline)
            raise CannotMigrate(f"QEMU's migration failed: {about.get('error-desc', 'it gave no reason')}")
