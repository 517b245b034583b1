"""Debian with its root on a logical volume: made from the base image in the Debian guest itself.

The volume is activated in the initramfs, by the guest's own LVM: its program and libraries come out of the image
with it, so that initramfs and root are of one version.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from harness.build.guest import MicroGuest
from harness.build.initramfs import Entry, file
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import ChannelError, InfraError
from harness.guests.base import BUILD_CPU, BaseImage, last_words, refuse_full_disk
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress
from harness.paths import data_dir
from harness.qemu.machine import CLEAN_END, Machine
from harness.qemu.probe import Qemu
from harness.spec import Disk, DiskMode, MachineSpec

__all__ = ["ROOT_VOLUME", "VolumeImage", "lvm_entries", "volume_image"]

KIND = "guests"
FORMAT = 1  # part of every key: raise it when this file lays the image out differently
ROOT_VOLUME = "/dev/granule/root"
"""As the initramfs is told."""
IMAGE, LVM = "root.img", "lvm.tar"
IMAGE_BYTES = 4 << 30
BUILD_MIB = 1024
BOOT_S, BUILD_S, OFF_S = 900.0, 3600.0, 300.0
LVM_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeImage:
    """A disk with the root on a logical volume, which nobody writes to."""

    path: Path
    key: str
    lvm: Path
    """A tar archive of LVM's program and its libraries."""


def volume_image(
    cache: Cache,
    micro: MicroGuest,
    base: BaseImage,
    kernel: Kernel,
    qemu: Qemu,
    root_words: str,
    progress: Progress,
) -> VolumeImage:
    """The image in the cache, made in a guest of `base` under `kernel` when absent.

    `root_words`: of the command line of that guest. Raises InfraError, with the guest's words where it failed.
    """
    home = data_dir("guests") / "debian-lvm"
    recipe, listing = (home / "build.sh").read_text(), (home / "lvm-tar.sh").read_text()
    digest = hashlib.sha256(repr((FORMAT, IMAGE_BYTES, base.key, recipe, listing)).encode()).hexdigest()
    key = f"debian-lvm-{digest[:24]}"

    def build(directory: Path) -> None:
        progress(0, None, f"putting Debian's root on a logical volume in a guest ({kernel.name})")
        image = directory / IMAGE
        with image.open("wb") as empty:
            empty.truncate(IMAGE_BYTES)
        root = Disk(path=base.path, serial="root", mode=DiskMode.OVERLAY)
        source = Disk(path=base.path, serial="source", mode=DiskMode.OVERLAY)
        spec = MachineSpec(
            kernel=kernel.image,
            initrd=micro.initramfs(kernel, on_disk=()),
            cmdline=f"console=ttyAMA0 ignore_loglevel {kernel.cmdline} {root_words}",
            cpu=BUILD_CPU,
            memory_mib=BUILD_MIB,
            disks=(root, source, Disk(path=image, serial="target", mode=DiskMode.DIRECT)),
        )
        (directory / LVM).write_bytes(_build(spec, qemu, recipe, listing))

    if cache.find(KIND, key) is None:
        refuse_full_disk(cache.root)
    path = cache.make(
        KIND, key, build, describe=f"Debian on a logical volume, from {base.key}",
        waiting=lambda what: progress(0, None, what),
    )  # fmt: skip
    return VolumeImage(path=path / IMAGE, key=key, lvm=path / LVM)


def _build(spec: MachineSpec, qemu: Qemu, recipe: str, listing: str) -> bytes:
    """Run the recipe in a guest; LVM's programs from there, as a tar archive."""
    with Machine(spec, qemu) as machine:
        try:
            machine.shell.wait_ready(Deadline.after(BOOT_S))
            machine.shell.run("systemctl is-system-running --wait", Deadline.after(BOOT_S))
            done = machine.shell.run(recipe, Deadline.after(BUILD_S))
            if not done.ok:
                said = done.text.strip()[-1000:]
                raise InfraError(f"Debian's root could not be put on a logical volume: {said}")
            lvm = machine.shell.run(listing, Deadline.after(OFF_S), keep_bytes=LVM_LIMIT_BYTES)
            lvm_entries(lvm.output)
            ended = machine.power_off(Deadline.after(OFF_S))
        except ChannelError as error:
            said = last_words(machine.transcript.tail(4096))
            raise InfraError(f"the guest that makes a logical volume failed: {error}\n{said}") from error
    if ended != CLEAN_END or not lvm.ok:
        raise InfraError(f"the guest that makes a logical volume ended badly ({ended}, status {lvm.status})")
    return lvm.output


def lvm_entries(archive: bytes) -> tuple[Entry, ...]:
    """What an initramfs takes of LVM; raises InfraError for an archive that is none, or without the program."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            entries = tuple(_entry(tar, member) for member in tar if not member.isdir())
    except (tarfile.TarError, ValueError, OSError) as error:
        raise InfraError(f"the guest gave no archive of LVM's programs: {error}") from error
    if not any(entry.name == "usr/sbin/lvm" for entry in entries):
        raise InfraError("the guest's archive of LVM's programs has no usr/sbin/lvm")
    return entries


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    content = tar.extractfile(member) if member.isreg() else None
    plain = re.fullmatch(r"(usr/)?(s?bin|lib)(/[\w.+~-]+)+", member.name)
    if content is None or plain is None or "/../" in member.name:
        raise ValueError(f"{member.name!r} is not a program or library")
    return file(member.name, content.read(), 0o755)
