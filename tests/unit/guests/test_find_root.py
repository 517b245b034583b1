"""What an initramfs makes of the disks that it finds, as far as this host's shell can run it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.paths import data_dir

SCRIPT = data_dir("guests") / "disk" / "find-root.sh"
SHELLS = [["sh"], *([["busybox", "sh"]] if shutil.which("busybox") else [])]


def _kind(shell: list[str], disk: Path) -> str:
    command = [*shell, "-c", f". {SCRIPT}; kind {disk}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("at", "content", "kind"),
    [
        (0x438, b"\x53\xef" + bytes(62) + b"granule-root\0\0\0\0", "ext4 granule-root"),
        (0x438, b"\x53\xef", "ext4"),
        (0, b"XFSB" + bytes(104) + b"root\0\0\0\0\0\0\0\0", "xfs root"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (512, b"LABELONE", "LVM2_member"),
        (0, b"LUKS\xba\xbe", "crypto_LUKS"),
        (0, b"", ""),
        (0x439, b"\x53\xef", ""),
    ],
)
def test_kind(tmp_path: Path, shell: list[str], at: int, content: bytes, kind: str) -> None:
    """What lies on a disk is told by its magic number, with its label where it has one."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(at) + content + bytes((1 << 17) - at - len(content)))
    assert _kind(shell, disk) == kind


def test_kind_of_a_disk_that_is_too_small(tmp_path: Path) -> None:
    """A disk that ends before any of the places has nothing on it."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"XF")
    assert _kind(["sh"], disk) == ""


@pytest.mark.parametrize(
    ("cmdline", "root"),
    [
        ("console=ttyAMA0 granule.root=LABEL=a rw", "LABEL=a"),
        ("granule.root=auto granule.root=/dev/vg/root", "/dev/vg/root"),
        ("xgranule.root=auto", ""),
    ],
)
def test_what_root_is_wanted(tmp_path: Path, cmdline: str, root: str) -> None:
    """The last word of the command line that names one, and no word that only looks like it."""
    words = tmp_path / "cmdline"
    words.write_text(cmdline + "\n")
    script = SCRIPT.read_text().replace("/proc/cmdline", str(words))
    done = subprocess.run(
        ["sh", "-c", script + "\nroot_wanted"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == root
