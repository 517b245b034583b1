"""Tests of harness.spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.spec import Hyperv, MachineSpec, PageSize, Platform


@pytest.mark.parametrize("text", ["16k", "16K", " 16KiB", "16kb", "16384"])
def test_page_size_spellings(text: str) -> None:
    """The usual spellings of a page size are understood."""
    assert PageSize.parse(text) is PageSize.K16


@pytest.mark.parametrize("text", ["8k", "", "16", "sixteen", "16m", "-4k"])
def test_page_size_that_arm64_lacks(text: str) -> None:
    """Anything else is refused with the three sizes there are."""
    with pytest.raises(UsageError, match="4k, 16k or 64k"):
        PageSize.parse(text)


def test_platforms() -> None:
    """A platform has a name, an unknown one is refused with those there are, and a spec says which it is."""
    assert [Platform.parse(word) for word in ("virt", "HyperV")] == [Platform.VIRT, Platform.HYPERV]
    with pytest.raises(UsageError, match="there are virt, hyperv"):
        Platform.parse("azure")
    plain = MachineSpec(kernel=Path("k"), initrd=Path("i"), cmdline="")
    assert plain.platform is Platform.VIRT
    assert replace(plain, hyperv=Hyperv(monitor=Path("m"))).platform is Platform.HYPERV


def test_page_size_of_bytes() -> None:
    """A size in bytes finds its granule, and only an exact one."""
    assert [PageSize.of_bytes(size.bytes) for size in PageSize] == list(PageSize)
    assert PageSize.of_bytes(8192) is None
