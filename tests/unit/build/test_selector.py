"""The selector compiles without a warning, and runs wherever it lies."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64
from elftools.elf.relocation import RelocationSection

from harness.build.selector import build_selector, selector_digest
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import ToolMissing

RELATIVE = {
    "R_AARCH64_ADR_PREL_PG_HI21",
    "R_AARCH64_ADR_PREL_LO21",
    "R_AARCH64_CALL26",
    "R_AARCH64_JUMP26",
    "R_AARCH64_CONDBR19",
    "R_AARCH64_PREL32",
}
LOW_12_BITS = {"R_AARCH64_ADD_ABS_LO12_NC"} | {f"R_AARCH64_LDST{n}_ABS_LO12_NC" for n in (8, 16, 32, 64)}
"""The same wherever the program lies, as long as that is a page's boundary."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the selector."""
    try:
        toolchain = Toolchain.find()
    except ToolMissing as error:
        pytest.skip(str(error))
    with Cache(tmp_path_factory.mktemp("cache")) as cache:
        first = build_selector(toolchain, cache)
        before = (first / "selector.bin").stat().st_mtime_ns
        assert build_selector(toolchain, cache) == first
        assert (first / "selector.bin").stat().st_mtime_ns == before
        return first


def test_header(built: Path) -> None:
    """The header is Linux's: little-endian, page size unspecified, anywhere, no EFI."""
    flat = (built / "selector.bin").read_bytes()
    code0, code1, text_offset, image_size, flags, *reserved, magic, pe = struct.unpack_from("<2I6Q4sI", flat)
    assert code0 >> 26 == 0b000101  # B, Arm ARM C6.2
    assert (code1, text_offset, image_size, flags) == (0, 0, 0, 8)
    assert (reserved, magic, pe) == ([0, 0, 0], b"ARM\x64", 0)
    assert len(flat) % 4096 == 0
    assert not any(flat[64 : 64 + 48 + 3 * 128])


def test_no_absolute_address(built: Path) -> None:
    """Every address is taken relative to the program counter, by pages: it may move by pages."""
    with (built / "selector.elf").open("rb") as file:
        names = {number: name for name, number in ENUM_RELOC_TYPE_AARCH64.items()}
        kinds = {
            names[relocation["r_info_type"]]
            for section in ELFFile(file).iter_sections()
            if isinstance(section, RelocationSection)
            for relocation in section.iter_relocations()
        }
    assert kinds & RELATIVE
    assert kinds <= RELATIVE | LOW_12_BITS


def test_digest_is_of_the_sources() -> None:
    """The digest does not change from call to call."""
    assert selector_digest() == selector_digest()
    assert len(selector_digest()) == 32
