"""What a machine's spec puts on the bus beside the standard devices: disks, memory, a network with a host."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID, uuid5

from harness.errors import UsageError
from harness.hyperv.channel import Device
from harness.hyperv.devices.balloon import Balloon
from harness.hyperv.devices.hvsock import SocketHost
from harness.hyperv.devices.netvsc import Netvsc
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Echo, Sink, Source, Stream
from harness.hyperv.scsi.backing import Backing, Blocks
from harness.hyperv.scsi.disk import ScsiDisk
from harness.hyperv.scsi.inquiry import DiskIdentity
from harness.hyperv.scsi.layer import Layer
from harness.spec import Disk, DiskMode, Hyperv, ImageFormat

__all__ = ["CONTENT_BYTES", "ECHO_PORT", "SINK_PORT", "SOURCE_PORT", "Peripherals", "content_md5"]

CONTENT_BYTES: Final = 2 << 20
"""What the host's source gives, and its sink takes before it answers with count and MD5 sum."""
ECHO_PORT: Final = 7
SINK_PORT: Final = 9
SOURCE_PORT: Final = 19
"""RFC 864's generator of characters; ours ends."""
_INSTANCES: Final = UUID("6772616e-756c-6500-0001-766d62757300")


@functools.cache
def _content() -> bytes:
    return random.Random(2).randbytes(CONTENT_BYTES)  # noqa: S311 - content to compare, not a secret


@functools.cache
def content_md5() -> str:
    """Of what the source gives."""
    return hashlib.md5(_content(), usedforsecurity=False).hexdigest()


def _blocks(disk: Disk, cleanup: contextlib.ExitStack) -> Blocks:
    if disk.format is not ImageFormat.RAW:
        raise UsageError(
            f"on Hyper-V a disk image has to be raw, and {disk.path} is not: make it one, with "
            f"`qemu-img convert -O raw {disk.path.name} new.img`"
        )
    if disk.mode is DiskMode.OVERLAY:
        return cleanup.enter_context(Layer(disk.path))
    return cleanup.enter_context(Backing.copy_of(disk.path))


class Peripherals:
    """The devices of one machine; `close` gives their memory back. Raises UsageError for a disk's image."""

    def __init__(self, spec: Hyperv) -> None:
        self._cleanup = contextlib.ExitStack()
        disks: dict[str, Storvsc] = {}
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            for disk in spec.disks:
                scsi = ScsiDisk(_blocks(disk, self._cleanup), DiskIdentity(serial=disk.serial))
                disks[disk.serial] = Storvsc(scsi, instance=uuid5(_INSTANCES, disk.serial))
            on_failure.pop_all()
        self.disks: Mapping[str, Storvsc] = disks
        """By serial number."""
        ports: dict[int, Callable[[], Stream]] = {
            ECHO_PORT: Echo,
            SINK_PORT: lambda: Sink(CONTENT_BYTES),
            SOURCE_PORT: lambda: Source(_content()),
        }
        self.sockets = SocketHost(ports)
        """Services that sockets of the guest's can be connected to."""
        self.network: IpHost | None = None
        self.adapter: Netvsc | None = None
        self.balloon: Balloon | None = Balloon() if spec.balloon else None
        if spec.network:
            self.network = IpHost(ports)
            self.adapter = Netvsc(self.network)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All of them, in the order they are offered in."""
        others = (one for one in (self.adapter, self.balloon) if one is not None)
        return (*self.disks.values(), *others)

    def close(self) -> None:
        """Give the disks' memory back; safe to call again."""
        self._cleanup.close()
