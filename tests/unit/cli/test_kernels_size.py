"""`granule kernels size` on kernel files made by hand, without QEMU."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cache import Cache
from harness.cli.kernels import kernels
from harness.errors import InfraError, UsageError
from harness.kernels.file import Beside
from harness.kernels.store import KernelStore

size_module = importlib.import_module("harness.cli.kernels.size")  # the package's name is the command

MakeVmlinux = Callable[..., tuple[bytes, bytes]]


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_vmlinux: MakeVmlinux) -> Path:
    """Two build trees, `before` and `after`, the second with 256 bytes more of code that compress away."""
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    for number, (name, code) in enumerate({"before": b"\1" * 0x300, "after": b"\1" * 0x400}.items()):
        boot = tmp_path / name / "arch/arm64/boot"
        boot.mkdir(parents=True)
        vmlinux, image = make_vmlinux(number, code=code)
        (boot / "Image").write_bytes(image)
        (tmp_path / name / "vmlinux").write_bytes(vmlinux)
    return tmp_path


def _size(*words: str | Path) -> Result:
    return CliRunner().invoke(kernels, ["size", "--no-boot", *map(str, words)], catch_exceptions=False)


def _json(*words: str | Path) -> dict[str, Any]:
    done = _size(*words, "--json")
    assert done.exit_code == 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_trees(trees: Path) -> None:
    """Trees are named for themselves; the first is the base; text has grown by what was added."""
    found = _json(trees / "before", trees / "after")
    before, after = found["kernels"]
    assert (found["base"], before["name"], after["name"]) == ("before", "before", "after")
    assert after["sections"]["text_bytes"] - before["sections"]["text_bytes"] == 0x100
    assert found["guests"] == []
    image = trees / "after/arch/arm64/boot/Image"
    assert after["image_bytes"] == image.stat().st_size


def test_tables_on_stdout(trees: Path) -> None:
    """Without --json the tables are printed."""
    done = _size(trees / "before", trees / "after")
    assert (done.exit_code, "vs before" in done.stdout) == (0, True)


def test_another_base(trees: Path) -> None:
    """--base takes a label, or the kernel as it was given."""
    assert _json(trees / "before", trees / "after", "--base", "after")["base"] == "after"
    assert _json(trees / "before", trees / "after", "--base", trees / "after")["base"] == "after"


def test_a_base_that_is_not_there(trees: Path) -> None:
    """A base that is not compared is refused with those that are, before anything is measured."""
    with pytest.raises(UsageError, match=r"choose one of before, after$"):
        _size(trees / "before", trees / "after", "--base", "trimmed-4k")
    assert not (trees / "cache/sizes").exists()
    with pytest.raises(UsageError, match=r"choose one of debian-4k, debian-16k$"):
        _size("debian", "--base", "trimmed-4k", "--offline")


def test_an_unknown_kernel(trees: Path) -> None:
    """A name that is in no catalogue is refused with a near miss."""
    with pytest.raises(UsageError, match=r"there is no kernel 'trimed-4k'\. Did you mean trimmed-4k"):
        _size("trimed-4k")


def test_files_of_one_name(trees: Path) -> None:
    """Two files called Image are told apart by their paths."""
    images = [str(trees / name / "arch/arm64/boot/Image") for name in ("before", "after")]
    assert [one["name"] for one in _json(*images)["kernels"]] == images


def test_one_kernel_twice(trees: Path) -> None:
    """A kernel that is named twice is shown once."""
    assert len(_json(trees / "before", trees / "before")["kernels"]) == 1


def test_a_vmlinux_for_a_file(trees: Path) -> None:
    """--vmlinux goes to the kernel that was made from it, in whatever order they are named."""
    images = [trees / name / "arch/arm64/boot/Image" for name in ("before", "after")]
    found = _json(*images, "--vmlinux", trees / "after/vmlinux", "--vmlinux", trees / "before/vmlinux")
    assert [one["sections"]["text_bytes"] for one in found["kernels"]] == [0x374, 0x474]
    with pytest.raises(UsageError, match="belongs to none of the kernels"):
        _size(images[0], "--vmlinux", trees / "after/vmlinux")


def test_a_tree_with_another_vmlinux(trees: Path) -> None:
    """A tree whose vmlinux was linked again since its Image was made is refused."""
    (trees / "before/vmlinux").write_bytes((trees / "after/vmlinux").read_bytes())
    with pytest.raises(UsageError, match="Build the Image again"):
        _size(trees / "before")


def test_a_truncated_vmlinux(trees: Path) -> None:
    """A vmlinux that was cut short is refused, and no picture is left behind."""
    path = trees / "before/vmlinux"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="truncated"):
        _size(trees / "before", "--picture", trees / "size.svg")
    assert not (trees / "size.svg").exists()


def test_picture_and_page(trees: Path) -> None:
    """Both are written whole, beside the tables."""
    done = _size(trees / "before", trees / "after", "--picture", trees / "a.svg", "--html", trees / "a.html")
    assert done.exit_code == 0
    assert (trees / "a.svg").read_text().startswith("<svg")
    assert "</html>" in (trees / "a.html").read_text()


def test_no_directory_for_the_picture(trees: Path) -> None:
    """A picture that could not be written is refused before anything is measured."""
    with pytest.raises(UsageError, match="there is no directory"):
        _size(trees / "before", "--picture", trees / "none/a.svg")
    assert not (trees / "cache/sizes").exists()


def test_a_picture_that_cannot_be_written(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses is this machine's fault, and the error names the file."""

    def refuse(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(size_module, "write_whole", refuse)
    with pytest.raises(InfraError, match=r"cannot write .*a\.svg: No space left"):
        _size(trees / "before", "--picture", trees / "a.svg")


@pytest.mark.parametrize(("names", "said"), [(("before", "after"), "here are 2"), ((), "here are none")])
def test_modules_go_with_one_file(trees: Path, names: tuple[str, ...], said: str) -> None:
    """What goes with a kernel file is refused where it could be another's."""
    setting: Any = SimpleNamespace(beside=Beside(modules=trees))
    given = tuple(str(trees / name) for name in names) or ("debian-4k",)
    with Cache() as cache, pytest.raises(UsageError, match=said):
        size_module._wanted(given, None, KernelStore(cache, offline=True), setting)
