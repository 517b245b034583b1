"""A kernel in a package of a distribution's: .deb and .rpm, whatever they are called.

dpkg-deb and bsdtar give their files as a tar archive, of which only what a kernel needs is written: its
Image, its configuration and its modules. Sources: deb(5); the RPM file format (rpm.org, "V4 package
format"): the lead's magic.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final, cast

from harness.cache import Cache
from harness.errors import ToolMissing, UsageError
from harness.guarded import guarded
from harness.kernels.copied import shown
from harness.kernels.file import Beside, kernel_from_file
from harness.kernels.kernel import Kernel
from harness.kernels.record import sha256_of

__all__ = ["PackageFormat", "kernel_from_package", "package_format"]

_KIND: Final = "unpacked"
_MAX_FILES: Final = 100_000
_MAX_BYTES: Final = 4 << 30
_BLOCK_BYTES: Final = 1 << 20
_KERNELS: Final = ("boot/vmlinuz-*", "boot/Image-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
_CONFIGS: Final = ("boot/config-*", "lib/modules/*/config", "usr/lib/modules/*/config")
_MODULES: Final = re.compile(r"(?:usr/)?lib/modules/([^/]+)/((?:kernel|updates|extra)/.+|modules\.[^/]+)")


class PackageFormat(Enum):
    """Which packages are read; the value is how its files begin."""

    DEB = b"!<arch>\ndebian-binary"
    RPM = b"\xed\xab\xee\xdb"

    def argv(self, path: Path) -> tuple[str, ...]:
        """The command that writes its files as a tar archive."""
        if self is PackageFormat.DEB:
            return ("dpkg-deb", "--fsys-tarfile", str(path))
        return ("bsdtar", "-cf", "-", "--format", "pax", f"@{path}")

    @property
    def debian_package(self) -> str:
        """What to install for it."""
        return {PackageFormat.DEB: "dpkg", PackageFormat.RPM: "libarchive-tools"}[self]


@dataclass(frozen=True, slots=True)
class _Found:
    """Where in the cache a package's parts are."""

    directory: Path

    @property
    def config(self) -> Path | None:
        """The configuration, if it has one."""
        path = self.directory / "config"
        return path if path.is_file() else None

    @property
    def modules(self) -> Path | None:
        """lib/modules/RELEASE, if it has modules."""
        return next(iter(sorted((self.directory / "lib/modules").glob("*"))), None)


def package_format(path: Path) -> PackageFormat | None:
    """What a file is by its first bytes; None where it is no package, or cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return None
    return next((kind for kind in PackageFormat if head.startswith(kind.value)), None)


def kernel_from_package(
    cache: Cache, path: Path, kind: PackageFormat, beside: Beside | None = None
) -> Kernel:
    """The Kernel in a package, unpacked into the cache once; `beside` goes before what the package has.

    Raises UsageError for a package that is damaged or holds no kernel, or several, ToolMissing.
    """
    given = beside or Beside()
    path = path.absolute()
    directory = cache.make(
        _KIND,
        f"package-{sha256_of(path)[:32]}",
        lambda target: _unpack(path, kind, target),
        describe=f"the kernel in {shown(path.name)}",
    )
    found = _Found(directory)
    kernel = kernel_from_file(
        cache,
        directory / "vmlinuz",
        replace(given, config=given.config or found.config, modules=given.modules or found.modules),
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.rpartition(".")[0] or path.name)[:60].strip("-.")
    return replace(kernel, name=name or "kernel", origin=f"the package {shown(path)}")


def _unpack(path: Path, kind: PackageFormat, target: Path) -> None:
    kernels: list[str] = []
    left_files, left_bytes = _MAX_FILES, _MAX_BYTES
    with _listed(path, kind) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all it has read
            place = _place(member, kernels) if member.isreg() else None
            if place is None:
                continue
            left_files -= 1
            left_bytes -= member.size
            if left_files < 0 or left_bytes < 0:
                raise UsageError(f"{shown(path)} holds more than any kernel's package does")
            content = archive.extractfile(member)
            assert content is not None  # noqa: S101 - a regular file has content
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            with content, (target / place).open("wb") as file:
                shutil.copyfileobj(content, file, _BLOCK_BYTES)
    releases = sorted(found.name for found in (target / "lib/modules").glob("*"))
    if len(kernels) != 1 or len(releases) > 1:
        raise UsageError(
            f"{shown(path)} holds {len(kernels)} kernels and modules of {len(releases)} releases; wanted one "
            f"kernel, as {', '.join(_KERNELS[:2])} or {_KERNELS[2]}"
        )


def _place(member: tarfile.TarInfo, kernels: list[str]) -> str | None:
    """Where a file goes in the entry, from its top; None for what is not wanted. Notes kernels."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in member.name:
        return None
    name = "/".join(parts)
    if any(_fits(name, pattern) for pattern in _KERNELS):
        kernels.append(name)
        return "vmlinuz"
    if any(_fits(name, pattern) for pattern in _CONFIGS):
        return "config"
    modules = _MODULES.fullmatch(name)
    return None if modules is None else f"lib/modules/{modules[1]}/{modules[2]}"


def _fits(name: str, pattern: str) -> bool:
    """As the shell has it: a * does not reach over a /."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


@contextmanager
def _listed(path: Path, kind: PackageFormat) -> Iterator[tarfile.TarFile]:
    """The package's files as an archive; raises UsageError where it is damaged."""
    argv = kind.argv(path)
    if shutil.which(argv[0]) is None:
        raise ToolMissing(argv[0], package=kind.debian_package)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            guarded(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE
        try:
            with tarfile.open(fileobj=cast(BinaryIO, process.stdout), mode="r|") as archive:
                yield archive
            while process.stdout.read(_BLOCK_BYTES):
                pass
            if process.wait() != 0:
                raise tarfile.ReadError(f"{argv[0]} ended with status {process.returncode}")
        except (tarfile.TarError, EOFError) as error:
            process.kill()
            process.wait()
            errors.seek(0)
            words = " ".join(errors.read(500).decode("utf-8", "replace").split())
            raise UsageError(
                f"{shown(path)} cannot be unpacked: {error}; {argv[0]} said: {words or 'nothing'}"
            ) from error
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
