"""Disks for the checks: what is the image's fault, and what is this host's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.disks import PATTERN_BYTES, block_sizes_for, check_ext4, ext4_disk, prepare_disks
from harness.cache import Cache
from harness.errors import InfraError
from harness.spec import PageSize

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

pytestmark = pytest.mark.skipif(
    shutil.which("debugfs", path=SBIN) is None, reason="needs debugfs: apt-get install e2fsprogs"
)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture
def image(cache: Cache, tmp_path: Path) -> str:
    """A disk of ours, with `/pattern` where a guest would put `/copy`."""
    copy = tmp_path / "disk.img"
    subprocess.run(["cp", "--sparse=always", ext4_disk(cache, 4096).path, copy], check=True)
    return str(copy)


def debugfs(image: str, request: str) -> None:
    """Change the image."""
    subprocess.run(
        ["debugfs", "-w", "-R", request, image], check=True, capture_output=True, env={"PATH": SBIN}
    )


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, script: str) -> None:
    """Put a tool of that name before the real one; `exec real "$@"` in it runs that."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    real = shutil.which(tool, path=SBIN)
    (programs / tool).write_text(f'#!/bin/sh\nreal() {{ exec {real} "$@"; }}\n{script}\n')
    (programs / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def test_whole_image(image: str) -> None:
    """The file that we laid down ourselves is found unchanged."""
    assert check_ext4(image, "/pattern") == "clean, same content"


def test_disks_of_a_page_size(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a page size's disks are made at once, with their serials; afterwards no tool is needed."""
    made = prepare_disks(cache, PageSize.K64)
    assert [disk.serial for disk in made] == [f"ext4-{size}" for size in block_sizes_for(PageSize.K64)]
    assert all(disk.path.is_file() for disk in made)
    monkeypatch.setattr("harness.build.disks.run_tool", None)
    assert prepare_disks(cache, PageSize.K64) == made


def test_absent_and_other_files(image: str, tmp_path: Path) -> None:
    """A file that is absent, a directory, or of the same length with another content is the guest's doing."""
    assert "is not there" in check_ext4(image, "/copy")
    assert "no regular file" in check_ext4(image, "/lost+found")
    (tmp_path / "other").write_bytes(bytes(PATTERN_BYTES))
    debugfs(image, f"write {tmp_path / 'other'} copy")
    assert "other content" in check_ext4(image, "/copy")


def test_huge_file_is_never_read(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another length is told by its length; debugfs is not asked for its content."""
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 200 << 20)
    debugfs(image, f"write {tmp_path / 'huge'} copy")
    fake(
        tmp_path,
        monkeypatch,
        "debugfs",
        'case "$2" in dump*|cat*) echo read >&2; kill -9 $$;; esac; real "$@"',
    )
    assert check_ext4(image, "/copy") == f"/copy has other content ({200 << 20} bytes)"


def test_damaged_image(image: str) -> None:
    """An image whose superblock is gone is a finding, though e2fsck calls it an operational error."""
    with Path(image).open("r+b") as file:
        file.write(bytes(1 << 20))
    assert check_ext4(image, "/pattern").startswith("e2fsck: ")


@pytest.mark.parametrize(
    ("tool", "script"),
    [
        ("e2fsck", "echo 'e2fsck: Cannot allocate memory while trying to open x' >&2; exit 8"),
        ("e2fsck", "kill -9 $$"),
        ("e2fsck", "exit 127"),
        ("debugfs", 'case "$2" in cat*) echo "cat: No space left on device" >&2; exit 0;; esac; real "$@"'),
        ("debugfs", "exit 1"),
    ],
)
def test_hosts_faults(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, script: str
) -> None:
    """A tool that fails for want of memory or space, or is killed, says nothing about the kernel."""
    fake(tmp_path, monkeypatch, tool, script)
    with pytest.raises(InfraError, match=f"{tool} failed on this host"):
        check_ext4(image, "/pattern")


def test_image_that_cannot_be_opened(tmp_path: Path) -> None:
    """A disk that the host cannot open is its own trouble."""
    with pytest.raises(InfraError, match="cannot open the guest's disk"):
        check_ext4(str(tmp_path / "gone"), "/pattern")


def test_full_temporary_directory(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written anywhere to read the file back, so a full /tmp changes no verdict."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)
    assert check_ext4(image, "/pattern") == "clean, same content"
