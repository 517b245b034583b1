"""What modules of a kernel are built against: Debian's headers, or the directory that we built it in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.cache import WORK, Cache
from harness.errors import UsageError
from harness.kernels.kbuild.headers import headers_tree
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.record import sha256_of

__all__ = ["module_tree"]

_IMAGE = "arch/arm64/boot/Image"
_RELEASE = "include/config/kernel.release"
_SYMBOLS = "Module.symvers"


@contextlib.contextmanager
def module_tree(
    cache: Cache, kernel: Kernel, *, offline: bool = False, progress: Progress = quiet
) -> Iterator[Path]:
    """A directory for `make -C`, nobody else's meanwhile if it is a build directory.

    Raises UsageError for a kernel that is neither Debian's nor of a build that is still in the cache, and
    what `headers_tree` raises.
    """
    if kernel.origin.startswith("Debian"):
        yield headers_tree(cache, kernel, offline=offline, progress=progress)
        return
    for path in sorted((cache.root / WORK).glob("build-*")):
        if _is_of(path, kernel):
            with cache.workdir(path.name):
                if _is_of(path, kernel):
                    yield path
                    return
    raise UsageError(
        "modules can be built for Debian's kernels, and for ours while the directory that they were built in"
        f" is in the cache; {kernel.name} is {kernel.origin}. `granule kernels fetch --refresh {kernel.name}`"
        " builds it again."
    )


def _is_of(output: Path, kernel: Kernel) -> bool:
    """True for the directory that holds this very Image and what its modules need."""
    try:
        release = (output / _RELEASE).read_text(encoding="utf-8").strip()
        found = release == kernel.release and (output / _SYMBOLS).is_file()
        return found and sha256_of(output / _IMAGE) == kernel.sha256
    except OSError:
        return False
