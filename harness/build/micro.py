"""The micro guest's initramfs: busybox, our programs, the kernel's modules, and what the user adds.

The archives are concatenated: one that all kernels share, one per kernel, then the user's.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from harness.build.initramfs import Entry, device, directory, file, symlink, tree, write_cpio
from harness.build.initrd_check import check_initramfs
from harness.build.modules import Wanted, module_entries, modules_key
from harness.build.programs import AGENT, PROBE, build_programs
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.kernel import Kernel
from harness.paths import data_dir

__all__ = ["build_micro_initramfs"]

FORMAT = 1  # part of every key: raise it when this file lays an archive out differently
ARCHIVE = "initramfs.cpio"
CONFIGURATION = ("fstab", "group", "passwd")
EMPTY_DIRECTORIES = ("mnt", "proc", "root", "run", "sys", "tmp", "var")


def build_micro_initramfs(
    kernel: Kernel,
    cache: Cache,
    busybox: Path,
    extra: tuple[tuple[Path, str], ...] = (),
    *,
    on_disk: tuple[Entry, ...] | None = None,
) -> Path:
    """The initramfs for one kernel, from the cache when nothing that it is made of has changed.

    Arguments: `busybox`, a static arm64 executable; `extra`, files or directories of this machine with
    their absolute paths in the guest; `on_disk`, for a guest that goes on with a root on a disk: what that
    takes besides guests/disk. Raises UsageError when the kernel's own initrd or an extra file cannot be used,
    ToolMissing without a compiler.
    """
    parts = [_base(cache, busybox)]
    if kernel.modules is not None:
        parts.append(_modules(cache, kernel, kernel.modules, for_disk=on_disk is not None))
    if kernel.initrd is not None:
        check_initramfs(kernel.initrd)
        parts.append(kernel.initrd)
    added = tuple(entry for source, target in extra for entry in _extra(source, target))
    if on_disk is not None:
        names = ("root.sh", "find-root.sh", "granule-agent.service")
        added += tuple(file(f"etc/granule/{name}", _guest_file(name, "disk")) for name in names) + on_disk
    digest = hashlib.sha256(repr((FORMAT, [_sha256(part) for part in parts], added)).encode())
    # An initrd that brings an /init of its own must not replace the guest's.
    overlay = {entry.name: entry for entry in (*added, _init())}.values()

    def build(target: Path) -> None:
        with (target / ARCHIVE).open("wb") as out:
            for part in parts:
                _append(out, part)
            if kernel.initrd is not None or added:
                with tempfile.NamedTemporaryFile(dir=target) as last:
                    write_cpio(Path(last.name), overlay)
                    _append(out, Path(last.name))

    label = f"initramfs for {kernel.name} {kernel.release}"
    return cache.make("initramfs", digest.hexdigest()[:32], build, describe=label) / ARCHIVE


def _guest_file(name: str, guest: str = "micro") -> bytes:
    return (data_dir("guests") / guest / name).read_bytes()


def _init() -> Entry:
    return file("init", _guest_file("init"), 0o755)


def _base(cache: Cache, busybox: Path) -> Path:
    """What every kernel's guest has."""
    programs = build_programs(Toolchain.find(), cache)
    entries = [
        _init(),
        file("bin/busybox", busybox.read_bytes(), 0o755),
        symlink("bin/sh", "busybox"),
        # Where the kernel looks for it (CONFIG_MODPROBE_PATH).
        symlink("sbin/modprobe", "../bin/busybox"),
        file(f"sbin/{AGENT}", (programs / AGENT).read_bytes(), 0o755),
        file(f"bin/{PROBE}", (programs / PROBE).read_bytes(), 0o755),
        symlink("bin/getconf", PROBE),
        *(file(f"etc/{name}", _guest_file(name)) for name in CONFIGURATION),
        *(directory(name) for name in EMPTY_DIRECTORIES),
        # The kernel opens it for /init before anything is mounted.
        device("dev/console", 5, 1),
        device("dev/null", 1, 3, 0o666),
    ]
    digest = hashlib.sha256(repr((FORMAT, entries)).encode())
    return _cached(cache, digest.hexdigest()[:32], lambda: entries, "initramfs of the micro guest")


def _modules(cache: Cache, kernel: Kernel, modules: Path, *, for_disk: bool) -> Path:
    """The modules of one kernel that the guest needs."""
    if not modules.is_dir():
        raise UsageError(
            f"the modules of {kernel.name} are not where they should be: {modules} is no directory"
        )
    names = _guest_file("modules") + (_guest_file("modules", "disk") if for_disk else b"")
    wanted = Wanted.parse(names.decode())
    key = modules_key(modules, kernel.release, wanted, kmod=for_disk)
    label = f"modules for {kernel.name} {kernel.release}"
    return _cached(cache, key, lambda: module_entries(modules, kernel.release, wanted, kmod=for_disk), label)


def _cached(cache: Cache, key: str, entries: Callable[[], Iterable[Entry]], label: str) -> Path:
    made = cache.make(
        "initramfs", key, lambda target: write_cpio(target / ARCHIVE, entries()), describe=label
    )
    return made / ARCHIVE


def _extra(source: Path, target: str) -> tuple[Entry, ...]:
    try:
        return tree(source.resolve(strict=True), target.strip("/"))
    except OSError as error:
        raise UsageError(f"cannot put {source} into the guest: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _append(out: BinaryIO, part: Path) -> None:
    """Copy an archive to the end; the kernel wants the next one at a multiple of 4 bytes."""
    with part.open("rb") as data:
        shutil.copyfileobj(data, out)
    out.write(b"\0" * (-out.tell() % 4))
