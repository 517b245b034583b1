"""Debian's packaged arm64 kernels, and other packages a guest needs, unpacked into the cache.

Debian's System.map is a stub of 83 bytes, so it is not kept; symbols come from the kernel itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable
from harness.kernels.apt import Package, PrivateApt
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.record import KIND, Record, describe_image, find_made
from harness.linux.image import unpack_image

__all__ = ["SUITE", "DebianKernels", "fetch_package", "find_package"]

SUITE = "trixie"
"""The suite that other packages come from: the first whose arm64 kernels come with 16K pages too."""

_PACKAGES = "packages"


class DebianKernels:
    """The arm64 kernels of one suite.

    Arguments: `suite`, Debian's name for it; `progress`, told of downloads.
    """

    def __init__(self, cache: Cache, suite: str, *, progress: Progress = quiet) -> None:
        self._cache = cache
        self._suite = suite
        self._progress = progress

    def find(self, metapackage: str, name: str) -> Kernel | None:
        """The newest one in the cache, without network; None when there is none."""
        found = find_made(self._cache, self._recipe(metapackage))
        return None if found is None else found[1].kernel(found[0], name)

    def get(self, metapackage: str, name: str, *, offline: bool = False, refresh: bool = False) -> Kernel:
        """The kernel in the cache, fetched when absent or when `refresh` asks for the archive's newest.

        Arguments: `metapackage`, such as `linux-image-arm64-16k`; `name`, the Kernel's. Raises
        KernelUnavailable when it is not cached and `offline` is set, InfraError without network.
        """
        kernel = None if refresh and not offline else self.find(metapackage, name)
        if kernel is not None:
            return kernel
        if offline:
            raise KernelUnavailable(
                f"the kernel {name} is not in the cache {self._cache.root} and --offline forbids "
                f"fetching it. Run `granule kernels fetch {name}` with a network."
            )
        apt = PrivateApt(self._cache, self._suite, progress=self._progress)
        path = apt.into_cache(
            KIND,
            lambda again: apt.show(_real_name(apt.show(metapackage, refresh=again))),
            lambda package, directory: self._fetch(apt, package, metapackage, directory),
            refresh=refresh,
        )
        record = Record.read(path)
        if record is None:
            raise InfraError(
                f"{path} has no provenance; remove it with `granule cache prune` and fetch again"
            )
        return record.kernel(path, name)

    def _recipe(self, metapackage: str) -> str:
        return f"debian {self._suite} {metapackage}"

    def _fetch(self, apt: PrivateApt, package: Package, metapackage: str, directory: Path) -> None:
        root = directory / "root"
        root.mkdir()
        apt.unpacked(package, root)
        _keep(root, directory, package)
        shutil.rmtree(root)
        image, release, sha256 = describe_image(directory / "Image")
        if not (directory / "lib/modules" / release).is_dir():
            raise InfraError(f"{package.name} has no modules for {release}, the release its kernel names")
        page_size = image.header.page_size
        Record(
            origin=f"Debian {self._suite}: {package.name} {package.version}",
            release=release,
            image_sha256=sha256,
            page_size_bytes=None if page_size is None else page_size.bytes,
            recipe=self._recipe(metapackage),
            details={"package": package.name, "version": package.version, "deb_sha256": package.sha256},
        ).write(directory)


def fetch_package(
    cache: Cache,
    name: str,
    *,
    suite: str = SUITE,
    offline: bool = False,
    refresh: bool = False,
    progress: Progress = quiet,
) -> Path:
    """The root of an arm64 package's unpacked files, such as busybox-static's, fetched when not cached.

    Raises InfraError when it is not cached and `offline` is set, or without network.
    """
    found = None if refresh and not offline else find_package(cache, name)
    if found is not None:
        return found
    if offline:
        raise InfraError(
            f"Debian's package {name} for arm64 is not in the cache {cache.root} and --offline forbids "
            "fetching it. Run the same command once without --offline."
        )
    apt = PrivateApt(cache, suite, progress=progress)
    return apt.into_cache(
        _PACKAGES,
        lambda again: apt.show(name, refresh=again),
        apt.unpacked,
        refresh=refresh,
    )


def find_package(cache: Cache, name: str) -> Path | None:
    """The newest cached root of that package, without network; None when there is none."""
    for key in cache.keys(_PACKAGES):
        if key.startswith(f"{name}_"):
            return cache.find(_PACKAGES, key)
    return None


def _real_name(metapackage: Package) -> str:
    """The versioned package a metapackage stands for: the only one it depends on whose name starts so."""
    names = [name for name in metapackage.depends if name.startswith("linux-image-")]
    if len(names) != 1:
        raise KernelUnavailable(f"Debian's {metapackage.name} {metapackage.version} names no kernel package")
    return names[0]


def _keep(root: Path, directory: Path, package: Package) -> None:
    """Move what we need out of the package's tree: the Image, its configuration, its modules."""
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    configs = sorted((root / "boot").glob("config-*"))
    modules = [path for top in ("usr/lib", "lib") for path in sorted((root / top / "modules").glob("*"))]
    if len(kernels) != 1 or len(configs) != 1 or len(modules) != 1:
        raise InfraError(
            f"{package.name} is not laid out as a kernel package: wanted one kernel, config and modules"
        )
    unpack_image(kernels[0], directory / "Image")
    configs[0].rename(directory / "config")
    (directory / "lib/modules").mkdir(parents=True)
    modules[0].rename(directory / "lib/modules" / modules[0].name)
