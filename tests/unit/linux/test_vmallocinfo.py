"""Tests of harness.linux.vmallocinfo."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.linux.vmallocinfo import parse_vmallocinfo

TEXT = """\
0xffff800080010000-0xffff800080015000   20480 start_kernel+0x608/0x7d0 pages=4 vmalloc N0=4
0xffff800080008000-0xffff80008000a000    8192 __ioremap_prot+0x70/0xc0 phys=0x0000000009030000 ioremap
0xffff800080020000-0xffff800080040000  131072 vm_map_ram
0xffff800080050000-0xffff800080052000    8192 unpurged vm_area
0xfffffdffbf400000-0xfffffdffbf800000 4194304 pcpu_get_vm_areas+0x0/0xb78 vmalloc
"""


def test_areas() -> None:
    """Areas come in order of addresses, with what the kernel counts; those without a guard are left out."""
    found = parse_vmallocinfo(TEXT)
    assert found is not None
    assert [(one.va.start & 0xFFFFFF, len(one.va), one.pages, one.pa) for one in found] == [
        (0x008000, 8192, None, 0x0903_0000),
        (0x010000, 20480, 4, None),
        (0x400000, 4 << 20, None, None),
    ]
    assert found[0].kind == {"ioremap"}


def test_addresses_that_are_hashed() -> None:
    """%pK hashes to 32 bits: those are no addresses."""
    text = "0x00000000116f92b1-0x0000000025af9a32   20480 start_kernel+0x608/0x7d0 pages=4 vmalloc N0=4\n"
    assert parse_vmallocinfo(text) is None


def test_a_line_that_contradicts_itself() -> None:
    """An area whose size is not that of its addresses is passed over."""
    assert parse_vmallocinfo("0xffff800080010000-0xffff800080015000 4096 f pages=4 vmalloc\n") is None


@given(st.text(alphabet="0x123456789abcdef- \npages=vmalloc", max_size=400))
def test_any_text_is_read(text: str) -> None:
    """Nonsense is no area and no exception."""
    found = parse_vmallocinfo(text)
    assert found is None or all(len(one.va) > 0 for one in found)
