"""The rule of `arm64.pagesize=`: which page size a boot-time kernel takes from its command line.

Source: the boot-time page size series of 2024-10-14 (ARM64_BOOT_TIME_PAGE_SIZE): the last value that is
recognised counts, case matters, and whatever is absent, unknown or not there in the CPU
(ID_AA64MMFR0_EL1.TGran*) gives the largest granule that the CPU has.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.spec import PageSize

__all__ = ["OPTION", "option", "page_size_due"]

OPTION = "arm64.pagesize"
_VALUES = {size.token: size for size in PageSize}


def option(size: PageSize) -> str:
    """The word that asks for a page size: `arm64.pagesize=16k`."""
    return f"{OPTION}={size.token}"


def page_size_due(cmdline: str, granules: Collection[PageSize]) -> PageSize:
    """The page size that a command line gives on a CPU with those granules.

    Raises ValueError for a CPU without any: nothing boots there.
    """
    asked = None
    for word in cmdline.split():
        name, _, value = word.partition("=")
        if name == OPTION:
            asked = _VALUES.get(value, asked)
    return asked if asked is not None and asked in granules else max(granules, key=lambda size: size.bytes)
