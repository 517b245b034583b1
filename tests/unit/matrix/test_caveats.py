"""Tests of harness.matrix.caveats: what is said of kernels before anybody compares them."""

from __future__ import annotations

from pathlib import Path

from harness.kernels.kernel import Kernel
from harness.matrix.caveats import caveats_of
from harness.spec import PageSize

COMMON = "CONFIG_SWAP=y\nCONFIG_NET=y\n"
OF_64K = (
    "CONFIG_ARM64_64K_PAGES=y\nCONFIG_PGTABLE_LEVELS=3\nCONFIG_PAGE_SHIFT=16\nCONFIG_ARM64_VA_BITS_52=y\n"
)


def _kernel(
    directory: Path, name: str, size: PageSize | None, config: str | None, release: str = "6.12"
) -> Kernel:
    path = None
    if config is not None:
        path = directory / f"{name}.config"
        path.write_text(config)
    return Kernel(
        name=name,
        image=directory / name,
        page_size=size,
        release=release,
        sha256="0",
        origin="a test",
        config=path,
        is_boot_time=size is None,
    )


def _said(*kernels: Kernel) -> tuple[str, ...]:
    return caveats_of({kernel.name: kernel for kernel in kernels})


def test_twins_need_no_words(tmp_path: Path) -> None:
    """One tree, and configurations that differ in what a page size decides: nothing is said."""
    boot = _kernel(tmp_path, "boot", None, f"{COMMON}CONFIG_ARM64_BOOT_TIME_PAGE_SIZE=y\n")
    assert _said(boot, _kernel(tmp_path, "k64", PageSize.K64, COMMON + OF_64K)) == ()


def test_another_option_is_named(tmp_path: Path) -> None:
    """An option that no page size explains is named, also where one side only has it unset."""
    boot = _kernel(tmp_path, "boot", None, f"{COMMON}CONFIG_KASAN=y\n# CONFIG_FTRACE is not set\n")
    (said,) = _said(boot, _kernel(tmp_path, "k64", PageSize.K64, COMMON + OF_64K))
    assert said == "boot and k64 differ in 1 options that their page sizes do not explain: KASAN"


def test_another_tree_is_told(tmp_path: Path) -> None:
    """Two releases are two trees, whatever their configurations."""
    boot = _kernel(tmp_path, "boot", None, COMMON, release="6.13")
    (said,) = _said(boot, _kernel(tmp_path, "k4", PageSize.K4, COMMON))
    assert "not of one tree: 6.13 and 6.12" in said


def test_an_unknown_configuration_is_told(tmp_path: Path) -> None:
    """What cannot be compared is not passed over."""
    boot = _kernel(tmp_path, "boot", None, None)
    (said,) = _said(boot, _kernel(tmp_path, "k4", PageSize.K4, COMMON))
    assert "may differ" in said


def test_a_combined_image_is_three_kernels_in_one_file(tmp_path: Path) -> None:
    """Said once, plainly; each member is compared with its neighbour of the same size, and is its twin."""
    members = tuple(_kernel(tmp_path, f"m{size.token}", size, f"{COMMON}#{size}\n") for size in PageSize)
    combined = Kernel(
        name="combined",
        image=tmp_path / "combined",
        page_size=None,
        release="6.12",
        sha256="0",
        origin="a test",
        is_boot_time=True,
        members=members,
    )
    (said,) = _said(combined, *members)
    assert said == (
        "combined is 3 kernels in one file (m4k, m16k, m64k), not boot-time selection inside one kernel"
    )


def test_compile_time_kernels_alone_need_no_words(tmp_path: Path) -> None:
    """Kernels that nobody pairs are not compared."""
    assert (
        _said(
            _kernel(tmp_path, "a", PageSize.K4, None),
            _kernel(tmp_path, "b", PageSize.K16, None, release="1.0"),
        )
        == ()
    )
