"""The base image of a distribution guest: one raw file, made once for the same packages and the same recipe.

The host resolves and downloads the packages and undoes their compression; their own scripts run in a micro guest,
under a kernel of the catalogue. So the host needs no root and cannot tell whether it could run arm64 programs.
The image is kept sparse, and guests write to a layer of their own above it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.build.ext4 import check_image, make_image
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import ChannelError, InfraError
from harness.guests.debs import files_of, owners_in, write_plain_deb
from harness.guests.elf import ElfScan, scan_archive
from harness.kernels.apt import PrivateApt, unpack
from harness.kernels.debian import SUITE
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.linux.klog import harmless
from harness.paths import data_dir
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.probe import Qemu
from harness.spec import Disk, DiskMode, MachineSpec

__all__ = ["ROOT_LABEL", "BaseImage", "DebianBase"]

KIND = "guests"
FORMAT = 1  # part of every key: raise it when this file lays the image out differently
ROOT_LABEL = "granule-root"
"""The label by which the initramfs finds the root."""
ROOT_UUID = "6772616e-756c-6500-0000-000000000002"
IMAGE, PACKAGES, ELF = "root.img", "packages", "elf.json"
# Sparse: it costs what is written, some 700 MiB. The rest is room for whoever uses the guest.
IMAGE_BYTES = 4 << 30
ESSENTIAL = "?essential"
# While it is made: packages, the same without compression, the image.
NEEDED_BYTES = 2560 << 20
BUILD_MIB = 1024
BOOT_S, BUILD_S, OFF_S = 300.0, 3600.0, 300.0
SAID_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """A guest's root, which nobody writes to."""

    path: Path
    key: str
    """What the content is known by: packages and recipe."""
    packages: str
    """`name version architecture` of each, one a line."""
    elf: ElfScan
    """Its programs and libraries, as the host sees them."""


class DebianBase:
    """Debian's base image.

    Arguments: `offline`, take it from the cache only; `progress`, told of what is fetched and made.
    """

    def __init__(
        self, cache: Cache, micro: MicroGuest, *, offline: bool = False, progress: Progress = quiet
    ) -> None:
        self._cache = cache
        self._micro = micro
        self._offline = offline
        self._progress = progress
        self._home = data_dir("guests") / "debian"

    def find(self) -> BaseImage | None:
        """The newest one of this recipe in the cache, without network; None when there is none."""
        prefix = f"debian-{self._recipe()}-"
        for key in self._cache.keys(KIND):
            if key.startswith(prefix):
                path = self._cache.find(KIND, key)
                if path is not None:
                    return _read(path, key)
        return None

    def get(self, kernel: Callable[[], Kernel], qemu: Qemu, *, refresh: bool = False) -> BaseImage:
        """The image in the cache, made when absent, or when `refresh` asks for the archive's newest packages.

        `kernel`: what it is made under; its page size does not matter to the result. Raises InfraError, with
        the guest's words where it was the guest that failed, and before anything is fetched where there is no
        space.
        """
        found = None if refresh and not self._offline else self.find()
        if found is not None:
            return found
        if self._offline:
            raise InfraError(
                f"the Debian guest is not in the cache {self._cache.root} and --offline forbids making it. Run "
                "`granule guests debian` with a network."
            )
        refuse_full_disk(self._cache.root)
        apt = PrivateApt(self._cache, SUITE, progress=self._progress)
        names = parse_names((self._home / "packages").read_text())
        self._progress(0, None, "resolving Debian's packages for the guest")
        essential = apt.closure([ESSENTIAL], refresh=refresh)
        every = apt.closure([ESSENTIAL, *names])
        content = hashlib.sha256("\n".join(every).encode()).hexdigest()[:16]
        key = f"debian-{self._recipe()}-{content}"

        def build(directory: Path) -> None:
            debs = directory / "debs"
            debs.mkdir()
            apt.fetched([ESSENTIAL, *names], debs)
            _raise_unless_all(every, debs)
            self._build(directory, debs, frozenset(_file_names(essential)), kernel(), qemu)

        path = self._cache.make(
            KIND, key, build, describe=f"Debian {SUITE}, {len(every)} packages",
            waiting=lambda what: self._progress(0, None, what),
        )  # fmt: skip
        return _read(path, key)

    def _recipe(self) -> str:
        digest = hashlib.sha256(repr((FORMAT, SUITE, IMAGE_BYTES, ROOT_LABEL, ROOT_UUID)).encode())
        for name in ("build.sh", "packages"):
            lines = (self._home / name).read_text().splitlines()
            # What only explains it makes no other image.
            told = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
            digest.update("\n".join((name, *told)).encode())
        return digest.hexdigest()[:12]

    def _build(
        self, directory: Path, debs: Path, essential: frozenset[str], kernel: Kernel, qemu: Qemu
    ) -> None:
        plain, root = directory / "plain", directory / "root"
        root.mkdir()
        newest, files = 0, sorted(debs.iterdir())
        owners: list[str] = []
        scan = ElfScan()
        for number, deb in enumerate(files):
            self._progress(number, len(files), "unpacking Debian's packages")
            into = plain / ("essential" if deb.name in essential else "other")
            into.mkdir(parents=True, exist_ok=True)
            # apt gives a file the date that the archive has for it.
            newest = max(newest, int(deb.stat().st_mtime))
            write_plain_deb(deb, into / deb.name)
            with files_of(into / deb.name) as archive:
                scan += scan_archive(archive)
                if deb.name in essential:
                    owners += owners_in(archive)
                    unpack(deb, root)
        scan.write(directory / ELF)
        (plain / "owners").write_text("".join(f"{line}\n" for line in owners))
        shutil.rmtree(debs)
        packages, image = directory / "packages.img", directory / IMAGE
        make_image(packages, _needed_bytes(plain), source=plain)
        shutil.rmtree(plain)
        # dpkg runs in the guest from the first moment on: the essential packages' files are there.
        make_image(image, IMAGE_BYTES, source=root, label=ROOT_LABEL, uuid=ROOT_UUID)
        shutil.rmtree(root)
        self._progress(0, None, f"installing Debian's packages in a guest ({kernel.name})")
        disks = (
            Disk(path=image, serial="root", mode=DiskMode.DIRECT),
            Disk(path=packages, serial="debs", mode=DiskMode.DIRECT, read_only=True),
        )
        spec = MachineSpec(
            kernel=kernel.image,
            initrd=self._micro.initramfs(kernel),
            cmdline=f"console=ttyAMA0 ignore_loglevel {kernel.cmdline}",
            cpu=BUILD_CPU,
            memory_mib=BUILD_MIB,
            disks=disks,
        )
        (directory / PACKAGES).write_text(self._installed(spec, qemu, newest))
        packages.unlink()
        check_image(image)

    def _installed(self, spec: MachineSpec, qemu: Qemu, epoch_s: int) -> str:
        """Run the recipe in a guest; the list of packages that it installed."""
        script = (self._home / "build.sh").read_text()
        with Machine(spec, qemu) as machine:
            try:
                machine.shell.wait_ready(Deadline.after(BOOT_S))
                done = machine.shell.run(
                    f"SOURCE_DATE_EPOCH={epoch_s}\nexport SOURCE_DATE_EPOCH\n{script}", Deadline.after(BUILD_S),
                    keep_bytes=16 << 20,
                )  # fmt: skip
                ended = machine.power_off(Deadline.after(OFF_S)) if done.ok else ""
            except ChannelError as error:
                said = last_words(machine.transcript.tail(4096))
                raise InfraError(f"the guest that installs Debian's packages failed: {error}\n{said}") from error
        if ended != CLEAN_END:
            said = "\n".join(done.text.splitlines()[-SAID_LINES:])
            raise InfraError(f"Debian's packages could not be installed (status {done.status}):\n{said}")
        return parse_installed(done.text)


