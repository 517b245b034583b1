"""The smoke checks: what a kernel must do, asked of a live guest at one page size.

`CHECKS` is the table of them, in the order they run; `HYPERV_CHECKS` run before them on that platform. A
check is a function of a `Subject` (the guest) and an `Evidence` (what it is to compare); the pytest matrix
and `granule smoke` run the same ones.
"""

from harness.smoke.check import Check
from harness.smoke.devices import block, hotplug, modules, network
from harness.smoke.hyperv import utils, vmbus
from harness.smoke.hyperv_disk import storvsc
from harness.smoke.hyperv_network import netvsc
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
from harness.spec import PageSize, Platform

__all__ = ["CHECKS", "HYPERV_CHECKS", "Check", "checks_on"]

# A PMD maps 512 MiB at 64K. The buddy allocator's pageblocks are as large, and the kernel image, memblock's
# reservations and unmovable memory claim one each: measured, none is to be had with four, and one always is
# with six. The host gives only what the guest touches, some 700 MiB.
PMD_MEMORY_MIB = {PageSize.K64: 3072}

CHECKS = (
    Check(run=page_size, tells_page_size=True),
    Check(run=mapping, tells_page_size=True),
    Check(run=fork),
    Check(run=file_mappings),
    Check(run=guard),
    Check(run=mthp),
    Check(run=hugetlb_cont),
    Check(run=hugetlb_pmd, memory_mib=PMD_MEMORY_MIB),
    Check(run=thp, memory_mib=PMD_MEMORY_MIB),
    Check(run=swap),
    Check(run=block),
    Check(run=network),
    Check(run=ssh, logs_in=True),
    Check(run=modules),
    Check(run=hotplug),
    Check(run=user_tables, required=True, tells_page_size=True),
    # Last: what the others did to the tables is looked at too.
    Check(run=kernel_tables, required=True, tells_page_size=True),
)

HYPERV_CHECKS = (
    Check(run=vmbus, platform=Platform.HYPERV, required=True),
    Check(run=storvsc, platform=Platform.HYPERV),
    Check(run=netvsc, platform=Platform.HYPERV),
    Check(run=utils, label="hv-utils", platform=Platform.HYPERV),
)


def checks_on(platform: Platform, asked: tuple[Check, ...] = CHECKS) -> tuple[Check, ...]:
    """Those of `asked` that are for a platform, in the order they run; CHECKS stands for all."""
    if asked == CHECKS:
        asked = (*HYPERV_CHECKS, *CHECKS)
    return tuple(check for check in asked if check.platform in (None, platform))
