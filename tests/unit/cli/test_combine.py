"""`granule combine`: what it prints, and that nothing half-written is left."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.build.toolchain import Toolchain
from harness.cli.combine import combine
from harness.errors import GranuleError, InfraError, ToolMissing, UsageError
from harness.kernels import combined
from harness.kernels.combined import read_members
from harness.spec import PageSize


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with a kernel of each page size, an old output, and a cache elsewhere."""
    try:
        Toolchain.find()
    except ToolMissing as error:
        pytest.skip(str(error))
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for size, flags in ((PageSize.K4, 0xA), (PageSize.K16, 0xC), (PageSize.K64, 0xE)):
        header = struct.pack("<2I6Q4sI", 0, 0, 0, 1 << 20, flags, 0, 0, 0, b"ARM\x64", 0)
        (directory / f"k{size.token}").write_bytes(header + b"Linux version 6.12 (me) x\0" + bytes(300_000))
    (directory / "Image").write_bytes(b"old")
    return directory


def invoke(*words: str) -> Result:
    """Run the command; its errors are kept."""
    return CliRunner().invoke(combine, [*words])


def test_combine(here: Path) -> None:
    """The Image replaces an older file, readable by all, and its size is shown beside its kernels'."""
    done = CliRunner().invoke(combine, ["./k4k", "./k64k", "-o", "Image"], catch_exceptions=False)
    assert done.exit_code == 0
    assert [member.name for member in read_members(here / "Image")] == ["k4k", "k64k"]
    assert (here / "Image").stat().st_mode & 0o777 == 0o644
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["k4k", "4K", "0.3", "MiB", "0.3", "MiB"] in rows
    assert ["Image", "boot-time", "0.6", "MiB"] in rows


def test_packed(here: Path) -> None:
    """--lz4 makes a file that is smaller than a kernel of zeros."""
    done = CliRunner().invoke(combine, ["./k4k", "./k16k", "./k64k", "--lz4", "-o", "Image"])
    assert done.exit_code == 0
    assert (here / "Image").stat().st_size < 100_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("./k4k", "-o", "Image"), "two or three kernels"),
        (("./k4k", "./k4k", "-o", "Image"), "two or three kernels"),
        (("./k4k", "./gone", "-o", "Image"), "gone does not exist"),
        (("./k4k", "trimmed", "-o", "Image", "--offline"), "trimmed-4k is not built"),
        (("./k4k", "trimed", "-o", "Image"), "Did you mean trimmed"),
        (("./k4k", "./k64k", "-o", "none/Image"), "there is no directory"),
        (("./k4k", "./k64k", "-o", "/dev/null"), "no regular file"),
        (("./k4k", "./k64k", "-o", "."), "no regular file"),
    ],
)
def test_mistakes(here: Path, words: tuple[str, ...], said: str) -> None:
    """A mistake is an error of ours with what is wrong, and an older output is left as it was."""
    done = invoke(*words)
    assert isinstance(done.exception, GranuleError)
    assert said in str(done.exception)
    assert (here / "Image").read_bytes() == b"old"
    assert sorted(path.name for path in here.iterdir()) == ["Image", "k16k", "k4k", "k64k"]


def test_a_combined_image_is_no_member(here: Path) -> None:
    """What was combined is not combined again."""
    assert invoke("./k4k", "./k64k", "-o", "both").exit_code == 0
    done = invoke("./both", "./k16k", "-o", "Image")
    assert isinstance(done.exception, UsageError)
    assert "both is a combined Image already" in str(done.exception)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_half_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """An interrupt or a full disk in the middle leaves the older file and nothing beside it."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(combined, "_write_table", fail)
    done = invoke("./k4k", "./k64k", "-o", "Image")
    assert done.exit_code == 1
    if isinstance(error, OSError):
        assert isinstance(done.exception, InfraError)
    assert (here / "Image").read_bytes() == b"old"
    assert sorted(path.name for path in here.iterdir()) == ["Image", "k16k", "k4k", "k64k"]
