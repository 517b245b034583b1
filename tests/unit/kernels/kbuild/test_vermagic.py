"""Whose modules a directory holds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.kbuild.vermagic import modules_release

MakeModule = Callable[[dict[str, str]], bytes]


def test_first_module_tells(tmp_path: Path, make_module: MakeModule) -> None:
    """The release is the first word of vermagic; the link `build` is not followed."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.ko").write_bytes(make_module({"vermagic": "1.0 x"}))
    (tmp_path / "m/kernel").mkdir(parents=True)
    (tmp_path / "m/build").symlink_to(tmp_path / "tree")
    (tmp_path / "m/kernel/x.ko").write_bytes(make_module({"name": "x", "vermagic": "6.12.1 SMP aarch64"}))
    assert modules_release(tmp_path / "m") == "6.12.1"


def test_no_module(tmp_path: Path) -> None:
    """A directory without modules, or that is not there, tells nothing."""
    assert modules_release(tmp_path) is None
    assert modules_release(tmp_path / "gone") is None


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd: apt-get install zstd")
def test_zstd(tmp_path: Path, make_module: MakeModule) -> None:
    """A module compressed with zstd tells, too."""
    (tmp_path / "x.ko").write_bytes(make_module({"vermagic": "6.12.1 SMP"}))
    subprocess.run(["zstd", "-q", "--rm", tmp_path / "x.ko"], check=True)
    assert modules_release(tmp_path) == "6.12.1"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x7fELF", b"\x7fELF\x02\x01\x01" + b"\xff" * 200])
def test_nonsense(tmp_path: Path, content: bytes) -> None:
    """A file that is no module is named."""
    (tmp_path / "x.ko").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.ko is not a kernel module"):
        modules_release(tmp_path)


def test_module_without_vermagic(tmp_path: Path, make_module: MakeModule) -> None:
    """An ELF file that names no kernel is no module."""
    (tmp_path / "x.ko").write_bytes(make_module({"license": "GPL"}))
    with pytest.raises(UsageError, match="no vermagic"):
        modules_release(tmp_path)
