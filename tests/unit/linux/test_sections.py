"""Sizes of sections, held against `size`; whose Image a vmlinux is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.linux.kallsyms import SymbolTable
from harness.linux.sections import Extents, SectionSizes, extents, mismatch, section_sizes

MakeVmlinux = Callable[..., tuple[bytes, bytes]]


@pytest.fixture
def vmlinux(tmp_path: Path, make_vmlinux: MakeVmlinux) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(make_vmlinux()[0])
    return path


def test_sums(vmlinux: Path) -> None:
    """Executable or read-only is text, a writable .rodata is data, no contents bss, .comment nothing."""
    assert section_sizes(vmlinux) == SectionSizes(
        text_bytes=0x40 + 0x300 + 0x10 + 36, data_bytes=0x200 + 0x180, bss_bytes=0x500
    )


def test_as_binutils_counts(vmlinux: Path) -> None:
    """The sums are those that `size` prints in its Berkeley format."""
    program = shutil.which("aarch64-linux-gnu-size") or shutil.which("size")
    if program is None:
        pytest.skip("no `size` to compare with: apt-get install binutils")
    done = subprocess.run((program, vmlinux), capture_output=True, text=True, check=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    assert section_sizes(vmlinux) == SectionSizes(text_bytes=text, data_bytes=data, bss_bytes=bss)


@pytest.mark.parametrize("left", [0, 3, 40, 64, 500, 2000, -1])
def test_truncated(vmlinux: Path, left: int) -> None:
    """A vmlinux that is cut short anywhere is refused, and named."""
    vmlinux.write_bytes(vmlinux.read_bytes()[:left])
    with pytest.raises(UsageError, match="vmlinux is not a vmlinux, or a truncated one"):
        section_sizes(vmlinux)


def test_a_section_beyond_the_file(vmlinux: Path) -> None:
    """A file whose headers are whole and whose contents are not is refused too."""
    data = vmlinux.read_bytes()
    at = int.from_bytes(data[40:48], "little")
    # .text is section 2; sh_size lies 32 bytes into its header.
    vmlinux.write_bytes(data[: at + 160] + (1 << 40).to_bytes(8, "little") + data[at + 168 :])
    with pytest.raises(UsageError, match=r"section \.text ends at byte"):
        section_sizes(vmlinux)


def test_another_machine(tmp_path: Path, make_vmlinux: MakeVmlinux) -> None:
    """A kernel for another architecture is refused."""
    path = tmp_path / "vmlinux"
    path.write_bytes(make_vmlinux(machine=62)[0])
    with pytest.raises(UsageError, match="x64"):
        section_sizes(path)


def test_no_file(tmp_path: Path) -> None:
    """A vmlinux that is not there is a clear error."""
    with pytest.raises(UsageError, match="cannot read the vmlinux"):
        section_sizes(tmp_path / "vmlinux")


def test_own_image(vmlinux: Path, make_vmlinux: MakeVmlinux) -> None:
    """An Image with the vmlinux's build ID is its own, even where code was patched since."""
    image = make_vmlinux()[1]
    assert mismatch(vmlinux, image) == ""
    assert mismatch(vmlinux, image.replace(b"\1", b"\5")) == ""


def test_another_build(vmlinux: Path, make_vmlinux: MakeVmlinux) -> None:
    """An Image with another build ID, or with none, is another kernel's."""
    wrong = f"the vmlinux has build ID {'07' * 20}, and the Image has it not"
    assert mismatch(vmlinux, make_vmlinux(8)[1]) == wrong
    assert mismatch(vmlinux, b"nothing") == wrong


def test_without_build_ids(tmp_path: Path, make_vmlinux: MakeVmlinux) -> None:
    """Without a build ID the code decides."""
    path = tmp_path / "vmlinux"
    elf, image = make_vmlinux(None)
    path.write_bytes(elf)
    assert mismatch(path, image) == ""
    assert "their code differs" in mismatch(path, make_vmlinux(None, code=b"\6" * 0x300)[1])
    assert "their code differs" in mismatch(path, image[:0x200])


MARKS = {
    "_text": 0, "_etext": 0x100, "__init_begin": 0x300, "_sdata": 0x700, "_edata": 0xF00,
    "__bss_start": 0x1000, "__bss_stop": 0x3000,
}  # fmt: skip


def test_extents() -> None:
    """Each part is the distance between two marks."""
    table = SymbolTable((0xFFFF_8000_8000_0000 + at, name) for name, at in MARKS.items())
    assert extents(table) == Extents(
        text_bytes=0x100, rodata_bytes=0x200, init_bytes=0x400, data_bytes=0x800, bss_bytes=0x2000
    )


@pytest.mark.parametrize("missing", MARKS)
def test_a_mark_is_missing(missing: str) -> None:
    """With one symbol missing nothing is said of any part."""
    assert extents(SymbolTable((at, name) for name, at in MARKS.items() if name != missing)) is None


def test_marks_out_of_order() -> None:
    """Marks in another order are another layout, and no part has a negative size."""
    assert extents(SymbolTable((at, name) for name, at in {**MARKS, "_etext": 0x400}.items())) is None
