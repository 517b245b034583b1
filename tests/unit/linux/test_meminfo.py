"""What kernels print of their memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.linux.meminfo import BootMemory, GuestMemory, boot_memory, mem_total_kib, memmap_kib

DATA = Path(__file__).parent / "data"
# Debian's 6.12.117 with 16K pages, 384 MiB.
DEBIAN = (
    "[    0.000000] software IO TLB: area num 2.\n"
    "[    0.000000] Memory: 351360K/393216K available (15808K kernel code, 3844K rwdata, 14096K rodata, "
    "3392K init, 1038K bss, 38912K reserved, 0K cma-reserved)\r\n"
)
BOOT = BootMemory(
    available_kib=351360,
    physical_kib=393216,
    code_kib=15808,
    rwdata_kib=3844,
    rodata_kib=14096,
    init_kib=3392,
    bss_kib=1038,
    reserved_kib=38912,
    cma_kib=0,
)


def test_the_line_of_a_real_log() -> None:
    """Every number is found in the console of a kernel that was booted."""
    found = boot_memory((DATA / "clean-boot.log").read_text())
    assert found is not None
    numbers = (found.available_kib, found.physical_kib, found.code_kib, found.rwdata_kib, found.rodata_kib)
    assert numbers == (240128, 262144, 4416, 832, 1728)
    assert (found.init_kib, found.bss_kib, found.reserved_kib, found.cma_kib) == (1600, 533, 14272, 0)


def test_each_number_has_its_name() -> None:
    """The numbers of the line go to the fields that mm_init.c prints in that order."""
    assert boot_memory(DEBIAN) == BOOT


@pytest.mark.parametrize(
    "log",
    ["", "Memory: none", DEBIAN.replace("1038K bss", "?K bss"), DEBIAN.replace("351360", "9" * 40)],
    ids=["empty", "another line", "no number", "an endless number"],
)
def test_a_log_without_the_line(log: str) -> None:
    """Nonsense gives nothing."""
    assert boot_memory(log) is None


def test_mem_total() -> None:
    """MemTotal is a line of its own, and not another number of /proc/meminfo."""
    assert mem_total_kib("MemTotal:         353312 kB\nMemFree:          333104 kB\n") == 353312
    assert mem_total_kib("SwapMemTotal:     353312 kB\n") is None


@pytest.mark.parametrize("name", ["nr_memmap_boot_pages", "nr_memmap_boot"])
def test_page_structures(name: str) -> None:
    """/proc/vmstat counts pages of the guest's size, under the names of 6.12 and 6.11."""
    assert memmap_kib(f"nr_memmap_pages 3\n{name} 96\nnr_other 4\n", 16) == 1536


def test_page_structures_of_an_older_kernel() -> None:
    """A kernel that does not say is not guessed at."""
    assert memmap_kib("nr_free_pages 96\n", 16) is None


def test_the_parts_of_what_is_lost() -> None:
    """Lost is RAM less MemTotal; what neither image nor page structures explain is other."""
    guest = GuestMemory(given_kib=393216, total_kib=353312, boot=BOOT, memmap_kib=1536)
    assert guest.lost_kib == 39904
    assert guest.other_kib == 39904 - 15808 - 3844 - 14096 - 1038 - 1536


def test_other_without_page_structures() -> None:
    """Where page structures are not known they are part of other; without the line nothing is told apart."""
    guest = GuestMemory(given_kib=393216, total_kib=353312, boot=BOOT)
    assert guest.other_kib == 39904 - 15808 - 3844 - 14096 - 1038
    assert GuestMemory(given_kib=2, total_kib=1).other_kib is None
