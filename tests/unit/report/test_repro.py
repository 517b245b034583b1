"""A failing cell as a directory that needs no granule."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.report.repro import expected_of, refusal_of, write_repro
from harness.spec import Platform
from harness.verdict import CellResult, CheckResult, Finding, Verdict
from tests.unit.series.fakes import cell

OOPS = "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000"


def failed(tmp_path: Path, **more: object) -> CellResult:
    """A cell in which `mapping` failed, made of files that are there."""
    for name in ("Image", "initramfs.cpio", "disk"):
        (tmp_path / name).write_bytes(name.encode().ljust(512, b"\0"))
    given: dict[str, object] = {
        "checks": (
            CheckResult(name="page-size", verdict=Verdict.PASS, expectations=1, duration_s=0.0),
            CheckResult(
                name="mapping", verdict=Verdict.FAIL, expectations=1, duration_s=0.0,
                findings=(Finding(what="mmap at 4096", wanted="EINVAL", seen="0"),),
            ),
        ),
        "commands": {
            "": ("cat auxv",), "fork": ("probe fork",), "mapping": ("probe mapping",),
            "network": ("ping -c 1 peer",), "page-size": ("probe pagesize",),
        },
        "provenance": {
            "image": str(tmp_path / "Image"),
            "initramfs": str(tmp_path / "initramfs.cpio"),
            "command line": "console=ttyAMA0 quiet",
            "disks": f"ext4-4096={tmp_path / 'disk'}",
            "argv": "qemu -machine virt,gic-version=3,memory-backend=ram,mte=on -cpu max",
            "kernel sha256": "abc",
        },
    }  # fmt: skip
    return cell("05-16k-virt", failing=("mapping",), **(given | more))


def run_with(directory: Path, tmp_path: Path, says: str, status: int = 0) -> int:
    """The status of run.sh in a bare environment, with a QEMU that says something on its console."""
    qemu = tmp_path / "qemu"
    qemu.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >seen\ncat {tmp_path}/says >console.log\nexit {status}\n"
    )
    qemu.chmod(0o755)
    (tmp_path / "says").write_text(says)
    argv = ["env", "-i", f"QEMU={qemu}", "/bin/sh", str(directory / "run.sh")]
    return subprocess.run(argv, check=False, capture_output=True, cwd="/").returncode


def test_directory(tmp_path: Path) -> None:
    """It holds copies of all that QEMU needs, and the machine of the cell without a host's lines."""
    directory = tmp_path / "out"
    write_repro(failed(tmp_path), directory)
    assert sorted(path.name for path in directory.iterdir()) == [
        "Image", "README", "argv", "expected", "initramfs.cpio", "run.sh",
    ]  # fmt: skip
    argv = (directory / "argv").read_text().splitlines()
    assert argv[argv.index("-machine") + 1] == "virt,gic-version=3,mte=on"
    assert argv[argv.index("-append") + 1] == "console=ttyAMA0 quiet"
    assert not [word for word in argv if "fd=" in word or str(tmp_path) in word]


def test_scripts_up_to_the_failed_check(tmp_path: Path) -> None:
    """Its initramfs has the scripts of the checks in their order, up to the failed one, without a peer's."""
    directory = tmp_path / "out"
    write_repro(failed(tmp_path), directory)
    content = (directory / "initramfs.cpio").read_bytes()
    assert content.startswith(b"initramfs.cpio")
    assert (
        content.index(b"001-page-size\0") < content.index(b"002-mapping\0") < content.index(b"probe mapping")
    )
    for absent in (b"probe fork", b"ping -c", b"cat auxv"):
        assert absent not in content


def test_disks_of_what_uses_them(tmp_path: Path) -> None:
    """The disks are copied, without what is zero, where a script of the block check is run."""
    found = failed(tmp_path, commands={"page-size": ("true",), "block": ("mount",), "mapping": ("probe",)})
    checks = (*found.checks[:1], dataclasses.replace(found.checks[0], name="block"), found.checks[1])
    with (tmp_path / "disk").open("r+b") as disk:
        disk.truncate(64 << 20)
    write_repro(dataclasses.replace(found, checks=checks), tmp_path / "out")
    copy = tmp_path / "out/disk-ext4-4096"
    assert copy.stat().st_size == 64 << 20
    assert copy.stat().st_blocks * 512 < 4 << 20
    assert "virtio-blk-device,drive=disk0,serial=ext4-4096" in (tmp_path / "out/argv").read_text()


def test_run_says_whether_it_shows(tmp_path: Path) -> None:
    """Status 1 where the console has the failed point again, 0 where it does not, 2 where QEMU fails."""
    directory = tmp_path / "out"
    write_repro(failed(tmp_path), directory)
    assert run_with(directory, tmp_path, "ok 1\nnot ok 2 - mmap at 4096 # wanted EINVAL\n") == 1
    assert run_with(directory, tmp_path, "ok 1\nok 2 - mmap at 4096\n") == 0
    assert run_with(directory, tmp_path, "", status=1) == 2
    given = (directory / "seen").read_text().splitlines()
    assert given[: len(given) - 2] == (directory / "argv").read_text().splitlines()


def test_an_oops_is_expected(tmp_path: Path) -> None:
    """What the kernel said when it failed is what tells that it shows again."""
    found = failed(tmp_path, console=f"[    1.000000] {OOPS}\n[    1.000001] Mem abort info:\n", checks=())
    assert expected_of(found)[0] == f"{OOPS}\t"
    directory = tmp_path / "out"
    write_repro(found, directory)
    assert run_with(directory, tmp_path, f"[    2.000000] {OOPS}\n") == 1


def test_nothing_on_the_console_tells(tmp_path: Path) -> None:
    """A failure that only the host saw is not judged by the script."""
    directory = tmp_path / "out"
    write_repro(failed(tmp_path, checks=()), directory)
    assert run_with(directory, tmp_path, "anything\n") == 125


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": Verdict.PASS}, "it passed"),
        ({"platform": Platform.HYPERV}, "granule's own"),
        ({"provenance": {}}, "does not say what it was made of"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, object], said: str) -> None:
    """What cannot be shown with QEMU alone is refused with the reason."""
    found = dataclasses.replace(failed(tmp_path), **change)  # type: ignore[arg-type]
    assert said in refusal_of(found)
    with pytest.raises(UsageError, match=said):
        write_repro(found, tmp_path / "out")


def test_what_is_gone_or_in_the_way(tmp_path: Path) -> None:
    """A kernel that was pruned, and a directory that has files, are told."""
    found = failed(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        write_repro(found, tmp_path)
    (tmp_path / "Image").unlink()
    with pytest.raises(UsageError, match="gone from the cache"):
        write_repro(found, tmp_path / "out")
