"""Disks behind storvsc: file systems that the host looks at afterwards, and transfers of many sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from harness.build.disks import check_ext4
from harness.build.scsi_disks import EXT4, RAW, XFS, check_xfs
from harness.hyperv.devices.storvsc import Storvsc
from harness.hyperv.scsi.backing import Backing
from harness.smoke.devices import copy_pattern, last_words
from harness.smoke.evidence import Evidence
from harness.smoke.hyperv import host_of, soon
from harness.smoke.subject import Subject

__all__ = ["storvsc"]

_FILE_SYSTEMS: Final[tuple[tuple[str, str, str, Callable[[str, str], str]], ...]] = (
    ("ext4", "EXT4_FS", EXT4, check_ext4),
    ("xfs", "XFS_FS", XFS, check_xfs),
)
TRANSFER_BYTES: Final = (512, 4096, 65536, 1 << 20)
OFFSETS: Final = (0, 512, 4608)
"""Of buffers into a page of the guest's: at its beginning, 512 into it, and 512 into the second 4 KiB."""
_PART_BYTES: Final = 1 << 20
_MOST_TRANSFERS: Final = 128


def storvsc(subject: Subject, evidence: Evidence) -> None:
    """ext4, XFS and plain transfers on storvsc keep data, and the host finds file systems clean after."""
    drivers = (("HYPERV_STORAGE", "hv_storvsc"), ("BLK_DEV_SD", "sd_mod"))
    if not all(subject.has_driver(evidence, *driver) for driver in drivers):
        return
    for name, option, serial, check in _FILE_SYSTEMS:
        if not subject.presence(option, name).may_be_used:
            evidence.note(f"the kernel has no {name} (CONFIG_{option})")
            continue
        device = _device(subject, evidence, serial)
        if device and _use(subject, evidence, name, device):
            backing = host_of(subject).peripherals.disks[serial].disk.backing
            assert isinstance(backing, Backing)  # noqa: S101 - as these disks are made
            with host_of(subject).locked():
                seen = check(backing.path, "/copy")
            evidence.equal(f"{name} on storvsc, seen from the host", "clean, same content", seen)
    device = _device(subject, evidence, RAW)
    if device:
        _transfer(subject, evidence, device, host_of(subject).peripherals.disks[RAW])


def _device(subject: Subject, evidence: Evidence, serial: str) -> str:
    """The path of the disk with that serial number, once it is there; empty when it does not come."""
    find = f"grep -ls {serial} /sys/block/sd*/device/vpd_pg80 2>/dev/null | cut -d/ -f4"
    names: list[str] = []

    def there() -> bool:
        names[:] = subject.sh(find).text.split()
        return len(names) == 1

    came = soon(subject, there, f"disk {serial}")
    evidence.holds(f"disk {serial}", came, wanted="there", seen="no such serial number among /sys/block/sd*")
    return f"/dev/{names[0]}" if came else ""


def _use(subject: Subject, evidence: Evidence, name: str, device: str) -> bool:
    subject.sh(f"modprobe {name}")
    done = subject.sh(f"mkdir -p /mnt && mount -t {name} {device} /mnt")
    if not evidence.holds(f"{name} on {device}", done.ok, wanted="mounted", seen=last_words(done)):
        return False
    copy_pattern(subject, evidence, f"{name} on storvsc")
    done = subject.sh("umount /mnt")
    return evidence.holds(f"{name} on {device}", done.ok, wanted="unmounted", seen=last_words(done))


def _transfer(subject: Subject, evidence: Evidence, device: str, storvsc: Storvsc) -> None:
    """Read by direct transfers of a size into buffers at odd places, write it elsewhere, compare both."""
    host, backing = host_of(subject), storvsc.disk.backing
    for number, size in enumerate(TRANSFER_BYTES):
        count = min(_PART_BYTES // size, _MOST_TRANSFERS)
        skip = number * (_PART_BYTES // size)
        there = skip + (8 << 20) // size
        for offset in OFFSETS:
            what = f"{count} transfers of {size} bytes at {offset} into a page"
            with host.locked():
                part = backing.read(skip * size // 512, count * size)
                backing.clear(there * size // 512, count * size // 512)
            script = (
                f"probe direct read {device} {size} {skip} {count} {offset} >/tmp/part && md5sum </tmp/part "
                f"&& probe direct write {device} {size} {there} {count} {offset} </tmp/part; rm -f /tmp/part"
            )
            done = subject.sh(script)
            wanted = hashlib.md5(part, usedforsecurity=False).hexdigest()
            evidence.equal(f"{what}: MD5 of what was read", wanted, done.text.strip()[:32])
            with host.locked():
                written = backing.read(there * size // 512, count * size)
            evidence.holds(f"{what}: what was written", written == part, wanted="the same on the host's disk",
                           seen=f"other bytes; {done.text.strip()[-200:]}")  # fmt: skip
