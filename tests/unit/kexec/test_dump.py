"""Tests of harness.kexec.dump: how a dump comes to the host, without a guest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.channel.shell import Completed
from harness.deadline import Deadline
from harness.errors import InfraError, UsageError
from harness.kexec.dump import HEAD_BYTES, fetch, scratch_disk
from harness.smoke.evidence import Evidence
from harness.verdict import Verdict

MIB = 1 << 20
CONTENT = b"core" + bytes(3 * MIB) + b"tail" + bytes(4097)


def _subject(disk: Path, size: str, status: int = 0) -> Any:
    """A guest that has copied its dump to a disk, and says how long it is."""
    machine = SimpleNamespace(
        disk_path=lambda serial: str(disk) if serial == "vmcore" else "",
        shell=SimpleNamespace(run=lambda _script, _deadline: Completed(output=b"dd: full", status=status)),
    )
    return SimpleNamespace(machine=machine, sh=lambda _script: Completed(output=size.encode(), status=0))


def _fetch(subject: Any, target: Path) -> tuple[bool, Verdict]:
    evidence = Evidence()
    came = fetch(subject, target, evidence, Deadline.after(10))
    return came, evidence.result("vmcore", 0.0).verdict


def test_a_dump_comes_whole(tmp_path: Path) -> None:
    """As many bytes as the guest said come, zeros as holes, and nothing of what is behind them."""
    disk, target = tmp_path / "disk", tmp_path / "vmcore"
    disk.write_bytes(CONTENT + b"behind" + bytes(MIB))
    assert _fetch(_subject(disk, f"{len(CONTENT)}\n"), target) == (True, Verdict.PASS)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_blocks * 512 < MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "vmcore"]


@pytest.mark.parametrize(
    "size", ["", "0", "-1", "stat: can't stat '/proc/vmcore'", str(len(CONTENT) + 1), "9" * 40]
)
def test_sizes_that_cannot_be(tmp_path: Path, size: str) -> None:
    """A dump of no size, or larger than the disk that it was copied to, is a finding and no file."""
    disk, target = tmp_path / "disk", tmp_path / "vmcore"
    disk.write_bytes(CONTENT)
    assert _fetch(_subject(disk, size), target) == (False, Verdict.FAIL)
    assert not target.exists()


def test_a_guest_that_cannot_copy(tmp_path: Path) -> None:
    """A copy that failed in the guest is a finding, and an older file stays as it was."""
    disk, target = tmp_path / "disk", tmp_path / "vmcore"
    disk.write_bytes(CONTENT)
    target.write_bytes(b"older")
    assert _fetch(_subject(disk, str(len(CONTENT)), status=1), target) == (False, Verdict.FAIL)
    assert target.read_bytes() == b"older"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """It is an error that names the place."""
    disk = tmp_path / "disk"
    disk.write_bytes(CONTENT)
    with pytest.raises((UsageError, InfraError), match="nowhere"):
        _fetch(_subject(disk, str(len(CONTENT))), tmp_path / "nowhere" / "vmcore")


def test_the_scratch_disk_costs_nothing() -> None:
    """It has room for all of a guest's memory and the dump's headers, takes none, and goes."""
    with scratch_disk(512) as disk:
        about = disk.path.stat()
        assert about.st_size == 512 * MIB + HEAD_BYTES
        assert about.st_blocks == 0
        assert disk.serial == "vmcore"
        assert not disk.read_only
    assert not disk.path.exists()
