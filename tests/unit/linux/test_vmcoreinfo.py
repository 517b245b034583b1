"""Tests of harness.linux.vmcoreinfo. The text is as Debian's 6.12 kernels print it, the lines that matter."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ChannelError
from harness.linux.vmcoreinfo import VmcoreInfo, find_vmcoreinfo
from harness.vmsa import AddressFormat, Regime, Registers, VaRange, derive

SWAPPER_PA = 0x41F3_0000
LINES = {
    "OSRELEASE": "6.12.117+deb13-arm64",
    "BUILD-ID": "2d43e9b8e72f9c2314fe7f0c97abee29e857ce37",
    "PAGESIZE": "4096",
    "OFFSET(uts_namespace.name)": "0",
    "SYMBOL(swapper_pg_dir)": "ffffd83f19d30000",
    "NUMBER(MAX_PHYSMEM_BITS)": "48",
    "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": "-184549376",
    "NUMBER(VA_BITS)": "48",
    "NUMBER(kimage_voffset)": "0xffffd83ed7e00000",
    "NUMBER(PHYS_OFFSET)": "0x40000000",
    "NUMBER(TCR_EL1_T1SZ)": "0x10",
}


def text(**changed: str | None) -> bytes:
    """The note's text; a value of None leaves the line out."""
    lines: dict[str, str | None] = dict(LINES)
    for name, value in changed.items():
        lines[next(key for key in lines if name in key)] = value
    return "".join(f"{name}={value}\n" for name, value in lines.items() if value is not None).encode()


def note(content: bytes) -> bytes:
    """The ELF note that Linux keeps it in."""
    return struct.pack("<III", 11, len(content), 0) + b"VMCOREINFO\0\0" + content


def reader(memory: bytes) -> Callable[[int, int], bytes]:
    """Physical memory from 0 on."""

    def read(pa: int, size_bytes: int) -> bytes:
        if pa < 0 or pa + size_bytes > len(memory):
            raise ChannelError("not there")
        return memory[pa : pa + size_bytes]

    return read


def found_in(memory: bytes, **limits: int) -> list[str]:
    """Releases of the notes that are found."""
    return [one.release for one in find_vmcoreinfo(reader(memory), [range(len(memory))], **limits)]


def upper(info: VmcoreInfo) -> Regime:
    """What its registers mean for the kernel's half."""
    regime = derive(Registers.from_names(info.registers()), VaRange.UPPER)
    assert isinstance(regime, Regime)
    return regime


def test_where_the_kernels_table_is() -> None:
    """swapper_pg_dir's physical address is its symbol less kimage_voffset, modulo 2^64."""
    info = VmcoreInfo.parse(text())
    assert info.release == "6.12.117+deb13-arm64"
    assert info.swapper_pa == info.table_pa == SWAPPER_PA


@pytest.mark.parametrize(
    ("page", "va_bits", "t1sz", "pa_bits", "wanted"),
    [
        # page size, then: granule, start level, input bits, address format, offset into swapper_pg_dir
        ("4096", "39", "0x19", "48", (12, 1, 39, AddressFormat.PA48, 0)),
        ("4096", "48", "0x10", "48", (12, 0, 48, AddressFormat.PA48, 0)),
        ("4096", "52", "0xc", "52", (12, -1, 52, AddressFormat.LPA2, 0)),
        ("4096", "52", "0x10", "52", (12, 0, 48, AddressFormat.PA48, 0)),
        ("16384", "36", "0x1c", "48", (14, 2, 36, AddressFormat.PA48, 0)),
        ("16384", "47", "0x11", "48", (14, 1, 47, AddressFormat.PA48, 0)),
        ("16384", "52", "0xc", "52", (14, 0, 52, AddressFormat.LPA2, 0)),
        ("16384", "52", "0x11", "52", (14, 1, 47, AddressFormat.PA48, 0)),
        ("65536", "42", "0x16", "48", (16, 2, 42, AddressFormat.PA48, 0)),
        ("65536", "48", "0x10", "48", (16, 1, 48, AddressFormat.PA48, 0)),
        ("65536", "48", "0x10", "52", (16, 1, 48, AddressFormat.LPA, 0)),
        ("65536", "52", "0xc", "52", (16, 1, 52, AddressFormat.LPA, 0)),
        # TTBR1_BADDR_4852_OFFSET, arch/arm64/include/asm/pgtable-hwdef.h: (1024 - 64) * 8
        ("65536", "52", "0x10", "52", (16, 1, 48, AddressFormat.LPA, 0x1E00)),
    ],
)
def test_every_layout_of_linux(
    page: str, va_bits: str, t1sz: str, pa_bits: str, wanted: tuple[int, int, int, AddressFormat, int]
) -> None:
    """Each page size, width of address and fallback gives the geometry that the kernel set up."""
    info = VmcoreInfo.parse(text(PAGESIZE=page, VA_BITS=va_bits, T1SZ=t1sz, MAX_PHYSMEM=pa_bits))
    regime = upper(info)
    assert wanted == (
        regime.geometry.granule_log2,
        regime.start_level,
        regime.iasize_bits,
        regime.address_format,
        regime.table_pa - SWAPPER_PA,
    )
    assert any("fell back" in said for said in info.assumptions()) == bool(wanted[4])


