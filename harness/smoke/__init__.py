"""The smoke checks: what a kernel must do, asked of a live guest at one page size.

`CHECKS` is the table of them, in the order they run; `HYPERV_CHECKS` run before them on that platform, and
`DISTRO_CHECKS` in distributions' guests. A check is a function of a `Subject` (the guest) and an `Evidence`
(what it is to compare); the pytest matrix and `granule smoke` run the same ones.
"""

from harness.smoke.check import Check
from harness.smoke.devices import block, hotplug, modules, network
from harness.smoke.distro import (
    clock,
    files,
    load,
    packages,
    pressure,
    root_volume,
    runtimes,
    services,
    volumes,
)
from harness.smoke.hyperv import utils, vmbus
from harness.smoke.hyperv_disk import storvsc
from harness.smoke.hyperv_memory import balloon
from harness.smoke.hyperv_network import netvsc
from harness.smoke.hyperv_socket import hv_sock
from harness.smoke.kernel_tables import kernel_tables
from harness.smoke.login import ssh
from harness.smoke.memory import (
    file_mappings,
    fork,
    guard,
    hugetlb_cont,
    hugetlb_pmd,
    mapping,
    mthp,
    swap,
    thp,
)
from harness.smoke.page_size import page_size
from harness.smoke.user_tables import user_tables
from harness.spec import GuestKind, PageSize, Platform

__all__ = ["CHECKS", "DISTRO_CHECKS", "EVERY_CHECK", "HYPERV_CHECKS", "Check", "checks_on"]

EVERY = tuple(GuestKind)
ON_DISK = tuple(guest for guest in GuestKind if guest.is_on_disk)
DEBIAN = (GuestKind.DEBIAN, GuestKind.DEBIAN_LVM)

# A PMD maps 512 MiB at 64K. The buddy allocator's pageblocks are as large, and the kernel image, memblock's
# reservations and unmovable memory claim one each: measured, none is to be had with four, and one always is
# with six. The host gives only what the guest touches, some 700 MiB.
PMD_MEMORY_MIB = {PageSize.K64: 3072}

CHECKS = (
    Check(run=page_size, tells_page_size=True, guests=EVERY),
    Check(run=mapping, tells_page_size=True, guests=EVERY),
    Check(run=fork, guests=EVERY),
    Check(run=file_mappings, guests=EVERY),
    Check(run=guard, guests=EVERY),
    Check(run=mthp, guests=EVERY),
    Check(run=hugetlb_cont),
    Check(run=hugetlb_pmd, memory_mib=PMD_MEMORY_MIB),
    Check(run=thp, memory_mib=PMD_MEMORY_MIB),
    Check(run=swap),
    Check(run=block),
    Check(run=network),
    Check(run=ssh, logs_in=True, guests=EVERY),
    Check(run=modules),
    Check(run=hotplug),
    Check(run=user_tables, required=True, tells_page_size=True, guests=EVERY),
    # Last: what the others did to the tables is looked at too.
    Check(run=kernel_tables, required=True, tells_page_size=True, guests=EVERY),
)

HYPERV_CHECKS = (
    Check(run=vmbus, platform=Platform.HYPERV, required=True, guests=EVERY),
    Check(run=storvsc, platform=Platform.HYPERV),
    Check(run=netvsc, platform=Platform.HYPERV),
    Check(run=hv_sock, platform=Platform.HYPERV),
    Check(run=balloon, platform=Platform.HYPERV),
    Check(run=utils, label="hv-utils", platform=Platform.HYPERV),
)

DISTRO_CHECKS = (
    # First: looking at tables stops a guest, and its clock with it.
    Check(run=clock, guests=ON_DISK),
    Check(run=services, guests=ON_DISK, required=True),
    Check(run=packages, guests=DEBIAN),
    Check(run=runtimes, guests=DEBIAN),
    Check(run=files, guests=DEBIAN),
    Check(run=volumes, guests=DEBIAN),
    Check(run=root_volume, guests=(GuestKind.DEBIAN_LVM,), required=True),
    Check(run=load, guests=DEBIAN),
    Check(run=pressure, guests=DEBIAN),
)

EVERY_CHECK = (*HYPERV_CHECKS, *DISTRO_CHECKS, *CHECKS)
"""All of them, in the order they run where they do."""


def checks_on(
    platform: Platform, asked: tuple[Check, ...] = CHECKS, *, guest: GuestKind = GuestKind.MICRO
) -> tuple[Check, ...]:
    """Those of `asked` that are for a platform and a guest, in the order they run; CHECKS stands for all."""
    if asked == CHECKS:
        asked = EVERY_CHECK
    return tuple(one for one in asked if one.platform in (None, platform) and guest in one.guests)
