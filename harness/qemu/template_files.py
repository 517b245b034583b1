"""What a template is on disk: RAM, device state and console, with a file that says how they must hash.

ram             guest RAM, holes for zeros
devices         QEMU's migration stream
console         what the guest had printed
overlay-N       what the guest had written to its Nth disk that is an overlay, qcow2
template.json   {"ram_bytes": …, "digests": {"ram": …, "devices": …, "console": …, "overlay-0": …}}
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from harness.memory.sparse import copy_data, digest_of
from harness.qemu.state import SavedState

__all__ = ["DamagedTemplate", "open_template", "write_template"]

RAM, DEVICES, CONSOLE, ABOUT = "ram", "devices", "console", "template.json"
# What reading into memory is bounded by; the console's transcript is bounded at 8 MiB.
SMALL_FILE_LIMIT_BYTES = 64 << 20


class DamagedTemplate(Exception):
    """A stored template is not as it was written; `str()` says which file and how."""


def write_template(
    directory: Path, *, ram: int, ram_bytes: int, devices: bytes, console: bytes, overlays: Sequence[int] = ()
) -> None:
    """Store a stopped machine in an empty directory. `ram`, `overlays`: descriptors. Raises OSError."""
    digests = {DEVICES: _digest(devices), CONSOLE: _digest(console)}
    for name, descriptor in ((RAM, ram), *((f"overlay-{at}", one) for at, one in enumerate(overlays))):
        size_bytes = ram_bytes if name == RAM else os.fstat(descriptor).st_size
        with (directory / name).open("wb") as file:
            os.ftruncate(file.fileno(), size_bytes)
            copy_data(descriptor, file.fileno(), size_bytes)
        digests[name] = digest_of(descriptor, size_bytes)
    (directory / DEVICES).write_bytes(devices)
    (directory / CONSOLE).write_bytes(console)
    about = {"ram_bytes": ram_bytes, "digests": digests}
    (directory / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def open_template(
    directory: Path, ram_bytes: int, stack: contextlib.ExitStack, *, overlays: int = 0
) -> SavedState:
    """A stored template, every byte of it checked; its descriptors are closed with `stack`.

    `overlays`: how many of its disks are.
    Raises DamagedTemplate when anything is missing or differs from what was written.
    """
    try:
        about = json.loads(_small(directory / ABOUT))
        digests = about["digests"]
        devices, console = _small(directory / DEVICES), _small(directory / CONSOLE)
        for name, content in ((DEVICES, devices), (CONSOLE, console)):
            if _digest(content) != digests[name]:
                raise DamagedTemplate(f"{directory / name} has changed since it was written")
        ram = _open_ram(directory / RAM, ram_bytes, stack)
        if digest_of(ram, ram_bytes) != digests[RAM]:
            raise DamagedTemplate(f"{directory / RAM} has changed since it was written")
        names = [f"overlay-{at}" for at in range(overlays)]
        layers = tuple(_open_overlay(directory / name, digests[name], stack) for name in names)
    except OSError as error:
        raise DamagedTemplate(f"{directory}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedTemplate(f"{directory / ABOUT} is not what was written there ({error})") from error
    return SavedState(
        ram=ram, devices=_in_memory("granule-devices", devices, stack), console=console, overlays=layers
    )


def _open_overlay(path: Path, digest: str, stack: contextlib.ExitStack) -> int:
    overlay = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, overlay)
    if digest_of(overlay, os.fstat(overlay).st_size) != digest:
        raise DamagedTemplate(f"{path} has changed since it was written")
    return overlay


def _open_ram(path: Path, ram_bytes: int, stack: contextlib.ExitStack) -> int:
    """The RAM file, open for writing; a copy in memory where the file may not be written.

    QEMU before 8.2 opens what it maps private for writing too (softmmu/physmem.c, file_ram_open()).
    """
    try:
        ram = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        with path.open("rb") as file:
            ram = os.memfd_create("granule-template", os.MFD_CLOEXEC)
            stack.callback(os.close, ram)
            os.ftruncate(ram, ram_bytes)
            if os.fstat(file.fileno()).st_size != ram_bytes:
                raise DamagedTemplate(f"{path} is not {ram_bytes} bytes long") from None
            copy_data(file.fileno(), ram, ram_bytes)
            return ram
    stack.callback(os.close, ram)
    return ram


def _in_memory(name: str, content: bytes, stack: contextlib.ExitStack) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _small(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(SMALL_FILE_LIMIT_BYTES + 1)
    if len(content) > SMALL_FILE_LIMIT_BYTES:
        raise DamagedTemplate(f"{path} is larger than anything that is written there")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
