"""What modules are built against: Debian's headers of a kernel, put together so that they work from here.

linux-headers-RELEASE has the configuration, what it generated, and the symbols' versions; -common has the
headers of all flavours; linux-kbuild has kbuild's scripts and its programs for the machine that builds. All
three point into /usr/src, which is not ours to write.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.apt import PrivateApt
from harness.kernels.debian import SUITE, fetch_package
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet

__all__ = ["headers_tree"]

_KIND = "headers"
_HOST_PACKAGES = "host-packages"
"""Packages for the machine that builds: apart from the guest's, which have the same names."""
_FORMAT = 1
_RELEASE: Final = re.compile(r"(?P<abi>[\w.+~-]+?)-arm64(?:-[a-z0-9]+)?")
_DEBIAN_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PROGRAMS: Final = ("basic/fixdep", "genksyms/genksyms", "mod/modpost", "mod/modpost.real-lsb-64")
"""Those that a build of modules runs."""
_TOO_OLD: Final = re.compile(rb"version `GLIBC_[\d.]+' not found")
_RUN_S: Final = 10


def headers_tree(
    cache: Cache, kernel: Kernel, *, offline: bool = False, progress: Progress = quiet,
    machine: str | None = None,
) -> Path:  # fmt: skip
    """A directory for `make -C`, against which modules of one of Debian's kernels can be built.

    Raises UsageError for a kernel that is not Debian's, InfraError without network when something is not in
    the cache or `offline` is set.
    """
    found = _RELEASE.fullmatch(kernel.release)
    if found is None or not kernel.origin.startswith("Debian"):
        raise UsageError(
            f"modules can be built for Debian's own kernels only, and {kernel.name} is {kernel.origin}"
        )
    parts = [
        fetch_package(cache, name, offline=offline, progress=progress)
        for name in (f"linux-headers-{kernel.release}", f"linux-headers-{found['abi']}-common")
    ]
    host = _HostPackages(cache, machine or platform.machine(), offline=offline, progress=progress)
    kbuild = host.get(f"linux-kbuild-{found['abi']}")
    key = f"{parts[0].name}-{host.architecture}-v{_FORMAT}"

    def build(directory: Path) -> None:
        own, common = (_only(part, "usr/src/linux-headers-*") for part in parts)
        _put_together(directory, own, common, kbuild)
        _make_runnable(directory, lambda: host.get("libc6"))

    return cache.make(_KIND, key, build, describe=f"headers of {kernel.release}") / "tree"


class _HostPackages:
    """Packages of the suite for the machine that builds."""

    def __init__(self, cache: Cache, machine: str, *, offline: bool, progress: Progress) -> None:
        if machine not in _DEBIAN_NAMES:
            raise InfraError(f"kbuild's programs are fetched for x86-64 and arm64, not for {machine}")
        self.architecture = _DEBIAN_NAMES[machine]
        self._cache = cache
        self._offline = offline
        self._progress = progress

    def get(self, name: str) -> Path:
        """Its unpacked files, fetched when not cached."""
        for key in self._cache.keys(_HOST_PACKAGES):
            found = self._cache.find(_HOST_PACKAGES, key) if key.startswith(f"{name}_") else None
            if found is not None:
                return found
        if self._offline:
            raise InfraError(
                f"Debian's package {name} for {self.architecture} is not in the cache {self._cache.root} and"
                " --offline forbids fetching it. Run the same command once without --offline."
            )
        apt = PrivateApt(self._cache, SUITE, architecture=self.architecture, progress=self._progress)
        return apt.into_cache(
            _HOST_PACKAGES, lambda again: apt.show(name, refresh=again), apt.unpacked
        )  # fmt: skip


def _only(root: Path, pattern: str) -> Path:
    found = [path for path in root.glob(pattern) if path.is_dir()]
    if len(found) != 1:
        raise InfraError(f"{root.name} is not laid out as it should be: wanted one {pattern}")
    return found[0]


def _put_together(directory: Path, own: Path, common: Path, kbuild: Path) -> None:
    """`tree` is what make is started in, `common` the source tree that it believes in."""
    scripts = _only(kbuild, "usr/lib/linux-kbuild-*")
    shutil.copytree(scripts / "scripts", directory / "scripts", symlinks=True)
    shutil.copytree(scripts / "tools", directory / "tools", symlinks=True)
    (directory / "common").mkdir()
    for name in ("arch/arm64", "include"):
        shutil.copytree(common / name, directory / "common" / name, symlinks=True)
    shutil.copyfile(common / "Makefile", directory / "common/Makefile")
    # Without its vmlinux, which is there for BTF only, and .kernelvariables, which name Debian's compiler.
    left_out = shutil.ignore_patterns("scripts", "tools", "vmlinux", "Makefile", ".kernelvariables")
    shutil.copytree(
        own, directory / "tree", symlinks=True,
        ignore=lambda path, names: left_out(path, names) if Path(path) == own else set(),
    )  # fmt: skip
    (directory / "tree/Makefile").write_text("include ../common/Makefile\n", encoding="utf-8")
    for name in ("common", "tree"):
        for link in ("scripts", "tools"):
            (directory / name / link).symlink_to(f"../{link}")


def _make_runnable(directory: Path, libc: Callable[[], Path]) -> None:
    """Give programs that want a newer C library than this machine's the one of their own suite."""
    for name in _PROGRAMS:
        program = directory / "scripts" / name
        try:
            ran = subprocess.run(
                [program], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_RUN_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InfraError(f"kbuild's {name} does not run on this machine: {error}") from error
        if not _TOO_OLD.search(ran.stderr):
            continue
        if not (directory / "libc").is_dir():
            (directory / "libc").mkdir()
            for library in (*libc().glob("usr/lib/*/ld-linux-*.so.*"), *libc().glob("usr/lib/*/libc.so.6")):
                shutil.copy(library, directory / "libc" / library.name)
        program.rename(program.with_name(f"{program.name}.elf"))
        shutil.copy(Path(__file__).with_name("with-libc.sh"), program)