def test_tables_above_48_bits() -> None:
    """Address bits 51:48 of a first table survive where the format has them."""
    va = "ffff800080028000"
    offset = f"{0xFFFF_8000_8002_8000 - 0x9_0000_0002_8000 & (1 << 64) - 1:#x}"
    info = VmcoreInfo.parse(
        text(VA_BITS="52", T1SZ="0xc", MAX_PHYSMEM="52", swapper=va, kimage_voffset=offset)
    )
    assert upper(info).table_pa == 0x9_0000_0002_8000


def test_memory_types_are_those_of_linux() -> None:
    """MAIR has Normal, tagged, non-cacheable and two Device types at the indices Linux uses."""
    registers = VmcoreInfo.parse(text()).registers()
    assert registers["MAIR_EL1"].to_bytes(8, "little")[:5] == bytes([0xFF, 0xFF, 0x44, 0x00, 0x04])


def test_t1sz_of_older_kernels() -> None:
    """Before Linux 5.11 T1SZ was not told: it follows from VA_BITS, and that is said."""
    info = VmcoreInfo.parse(text(T1SZ=None))
    assert info.txsz == 16
    assert any("T1SZ" in said for said in info.assumptions())


@pytest.mark.parametrize(
    "changed",
    [
        {"PAGESIZE": "8192"},
        {"PAGESIZE": None},
        {"VA_BITS": "64"},
        {"VA_BITS": "-1"},
        {"T1SZ": "0xb"},
        {"T1SZ": "0x3f"},
        {"swapper": None},
        {"swapper": "ffffd83f19d30001"},
        {"swapper": "1" * 17},
        {"kimage_voffset": None},
        {"kimage_voffset": "0"},
        {"kimage_voffset": "what"},
    ],
)
def test_senseless_lines_are_refused(changed: dict[str, str | None]) -> None:
    """A line that is missing or cannot be true is an error that says which, never a table somewhere."""
    with pytest.raises(ValueError, match=r"PAGESIZE|VA_BITS|T1SZ|swapper|kimage"):
        VmcoreInfo.parse(text(**changed))


@given(st.binary(max_size=300))
def test_any_text_is_a_value_or_a_clear_error(junk: bytes) -> None:
    """Whatever a guest writes into the note, parsing gives a VmcoreInfo or ValueError."""
    for content in (junk, text() + junk, text().replace(b"48", junk[:8])):
        try:
            VmcoreInfo.parse(content).registers()
        except ValueError:
            continue


def test_found_in_memory() -> None:
    """The note is found on any page, and text that is no note, or not on a page, is passed over."""
    memory = bytearray(64 << 10)
    memory[0x100 : 0x100 + 600] = note(text(OSRELEASE="not-on-a-page")).ljust(600, b"\0")[:600]
    memory[0x2000:0x2019] = text()[:25]
    memory[0x3000 : 0x3000 + len(note(text()))] = note(text())
    memory[0x5000 : 0x5000 + len(note(text(PAGESIZE="5")))] = note(text(PAGESIZE="5"))
    later = note(text(OSRELEASE="later"))
    memory[0x7000 : 0x7000 + len(later)] = later
    assert found_in(bytes(memory)) == ["6.12.117+deb13-arm64", "later"]


def test_found_beyond_a_chunk() -> None:
    """Memory is looked at in pieces: a note in a later one is found, and one that a piece's end cuts."""
    one = note(text())
    memory = bytes((4 << 20) - 4096) + one.ljust(4096, b"\0") + bytes(4 << 20) + one + bytes(4096)
    assert len(found_in(memory)) == 2


def test_the_search_is_bounded() -> None:
    """Beyond the limit nothing is looked at, and of a memory full of notes only the first 64 count."""
    one = note(text()).ljust(4096, b"\0")
    assert found_in(bytes(8192) + one, max_bytes=8192) == []
    pieces = [range(8192), range(8192, 12288)]
    assert list(find_vmcoreinfo(reader(bytes(8192) + one), pieces, max_bytes=8192)) == []
    assert len(found_in(one * 100)) == 64


@pytest.mark.parametrize("length", [0, 0x10001, 0xFFFF_FFFF])
def test_absurd_lengths(length: int) -> None:
    """A note whose length cannot be, or that leaves memory, is passed over."""
    damaged = bytearray(note(text()))
    damaged[4:8] = length.to_bytes(4, "little")
    assert found_in(bytes(damaged).ljust(1 << 18, b"\0")) == []
    assert found_in(note(text())[:-20]) == []