BUILD_CPU = "neoverse-n1"  # without pointer authentication, which costs an emulated guest half its time


def last_words(console: bytes) -> str:
    """The last lines of a guest's console, for an error."""
    return "\n".join(harmless(console).splitlines()[-SAID_LINES:])


def refuse_full_disk(directory: Path) -> None:
    """Raise InfraError when the image could not be made there for want of space."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < NEEDED_BYTES:
        raise InfraError(
            f"no space for the Debian guest in {directory}: it takes {NEEDED_BYTES >> 20} MiB to make, and "
            f"{free >> 20} MiB are free. Free space with `granule cache prune`, or choose another directory with "
            "the environment variable GRANULE_CACHE."
        )


def parse_names(text: str) -> tuple[str, ...]:
    """The names of a list of packages, one a line, with `#` comments; raises InfraError for another line."""
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    odd = [name for name in names if name and not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name)]
    if odd:
        raise InfraError(f"the guest's list of packages has a line that is not one: '{odd[0]}'")
    return tuple(name for name in names if name)


def parse_installed(text: str) -> str:
    """The packages that the recipe says it installed; raises InfraError where it names none."""
    lines = [match[1] for match in re.finditer(r"^granule-package (\S+ \S+ \S+)$", text, re.MULTILINE)]
    if not lines:
        raise InfraError("the recipe of the Debian guest named no package that it installed")
    return "".join(f"{line}\n" for line in lines)


def _file_names(closure: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line.split()[0] for line in closure)


def _raise_unless_all(closure: tuple[str, ...], directory: Path) -> None:
    """apt has verified each file; here it is seen that these are the ones that the key was made of."""
    wanted, there = set(_file_names(closure)), {path.name for path in directory.iterdir()}
    if wanted != there:
        odd = sorted(wanted ^ there)[:5]
        raise InfraError(f"apt fetched other packages than it had named: {', '.join(odd)}; run it again")


def _needed_bytes(tree: Path) -> int:
    """Room for a tree's files in an ext4 image, with that for its own tables."""
    files = [os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(tree) for name in names]  # noqa: PTH118
    return (sum(files) + 4096 * len(files)) * 9 // 8 + (64 << 20)


def _read(path: Path, key: str) -> BaseImage:
    return BaseImage(
        path=path / IMAGE,
        key=key,
        packages=(path / PACKAGES).read_text(),
        elf=ElfScan.read(path / ELF),
    )
