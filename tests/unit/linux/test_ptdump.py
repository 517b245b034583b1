"""Tests of harness.linux.ptdump on lines as Linux 6.12 prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.ptdump import LEVELS, PTDUMP_MASK, Region, parse_ptdump, printed

HEAD = "0xfff0000000000000-0xfff0000000200000           2M PTE"
TAIL = "\n0xfff0000000200000-0x0000000000000000        4095T PGD\n"
BASE = 0xFFF0_0000_0000_0000
VALID, TABLE, USER, RDONLY, SHARED, AF, NG = 1, 2, 1 << 6, 1 << 7, 3 << 8, 1 << 10, 1 << 11
GP, CONT, PXN, UXN = 1 << 50, 1 << 52, 1 << 53, 1 << 54
DATA = VALID | TABLE | PXN | UXN | AF


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ("       RW NX SHD AF            UXN    MEM/NORMAL-TAGGED", DATA | SHARED | 1 << 2),
        ("       ro x  SHD AF    CON BLK UXN GP MEM/NORMAL", VALID | RDONLY | SHARED | AF | CONT | UXN | GP),
        ("       RW NX SHD AF NG         UXN    DEVICE/nGnRE", DATA | SHARED | NG | 4 << 2),
        ("   USR ro NX     AF            UXN    MEM/NORMAL-NC", DATA | USER | RDONLY | 2 << 2),
        (" F     RW NX SHD AF            UXN    MEM/NORMAL", DATA & ~VALID | SHARED),
        (" F     RW NX SHD AF        BLK UXN    MEM/NORMAL", DATA & ~VALID | SHARED),
        ("       RW NX SHD AF            UXN    DEVICE/nGnRnE", DATA | SHARED | 3 << 2),
    ],
)  # fmt: skip
def test_attributes(attributes: str, word: int) -> None:
    """Each column is a bit; an invalid entry's BLK is left out, in which the versions differ."""
    # The first attribute is a blank or an F, after the blank that parts it from the level.
    line = HEAD + ("  " + attributes[2:] if attributes.startswith("  ") else attributes)
    found = parse_ptdump(
        line.rstrip() + f"\n0xfff0000000200000-0x0000000000000000{_size(BASE + (2 << 20))} PGD\n"
    )
    assert found.problem == ""
    assert found.regions[0] == Region(BASE, BASE + (2 << 20), LEVELS.index("PTE"), word)


def _size(start: int) -> str:
    """The size of what is left of the address space, as the kernel prints it."""
    kib, unit = ((1 << 64) - start) >> 10, 0
    while kib % 1024 == 0 and unit < 5:
        kib, unit = kib >> 10, unit + 1
    return f"   {kib:9d}{'KMGTPE'[unit]}"


def test_a_hole_has_no_attributes() -> None:
    """A level alone is a hole; headings part nothing."""
    text = (
        "---[ Linear Mapping start ]---\n" + HEAD + "\n---[ Modules start ]---\n"
        "0xfff0000000200000-0xfff0000000400000           2M PTE\n"
        f"0xfff0000000400000-0x0000000000000000{_size(BASE + (4 << 20))} PGD\n"
    )
    found = parse_ptdump(text)
    assert found.problem == ""
    assert found.regions[0] == Region(BASE, BASE + (4 << 20), LEVELS.index("PTE"), 0)
    assert len(found.regions) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "ends before"),
        (HEAD + "\n", "ends before"),
        (HEAD + TAIL, "cannot be read"),  # 4095T is not the size of what is left
        (HEAD.replace("2M", "4M") + "\n", "cannot be read"),
        (HEAD + " XX\n", "cannot be read"),
        (HEAD + "\n" + HEAD + "\n", "not where the last one ended"),
        ("0xfff0000000200000-0xfff0000000000000           2M PTE\n", "cannot be read"),
    ],
)
def test_what_is_no_whole_dump(text: str, problem: str) -> None:
    """A dump that is cut, senseless or has gaps says so."""
    assert problem in parse_ptdump(text).problem


def test_printed() -> None:
    """Shareability is one flag, addresses and software's bits are not told."""
    assert printed(0xFFFF_FFFF_FFFF_FFFF) == PTDUMP_MASK
    assert printed(VALID | TABLE | 1 << 8) == VALID | TABLE
    assert printed(0) == 0
    assert printed(AF) == AF | TABLE


@given(st.text(alphabet="0xf123 -KMGPTEDUSRNXF\n[]", max_size=300))
def test_any_text_is_read(text: str) -> None:
    """Nonsense is an incomplete dump, never an exception."""
    assert parse_ptdump(text).problem
