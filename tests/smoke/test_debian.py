"""Debian guests: clones with keys of their own, and what is said of guests that break.

What a sound one does is `granule smoke --guest debian,debian-lvm`, which `scripts/test guests` runs too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.guests import DiskGuests
from harness.kernels.store import KernelStore
from harness.matrix.boot import Symbols, boot, settle
from harness.matrix.cell import Cell, Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import Record
from harness.matrix.run import Bench, machine_spec, run_cell, subject_of
from harness.memory.sparse import digest_of
from harness.qemu.machine import Machine
from harness.smoke import Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import Accel, GuestKind
from harness.verdict import CellResult, Verdict

KERNEL = "debian-16k"
GUESTS = tuple(guest for guest in GuestKind if guest.is_on_disk)


def _cell(bench: Bench, kernels: KernelStore, check: Check) -> Cell:
    wanted = Request(kernels=(KERNEL,), accel=Accel.TCG, guests=(GuestKind.DEBIAN,), checks=(check,))
    (cell,) = plan(wanted, kernels, bench.qemu).cells
    return cell


def _nothing(_subject: Subject, evidence: Evidence) -> None:
    """It came up."""
    evidence.checked(1)


def _run(cell: Cell, bench: Bench, kernels: KernelStore) -> CellResult:
    return run_cell(cell, kernels.get(cell.kernel), bench, lambda _check: None)


def _digest(path: Path) -> str:
    """Of the image's data, wherever its holes are."""
    with path.open("rb") as file:
        return digest_of(file.fileno(), os.fstat(file.fileno()).st_size)


@pytest.fixture
def image(granule_bench: Bench) -> Iterator[Path]:
    """The base image, which has to be the same afterwards."""
    assert isinstance(granule_bench.on_disk, DiskGuests)
    path = granule_bench.on_disk.base.path
    before = _digest(path)
    yield path
    assert _digest(path) == before


def test_clones_have_host_keys_of_their_own(
    granule_bench: Bench, granule_kernels: KernelStore, image: Path
) -> None:
    """Two clones of one guest at once: each has a port of its own, and a host key that was made in it."""
    cell = _cell(granule_bench, granule_kernels, Check(run=_nothing, guests=GUESTS))
    kernel = granule_kernels.get(cell.kernel)
    patience = Patience.of(cell.accel, cell.cpu, guest=cell.guest)

    def bring_up(machine: Machine) -> None:
        record = Record()
        boot(machine, Symbols(kernel), patience, record)
        settle(machine, patience, record)

    spec = machine_spec(cell, kernel, granule_bench)
    keys, places, texts = set(), set(), []
    with ExitStack() as running:
        for _ in range(2):
            deadline = Deadline.after(patience.cell_s)
            started = granule_bench.guests.start(spec, bring_up, deadline)
            running.callback(started.machine.close)
            subject = subject_of(cell, kernel, started.machine, patience, deadline)
            texts.append(subject.ssh.run("getconf PAGE_SIZE", deadline).text)
            forward, login = subject.way_in.place(deadline)
            places.add((forward.host, forward.host_port))
            keys.add(str(login.host_key))
            assert started.how == "clone"
    assert texts == ["16384\n"] * 2
    assert len(keys) == 2
    assert len(places) == 2


def test_a_full_disk_is_the_guests_own_affair(
    granule_bench: Bench, granule_kernels: KernelStore, image: Path
) -> None:
    """A guest that fills its root is told so by its kernel, answers, and leaves the image alone."""

    def fill(subject: Subject, evidence: Evidence) -> None:
        """The root can be filled."""
        done = subject.sh("fallocate -l 16G /var/tmp/fill || cat /dev/zero >/var/tmp/fill")
        evidence.holds(
            "filling the root", "No space left on device" in done.text, wanted="ENOSPC", seen=done.text
        )
        evidence.equal("its shell", "on\n", subject.sh("echo on").text)

    cell = _cell(granule_bench, granule_kernels, Check(run=fill, guests=GUESTS))
    # Zeros would be two gigabytes of the host's disk: a root with little room left is filled as well.
    result = _run(cell, granule_bench, granule_kernels)
    assert result.verdict is Verdict.PASS, result.reason


def test_a_guest_whose_init_is_killed(granule_bench: Bench, granule_kernels: KernelStore) -> None:
    """A systemd that crashes ends its guest, and the cell fails at once with how it ended."""

    def kill(subject: Subject, evidence: Evidence) -> None:
        """init is killed."""
        subject.sh("kill -SEGV 1; sleep 300")
        evidence.holds("the guest", False, wanted="gone", seen="alive")

    cell = _cell(granule_bench, granule_kernels, Check(run=kill, guests=GUESTS))
    result = _run(cell, granule_bench, granule_kernels)
    assert result.verdict is Verdict.FAIL
    assert "reboot: Restarting system" in result.reason


def test_no_root(granule_bench: Bench, granule_kernels: KernelStore) -> None:
    """A root that is not there is BOOT_FAILED with what was looked for, and the console names the disks."""
    cell = _cell(granule_bench, granule_kernels, Check(run=_nothing, guests=GUESTS))
    result = _run(replace(cell, cmdline="granule.root=LABEL=elsewhere"), granule_bench, granule_kernels)
    assert result.verdict is Verdict.BOOT_FAILED
    assert "no root: LABEL=elsewhere was not found" in result.reason
    assert "granule-root" in result.console.rpartition("block devices here:")[2]
