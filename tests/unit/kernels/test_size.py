"""A kernel measured: Image, compressed, parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.compressed import Compressor
from harness.kernels.kernel import Kernel
from harness.kernels.record import sha256_of
from harness.kernels.size import belonging, measure
from harness.linux.sections import SectionSizes
from harness.spec import PageSize

MakeVmlinux = Callable[..., tuple[bytes, bytes]]


@pytest.fixture
def make_kernel(tmp_path: Path, make_vmlinux: MakeVmlinux) -> Callable[[int], Kernel]:
    """A kernel with that build ID, and its vmlinux."""

    def make(build: int) -> Kernel:
        directory = tmp_path / str(build)
        directory.mkdir()
        vmlinux, image = make_vmlinux(build)
        (directory / "vmlinux").write_bytes(vmlinux)
        (directory / "Image").write_bytes(image)
        return Kernel(
            name=f"k{build}",
            image=directory / "Image",
            page_size=PageSize.K4,
            release="6.12.1-test",
            sha256=sha256_of(directory / "Image"),
            origin="a test",
            vmlinux=directory / "vmlinux",
        )

    return make


def test_measured(cache: Cache, make_kernel: Callable[[int], Kernel]) -> None:
    """Image by its length, RAM by its header, parts by its vmlinux, and gaps are what no section has."""
    kernel = make_kernel(7)
    found = measure(kernel, "mine", cache)
    assert (found.label, found.image_bytes, found.ram_bytes) == ("mine", 0x1180, 0x2000)
    assert found.sections == SectionSizes(text_bytes=0x374, data_bytes=0x380, bss_bytes=0x500)
    assert found.gaps_bytes == 0x1180 - 0x374 - 0x380
    assert 0 < found.compressed[Compressor.GZIP] < found.image_bytes
    assert found.unknown == ""


def test_without_vmlinux_or_symbols(cache: Cache, make_kernel: Callable[[int], Kernel]) -> None:
    """A kernel that tells nothing of its parts has none, and the reason."""
    found = measure(replace(make_kernel(7), vmlinux=None), "mine", cache)
    assert (found.sections, found.extents, found.gaps_bytes) == (None, None, None)
    assert "no vmlinux" in found.unknown


def test_the_vmlinux_of_another_build(cache: Cache, make_kernel: Callable[[int], Kernel]) -> None:
    """Sections of another kernel are refused, not reported."""
    kernel = replace(make_kernel(7), vmlinux=make_kernel(8).vmlinux)
    with pytest.raises(
        UsageError, match=r"is not what the Image of mine was made from: the vmlinux has build"
    ):
        measure(kernel, "mine", cache)


def test_a_combined_image_has_no_parts(cache: Cache, make_kernel: Callable[[int], Kernel]) -> None:
    """Several kernels in one file have an Image and compressed sizes, and no parts of one kernel."""
    kernel = make_kernel(7)
    found = measure(replace(kernel, members=(kernel, kernel, kernel)), "combined", cache)
    assert (found.sections, found.extents, found.image_bytes) == (None, None, 0x1180)
    assert found.unknown == "3 kernels, each with parts of its own"


def test_whose_vmlinux(make_kernel: Callable[[int], Kernel]) -> None:
    """A vmlinux finds its kernel among several, and is refused where it has none."""
    kernels = (make_kernel(7), make_kernel(8))
    assert kernels[1].vmlinux is not None
    assert belonging(kernels[1].vmlinux, kernels) is kernels[1]
    with pytest.raises(UsageError, match=r"belongs to none of the kernels .*k7: the vmlinux has build ID 08"):
        belonging(kernels[1].vmlinux, kernels[:1])


def test_a_combined_image_owns_no_vmlinux(make_kernel: Callable[[int], Kernel]) -> None:
    """The vmlinux of a member is not that of the file that holds it."""
    kernel = make_kernel(7)
    assert kernel.vmlinux is not None
    with pytest.raises(UsageError, match="several kernels in one file"):
        belonging(kernel.vmlinux, (replace(kernel, members=(kernel,)),))
