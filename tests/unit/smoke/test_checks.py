"""Tests of the table of checks and of what they compute without a guest."""

from __future__ import annotations

import pytest

from harness.build.disks import block_sizes_for
from harness.smoke import CHECKS
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.devices import cpu_list
from harness.smoke.page_size import size_from_tcr
from harness.spec import PageSize


def test_names_are_unique_and_each_check_says_what_it_claims() -> None:
    """--check can tell them apart, and --list-checks has a line for each."""
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.about.endswith(".") and len(check.about) > 20 for check in CHECKS)


def test_only_64k_needs_more_memory() -> None:
    """A PMD of 512 MiB is what asks for a larger guest, and nothing at 4K or 16K does."""
    needy = {
        (check.name, size) for check in CHECKS for size in PageSize if check.needs_mib(size) > BASE_MEMORY_MIB
    }
    assert needy == {("hugetlb-pmd", PageSize.K64), ("thp", PageSize.K64)}


@pytest.mark.parametrize(
    ("tcr", "size"),
    [
        (0x095001F6B54C350C, PageSize.K4),  # as Linux 6.12 sets it, one of each
        (0x095001F6754CB50C, PageSize.K16),
        (0x00500074F5507510, PageSize.K64),
        (0, None),
    ],
)
def test_granule_of_the_kernel_half(tcr: int, size: PageSize | None) -> None:
    """TG1 is read with its own encoding, which is not that of TG0."""
    assert size_from_tcr(tcr) is size


@pytest.mark.parametrize(
    ("page", "sizes"),
    [
        (PageSize.K4, (1024, 4096, 16384)),
        (PageSize.K16, (4096, 16384, 65536)),
        (PageSize.K64, (4096, 65536)),
    ],
)
def test_block_sizes(page: PageSize, sizes: tuple[int, ...]) -> None:
    """One block size below the page size, one at it, and one above where ext4 has such."""
    assert block_sizes_for(page) == sizes


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-2,4\n", {0, 1, 2, 4}),
        ("0", {0}),
        ("", set()),
        ("sh: write error: Resource busy\n0-1", set()),
    ],
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    """The kernel's list format is understood; anything else, an error message included, is no list."""
    assert cpu_list(text) == cpus
