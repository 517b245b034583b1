"""Tests of harness.linux.smaps on output of a real kernel (Linux 6.12), and on anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.linux.smaps import parse_smaps

SMAPS = b"""\
ffffa7a00000-ffffa7c00000 rw-p 00000000 00:10 1234                       /anon_hugepage (deleted)
Size:               2048 kB
KernelPageSize:     2048 kB
MMUPageSize:        2048 kB
Rss:                   0 kB
AnonHugePages:         0 kB
Private_Hugetlb:    2048 kB
THPeligible:           0
VmFlags: rd wr mr mw me de ht
ffffa7e00000-ffffa8000000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
Rss:                2048 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:      512 kB
FilePmdMapped:       256 kB
VmFlags: rd wr mr mw me bt mt lo
"""


def test_ranges() -> None:
    """Sizes are bytes by the kernel's names, flags are a set, and both belong to the range above them."""
    huge, folio = parse_smaps(SMAPS)
    assert huge.is_hugetlb
    assert huge.kernel_page_bytes == 2 << 20
    assert huge.sizes_bytes["MMUPageSize"] == 2 << 20
    assert huge.pmd_mapped_bytes == 0
    assert not folio.is_hugetlb
    assert folio.sizes_bytes["Rss"] == 2 << 20
    assert folio.pmd_mapped_bytes == (2048 + 512 + 256) << 10
    assert {"bt", "mt", "lo"} <= folio.flags
    assert folio.vma.start_va == huge.vma.end_va + (2 << 20)


def test_a_text_that_breaks_off() -> None:
    """The last range is taken as far as it goes."""
    (huge,) = parse_smaps(SMAPS[:200])
    assert huge.flags == frozenset()
    assert huge.kernel_page_bytes == 2 << 20


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_total(before: bytes, after: bytes) -> None:
    """Whatever the bytes, the ranges that are of the format are found among them."""
    found = parse_smaps(before + b"\n" + SMAPS + after)
    assert parse_smaps(SMAPS)[0] in found
    assert all(size >= 0 for one in found for size in one.sizes_bytes.values())
