"""The micro guest as the matrix asks for it: an initramfs for a kernel, everything it needs seen to."""

from __future__ import annotations

import functools
from pathlib import Path

from harness.build.micro import build_micro_initramfs
from harness.cache import Cache
from harness.kernels.debian import fetch_package
from harness.kernels.kernel import Kernel

__all__ = ["MicroGuest"]

BUSYBOX_PACKAGE = "busybox-static"


class MicroGuest:
    """busybox, our agent and our probe programs, in RAM."""

    def __init__(self, cache: Cache, *, offline: bool = False) -> None:
        self._cache = cache
        self._offline = offline

    @functools.cached_property
    def _busybox(self) -> Path:
        root = fetch_package(self._cache, BUSYBOX_PACKAGE, offline=self._offline)
        return root / "usr/bin/busybox"

    def initramfs(self, kernel: Kernel) -> Path:
        """The initramfs for a kernel, with its modules in it; made once, kept in the cache."""
        return build_micro_initramfs(kernel, self._cache, self._busybox)
