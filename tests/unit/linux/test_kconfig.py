"""Kconfig text: parsing, comparing, and the copy inside an Image."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.linux.kconfig import Kconfig, embedded_config, missing_from, page_size_of, read_config
from harness.paths import data_dir
from harness.spec import PageSize

CONFIG = """#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_ARM64=y
CONFIG_DUMMY=m
CONFIG_NR_CPUS=8
CONFIG_CMDLINE=""
CONFIG_LOCALVERSION="-\\"x\\""
# CONFIG_KASAN is not set

"""


def test_values_of_each_kind() -> None:
    """y, m, numbers and strings are read; unset options are n and absent ones None."""
    config = Kconfig.parse(CONFIG)
    assert dict(config) == {
        "ARM64": "y",
        "DUMMY": "m",
        "NR_CPUS": "8",
        "CMDLINE": "",
        "LOCALVERSION": '-"x"',
        "KASAN": "n",
    }
    assert config.get("CONFIG_ARM64") == "y"
    assert config.get("ABSENT") is None
    assert config.enabled("DUMMY")
    assert not config.enabled("KASAN")


@pytest.mark.parametrize("line", ["hello", "CONFIG_X", "ARM64=y", "CONFIG_A B=y"])
def test_other_text_is_refused_by_line(line: str) -> None:
    """A line that is not Kconfig is named with its number."""
    with pytest.raises(UsageError, match=r"line 2 of frag"):
        Kconfig.parse(f"CONFIG_A=y\n{line}\n", where="frag")


@pytest.mark.parametrize(
    ("wanted", "lost"),
    [
        ("CONFIG_ARM64=y", []),
        ("CONFIG_DUMMY=y", [("DUMMY", "y", "m")]),
        ("CONFIG_ABSENT=y", [("ABSENT", "y", None)]),
        ("CONFIG_KASAN=y", [("KASAN", "y", "n")]),
        ("CONFIG_KASAN=n", []),
        ("CONFIG_ABSENT=n", []),
        ("# CONFIG_ABSENT is not set", []),
        ("# CONFIG_ARM64 is not set", [("ARM64", "n", "y")]),
        ('CONFIG_CMDLINE=""', []),
        ('CONFIG_CMDLINE="quiet"', [("CMDLINE", "quiet", "")]),
        ("CONFIG_NR_CPUS=16", [("NR_CPUS", "16", "8")]),
    ],
)
def test_lost_options_are_told(wanted: str, lost: list[tuple[str, str, str | None]]) -> None:
    """An option is missing exactly where its value differs, absent counting as n."""
    missing = missing_from(Kconfig.parse(wanted), Kconfig.parse(CONFIG))
    assert [(one.option, one.wanted, one.found) for one in missing] == lost


def test_missing_reads_well() -> None:
    """The words name option, wanted and found."""
    (missing,) = missing_from(Kconfig.parse("CONFIG_ABSENT=y"), Kconfig.parse(""))
    assert str(missing) == "CONFIG_ABSENT: wanted y, found absent"


def test_embedded_configuration_is_found(tmp_path: Path) -> None:
    """The text between IKCFG_ST and IKCFG_ED is unpacked; the bare marker earlier on does not mislead."""
    image = tmp_path / "Image"
    packed = b"IKCFG_ST" + gzip.compress(CONFIG.encode()) + b"IKCFG_ED"
    image.write_bytes(b"\0" * 1000 + b"IKCFG_ST\0" + b"\0" * 1000 + packed + b"\0" * 1000)
    assert embedded_config(image) == CONFIG


@pytest.mark.parametrize(
    "data",
    [
        b"no marker",
        b"IKCFG_ST" + gzip.compress(CONFIG.encode())[:40],
        b"IKCFG_ST\x1f\x8b\x08" + b"\x99" * 100,
        b"IKCFG_ST" + gzip.compress(b"\0" * (9 << 20)),
    ],
    ids=["absent", "cut", "corrupt", "monstrous"],
)
def test_no_embedded_configuration(tmp_path: Path, data: bytes) -> None:
    """An Image without one, or with a cut, corrupt or monstrous one, gives None."""
    (tmp_path / "Image").write_bytes(data)
    assert embedded_config(tmp_path / "Image") is None


def test_page_size_of_a_configuration() -> None:
    """The choice of ARM64_*_PAGES tells; a boot-time kernel has none."""
    assert page_size_of(Kconfig.parse("CONFIG_ARM64_16K_PAGES=y")) is PageSize.K16
    assert (
        page_size_of(Kconfig.parse("CONFIG_ARM64_64K_PAGES=y\n# CONFIG_ARM64_4K_PAGES is not set"))
        is PageSize.K64
    )
    assert page_size_of(Kconfig.parse("CONFIG_ARM64_64K_PAGES=y\nCONFIG_ARM64_BOOT_TIME_PAGE_SIZE=y")) is None
    assert page_size_of(Kconfig.parse("")) is None


def test_unreadable_configuration_is_named(tmp_path: Path) -> None:
    """A missing or oversized file is a UsageError with its name."""
    with pytest.raises(UsageError, match="cannot read"):
        read_config(tmp_path / "none")
    (tmp_path / "big").write_bytes(b"#" * ((8 << 20) + 1))
    with pytest.raises(UsageError, match="not a kernel configuration"):
        read_config(tmp_path / "big")


@pytest.mark.parametrize(
    "path", sorted(data_dir("kernel-configs").glob("*.config")), ids=lambda path: path.name
)
def test_our_fragments_are_kconfig(path: Path) -> None:
    """Every fragment of the project parses and asks for something."""
    assert len(read_config(path)) > 0
