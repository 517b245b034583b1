"""A machine's disks as files for QEMU: copies in memory, layers above an image, or the image itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import InfraError
from harness.memory.sparse import copy_data, unnamed_file
from harness.qemu.qcow2 import empty_image
from harness.spec import Disk, DiskMode

__all__ = ["OpenDisk", "open_disks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDisk:
    """Descriptors of one disk."""

    top: int
    """Where the guest's writes go."""
    below: tuple[int, ...] = ()
    """Of an overlay: the raw image, and what lies between."""


def open_disks(
    disks: Iterable[Disk], overlays: Iterable[int], cleanup: contextlib.ExitStack
) -> tuple[OpenDisk, ...]:
    """The disks of one machine, closed with `cleanup`.

    `overlays`: for a clone, what its template had written to each disk that is an overlay. Raises InfraError
    when an image cannot be read, or a layer cannot be made.
    """
    written = iter(overlays)

    def opened(disk: Disk) -> OpenDisk:
        if disk.mode is DiskMode.OVERLAY:
            return _overlay(disk, next(written, None), cleanup)
        if disk.mode is DiskMode.DIRECT:
            return OpenDisk(top=_open(disk, os.O_RDWR, cleanup))
        return OpenDisk(top=_private_copy(disk, cleanup))

    return tuple(map(opened, disks))


def _open(disk: Disk, flags: int, cleanup: contextlib.ExitStack) -> int:
    try:
        descriptor = os.open(disk.path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise InfraError(f"cannot open the disk image {disk.path}: {error.strerror}") from error
    cleanup.callback(os.close, descriptor)
    return descriptor


def _overlay(disk: Disk, written: int | None, cleanup: contextlib.ExitStack) -> OpenDisk:
    image = _open(disk, os.O_RDONLY, cleanup)
    below = [image]
    if written is not None:
        below.append(os.dup(written))
        cleanup.callback(os.close, below[-1])
    try:
        top = unnamed_file()
        cleanup.callback(os.close, top)
        os.write(top, empty_image(disk.size_bytes or os.fstat(image).st_size))
    except OSError as error:
        raise InfraError(f"cannot make a layer above the disk image {disk.path}: {error}") from error
    return OpenDisk(top=top, below=tuple(below))


def _private_copy(disk: Disk, cleanup: contextlib.ExitStack) -> int:
    """An anonymous file with the image's content: the guest writes there, never to the image."""
    copy = os.memfd_create(f"granule-disk-{disk.serial}", os.MFD_CLOEXEC)
    cleanup.callback(os.close, copy)
    try:
        with disk.path.open("rb") as image:
            size_bytes = os.fstat(image.fileno()).st_size
            os.ftruncate(copy, size_bytes)
            copy_data(image.fileno(), copy, size_bytes)
    except OSError as error:
        raise InfraError(f"cannot read the disk image {disk.path}: {error.strerror}") from error
    return copy
