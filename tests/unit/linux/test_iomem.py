"""Tests of harness.linux.iomem."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.linux.iomem import parse_iomem

TEXT = """\
08000000-0800ffff : GICD
09000000-09000fff : pl011@9000000
  09000000-09000fff : 9000000.pl011 pl011@9000000
40000000-57ffffff : System RAM
  40200000-41f2ffff : Kernel code
  41f30000-4223ffff : reserved
  42240000-426fffff : Kernel data
  50000000-51ffffff : Crash kernel
58000000-58000fff : reserved
4010000000-401fffffff : PCI ECAM
"""


def test_ranges_by_name() -> None:
    """Ends are exclusive; RAM is what is called so at the top, devices what else is there."""
    found = parse_iomem(TEXT)
    assert found is not None
    assert found.system_ram == (range(0x4000_0000, 0x5800_0000),)
    assert found.kernel_code == range(0x4020_0000, 0x41F3_0000)
    assert found.kernel_data == range(0x4224_0000, 0x4270_0000)
    assert found.may_be_unmapped == (range(0x5000_0000, 0x5200_0000),)
    assert [one.start for one in found.devices] == [0x0800_0000, 0x0900_0000, 0x40_1000_0000]
    assert [one.depth for one in found.resources[:3]] == [0, 0, 1]


def test_addresses_that_are_hidden() -> None:
    """Without the privilege all addresses are 0: that is no answer."""
    assert parse_iomem("00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n") is None
    assert parse_iomem("") is None


def test_a_kernel_that_is_not_told() -> None:
    """Without the kernel's own lines there is no kernel."""
    found = parse_iomem("40000000-57ffffff : System RAM\n")
    assert found is not None
    assert (found.kernel_code, found.kernel_data) == (None, None)


@given(st.text(alphabet="0123456789abcdef -:\nSystem RAM", max_size=400))
def test_any_text_is_read(text: str) -> None:
    """Nonsense is no resource and no exception; what is a resource has a size."""
    found = parse_iomem(text)
    assert found is None or all(len(one.pa) > 0 for one in found.resources)
