"""The disk, and that it is the same when the tests are over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.ext4 import make_image
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.guests import DiskGuests
from harness.guests.base import BUILD_CPU, last_words, parse_names
from harness.kernels.apt import PrivateApt
from harness.kernels.debian import SUITE
from harness.kernels.store import KernelStore
from harness.matrix.run import Bench
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.probe import Qemu
from harness.spec import Disk, DiskMode, GuestKind, MachineSpec

HERE = Path(__file__).parent
KERNEL = "debian-4k"
DISK, DISK_BYTES = "installed.img", 3 << 30
MEMORY_MIB = 1536
BOOT_S, MAKE_S, OFF_S = 900.0, 5400.0, 300.0


def installed_disk(cache: Cache, guests: DiskGuests, store: KernelStore, qemu: Qemu) -> Path:
    """The disk in the cache; raises InfraError with the guest's words where it cannot be made."""
    recipe = (HERE / "make.sh").read_text()
    names = parse_names((HERE / "packages").read_text())
    key = "installed-" + hashlib.sha256(repr((recipe, names, DISK_BYTES)).encode()).hexdigest()[:24]

    def build(directory: Path) -> None:
        debs = directory / "debs"
        debs.mkdir()
        PrivateApt(cache, SUITE).fetched(["?essential", *names], debs)
        packages = directory / "debs.img"
        make_image(packages, 2 * sum(deb.stat().st_size for deb in debs.iterdir()) + (64 << 20), source=debs)
        disk = directory / DISK
        with disk.open("wb") as empty:
            empty.truncate(DISK_BYTES)
        kernel = store.get(KERNEL)
        on_disk = guests.on_disk(GuestKind.DEBIAN, kernel)
        spec = MachineSpec(
            kernel=kernel.image,
            initrd=on_disk.initrd,
            cmdline=" ".join(("console=ttyAMA0 ignore_loglevel", kernel.cmdline, *on_disk.words)),
            cpu=BUILD_CPU,
            memory_mib=MEMORY_MIB,
            disks=(
                *on_disk.disks,
                Disk(path=packages, serial="debs", mode=DiskMode.DIRECT, read_only=True),
                Disk(path=disk, serial="target", mode=DiskMode.DIRECT),
            ),
        )
        _make(spec, qemu, recipe)
        packages.unlink()
        for deb in debs.iterdir():
            deb.unlink()
        debs.rmdir()

    return cache.make("disks", key, build, describe="a disk as an installer makes it, for a test") / DISK


def _make(spec: MachineSpec, qemu: Qemu, recipe: str) -> None:
    with Machine(spec, qemu) as machine:
        machine.shell.wait_ready(Deadline.after(BOOT_S))
        machine.shell.run("systemctl is-system-running --wait", Deadline.after(BOOT_S))
        done = machine.shell.run(recipe, Deadline.after(MAKE_S))
        if not done.ok:
            said = last_words(done.output[-20000:]) + last_words(machine.transcript.tail(2048))
            raise InfraError(f"the disk could not be made (status {done.status}): {said}")
        ended = machine.power_off(Deadline.after(OFF_S))
    if ended != CLEAN_END:
        raise InfraError(f"the guest that made the disk ended badly: {ended}")


def digest(path: Path) -> str:
    """Of the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def disk(granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[Path]:
    """The disk, which has to be the same to the byte afterwards."""
    assert isinstance(granule_bench.on_disk, DiskGuests)
    path = installed_disk(granule_bench.cache, granule_bench.on_disk, granule_kernels, granule_bench.qemu)
    before = digest(path)
    yield path
    assert digest(path) == before
