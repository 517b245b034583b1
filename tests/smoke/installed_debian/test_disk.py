"""A disk that granule did not make: GPT, its own GRUB and kernel, the root on XFS in a logical volume."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guests import DiskGuests
from harness.guests.firmware import own_machine
from harness.guests.image import OwnDisk, read_image
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.plan import plan
from harness.matrix.run import Bench, run_cell
from harness.qemu.machine import Machine
from harness.spec import Accel, GuestKind
from harness.verdict import Verdict

KERNEL = "debian-16k"
BOOT_S, COMMAND_S = 900.0, 600.0


def granule(*argv: str) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own."""
    command = [sys.executable, "-c", "from harness.entry import main; main()", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("root", ["auto", "/dev/installed/root"])
def test_under_another_kernel(
    granule_bench: Bench, granule_kernels: KernelStore, disk: Path, root: str
) -> None:
    """Its root, found or named, comes up under a 16K kernel that it never saw: every check passes."""
    own = OwnDisk(image=read_image(disk), root=root)
    micro, cache, qemu = granule_bench.guest, granule_bench.cache, granule_bench.qemu
    bench = replace(granule_bench, on_disk=DiskGuests(cache, micro, qemu, granule_kernels, own=own))
    wanted = Request(kernels=(KERNEL,), accel=Accel.TCG, guests=(GuestKind.IMAGE,))
    (cell,) = plan(wanted, granule_kernels, qemu).cells
    result = run_cell(cell, granule_kernels.get(KERNEL), bench, lambda _check: None)
    assert (result.verdict, result.reason) == (Verdict.PASS, "")
    assert {"services", "ssh", "user-tables", "kernel-tables"} <= {check.name for check in result.checks}


def test_by_itself(disk: Path) -> None:
    """By UEFI, with its own boot loader and kernel: a command's words and status are those of the guest."""
    done = granule(
        "boot", "--disk", str(disk), "--own-kernel", "--", "hostname; findmnt -no SOURCE /; exit 7"
    )
    assert (done.stdout, done.returncode) == ("installed\n/dev/mapper/installed-root\n", 7), done.stderr
    assert "4096-byte pages" in done.stderr


def test_by_itself_with_cloud_init_only(granule_bench: Bench, disk: Path) -> None:
    """Where systemd knows no credentials, cloud-init starts the agent from the same seed."""
    spec = own_machine(
        granule_bench.cache, OwnDisk(image=read_image(disk)),
        cpu="neoverse-n1", accel=Accel.TCG, vcpus=2, memory_mib=1024,
    )  # fmt: skip
    assert spec.uefi is not None
    spec = replace(spec, uefi=replace(spec.uefi, oem_strings=()))
    with Machine(spec, granule_bench.qemu) as machine:
        machine.shell.wait_ready(Deadline.after(BOOT_S))
        done = machine.shell.run("cloud-init status --wait; echo", Deadline.after(COMMAND_S))
        assert "status: done" in done.text
