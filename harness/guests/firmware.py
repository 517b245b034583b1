"""The machine of a disk image that boots by itself: UEFI, its boot loader, its kernel, and our agent from a seed.

The firmware is Debian's build of edk2 (package qemu-efi-aarch64), fetched when it is first wanted. It keeps no
variables, so that it looks for the boot loader under the name that removable media have, as installers for virtual
machines leave one.
"""

from __future__ import annotations

from pathlib import Path

from harness.build.programs import build_programs
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError
from harness.guests.image import OwnDisk
from harness.guests.seed import make_seed, smbios_strings
from harness.kernels.debian import fetch_package
from harness.kernels.longrun import Progress, quiet
from harness.spec import Accel, Disk, MachineSpec, Uefi, Wire

__all__ = ["firmware_found_nothing", "own_machine"]

PACKAGE = "qemu-efi-aarch64"
FIRMWARE = "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
# What edk2 says when no disk has a boot loader (MdeModulePkg/Universal/BdsDxe/BdsEntry.c), before it tries networks.
NOTHING_FOUND = (b"BdsDxe: No bootable option or device was found", b">>Start PXE")


def own_machine(
    cache: Cache,
    own: OwnDisk,
    *,
    cpu: str,
    accel: Accel,
    vcpus: int,
    memory_mib: int,
    offline: bool = False,
    progress: Progress = quiet,
) -> MachineSpec:
    """The machine; raises InfraError when firmware or compiler cannot be had."""
    firmware = fetch_package(cache, PACKAGE, offline=offline, progress=progress) / FIRMWARE
    if not firmware.is_file():
        raise InfraError(f"Debian's package {PACKAGE} has no {FIRMWARE}: it may have changed since granule was made")
    seed = make_seed(cache, build_programs(Toolchain.find(), cache))
    return MachineSpec(
        uefi=Uefi(firmware=firmware, oem_strings=smbios_strings()),
        cpu=cpu,
        accel=accel,
        vcpus=vcpus,
        memory_mib=memory_mib,
        disks=(own.disk, _seed_disk(seed)),
        wire=Wire(echo=False),
    )


def _seed_disk(path: Path) -> Disk:
    return Disk(path=path, serial="seed", read_only=True)


def firmware_found_nothing(console: bytes) -> bool:
    """True where the firmware said that no disk has what it could start."""
    return any(words in console for words in NOTHING_FOUND)
