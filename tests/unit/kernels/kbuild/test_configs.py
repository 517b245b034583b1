"""What --config may name, and what a full configuration loses."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.catalogue import Catalogue
from harness.kernels.kbuild.configs import (
    Base,
    Fragment,
    dropped_from,
    page_fragment,
    read_configuration,
    read_page_fragment,
)
from harness.linux.kconfig import Kconfig
from harness.spec import PageSize

FULL = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/arm64 6.1.0 Kernel\n#\nCONFIG_A=y\n"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.load()


def test_names_and_files_are_fragments(catalogue: Catalogue, tmp_path: Path) -> None:
    """Ours by name, the user's by path, in the order given; two files of one name are told apart."""
    one, two = tmp_path / "one/x.config", tmp_path / "two/x.config"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("CONFIG_X=y\n")
    found = read_configuration(("trimmed", str(one)), catalogue)
    assert [fragment.name for fragment in found.fragments] == ["trimmed", str(one)]
    assert (found.base, found.origin) == (None, "allnoconfig")
    other = read_configuration(("trimmed", str(two)), catalogue)
    assert found.directory_name != other.directory_name
    assert found.digest == other.digest


def test_own_fragments_name_the_build_directory(catalogue: Catalogue) -> None:
    """Builds of catalogue fragments are found by a person; the page size is part of the name."""
    found = read_configuration(("trimmed", "ptdump"), catalogue)
    page = read_page_fragment(PageSize.K16, catalogue, whole=True)
    assert found.over_it(page).directory_name == "trimmed-ptdump-page-16k"


def test_directory_stays_when_a_file_is_edited(catalogue: Catalogue, tmp_path: Path) -> None:
    """An edited fragment is another configuration, built incrementally where the last was."""
    path = tmp_path / "x.config"
    path.write_text("CONFIG_X=y\n")
    before = read_configuration((str(path),), catalogue)
    path.write_text("CONFIG_X=m\n")
    after = read_configuration((str(path),), catalogue)
    assert before.directory_name == after.directory_name
    assert before.digest != after.digest


@pytest.mark.parametrize("packed", [False, True])
def test_file_that_kconfig_wrote_is_a_base(catalogue: Catalogue, tmp_path: Path, packed: bool) -> None:
    """A .config, or /proc/config.gz, is told by its first lines, and fragments go over it."""
    path = tmp_path / "config"
    path.write_bytes(gzip.compress(FULL.encode()) if packed else FULL.encode())
    found = read_configuration((str(path), "ptdump"), catalogue)
    assert found.base == Base(str(path), FULL)
    assert [fragment.name for fragment in found.fragments] == ["ptdump"]
    assert found.digest != read_configuration(("ptdump",), catalogue).digest


@pytest.mark.parametrize("target", ["defconfig", "virt_defconfig", "tinyconfig"])
def test_make_targets_are_bases(catalogue: Catalogue, target: str) -> None:
    """The tree's own configurations."""
    assert read_configuration((target,), catalogue).base == Base(target)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n", "line 1 of .* is not Kconfig: 'hello'"),
        (b"# only a comment\n", "it sets no option"),
        (b"\x7fELF\0\0", "a binary file"),
        (b"\x1f\x8b\x08broken", "cannot read the kernel configuration"),
        (FULL.encode() + b"nonsense\n", "line 6 of .* is not Kconfig"),
    ],
)
def test_file_that_is_no_configuration(
    catalogue: Catalogue, tmp_path: Path, content: bytes, said: str
) -> None:
    """Prose, nothing, a binary, a broken gzip, and a .config with a broken line."""
    path = tmp_path / "x.config"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_configuration((str(path),), catalogue)


def test_unknown_name_says_what_there_is(catalogue: Catalogue) -> None:
    """A name that is neither a fragment, nor a file, nor a target."""
    with pytest.raises(UsageError, match=r"--config trimed: no such file.*page-boot.*trimmed.*defconfig"):
        read_configuration(("trimed",), catalogue)


def test_two_bases_are_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    """Only one configuration can lie under the fragments."""
    path = tmp_path / "config"
    path.write_text(FULL)
    with pytest.raises(UsageError, match="two full configurations, defconfig and "):
        read_configuration(("defconfig", str(path)), catalogue)


@pytest.mark.parametrize("size", [*PageSize, None])
def test_every_page_size_has_a_fragment(catalogue: Catalogue, size: PageSize | None) -> None:
    """One that chooses exactly that page size; over a .config it leaves the address bits alone."""
    whole = read_page_fragment(size, catalogue, whole=True).options
    alone = read_page_fragment(size, catalogue, whole=False).options
    option = "ARM64_BOOT_TIME_PAGE_SIZE" if size is None else f"ARM64_{size.label}_PAGES"
    assert whole[option] == alone[option] == "y"
    assert any("VA_BITS" in name for name in whole)
    assert (set(alone) == {option}) is (size is not None)
    assert page_fragment(size) == f"page-{'boot' if size is None else size.token}"


def test_boot_time_kernels_have_48_bits(catalogue: Catalogue) -> None:
    """That series excludes 52-bit virtual addresses."""
    options = read_page_fragment(None, catalogue, whole=True).options
    assert options["ARM64_VA_BITS_48"] == "y"
    assert "ARM64_VA_BITS_52" not in options


def test_what_fragments_replace_is_no_loss() -> None:
    """Lost is what was set and is gone: not what was off, overridden, or the other one of a choice."""
    base = Base("x", "CONFIG_GONE=y\nCONFIG_OFF=n\nCONFIG_SET=m\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_NUMBER=3\n")
    fragments = (Fragment("page-64k", "CONFIG_ARM64_64K_PAGES=y\n"), Fragment("f", "CONFIG_SET=n\n"))
    config = Kconfig.parse("CONFIG_NUMBER=4\nCONFIG_ARM64_64K_PAGES=y\n")
    assert [missing.option for missing in dropped_from(base, fragments, config)] == ["GONE"]
