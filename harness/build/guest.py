"""The micro guest as the matrix asks for it: an initramfs for a kernel, everything it needs seen to."""

from __future__ import annotations

import functools
from pathlib import Path

from harness.build.initramfs import Entry
from harness.build.micro import build_micro_initramfs
from harness.build.programs import build_programs
from harness.build.sshd import SSHD_PACKAGES, build_sshd
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.kernels.debian import fetch_package
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet

__all__ = ["MicroGuest"]

BUSYBOX_PACKAGE = "busybox-static"


class MicroGuest:
    """busybox, our agent and our probe programs, in RAM.

    Arguments: `offline`, take busybox from the cache only; `progress`, told of what is fetched and made.
    """

    def __init__(self, cache: Cache, *, offline: bool = False, progress: Progress = quiet) -> None:
        self._cache = cache
        self._offline = offline
        self._progress = progress

    @functools.cached_property
    def _busybox(self) -> Path:
        root = fetch_package(self._cache, BUSYBOX_PACKAGE, offline=self._offline, progress=self._progress)
        return root / "usr/bin/busybox"

    @functools.cached_property
    def sshd(self) -> Path:
        """The archive that makes a running guest reachable by SSH; fetched and made when first asked for.

        Raises InfraError when it cannot be had.
        """
        self._progress(0, None, "preparing the guest's SSH server")
        roots = [
            fetch_package(self._cache, name, offline=self._offline, progress=self._progress)
            for name in SSHD_PACKAGES
        ]
        return build_sshd(self._cache, roots)

    def prepare(self, kernel: Kernel) -> None:
        """Make all that a guest with this kernel needs, in the caller's thread; `initramfs` is then quick.

        Worker threads never see Ctrl-C, and what they show is lost among their cells'. Raises InfraError when
        busybox cannot be had or the programs do not compile, ToolMissing, UsageError for an unfit initrd.
        """
        self._progress(0, None, "preparing the guest's busybox")
        _ = self._busybox
        self._progress(0, None, "compiling the guest's programs")
        build_programs(Toolchain.find(), self._cache)
        self._progress(0, None, f"making the initramfs for {kernel.name}")
        self.initramfs(kernel)

    def initramfs(self, kernel: Kernel, *, on_disk: tuple[Entry, ...] | None = None) -> Path:
        """The initramfs for a kernel, with its modules in it; made once, kept in the cache.

        `on_disk`: what a guest needs that goes on with a root on a disk.
        """
        return build_micro_initramfs(kernel, self._cache, self._busybox, on_disk=on_disk)
