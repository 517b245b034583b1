"""Distributions' guests in a plan: their kernels, their checks, and what is refused before any boot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cache import Cache
from harness.determinism.conditions import Conditions
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.kernels.store import KernelStore
from harness.matrix.cell import Cell, Request
from harness.matrix.patience import Patience
from harness.matrix.plan import Plan, plan
from harness.qemu.probe import CpuModel
from harness.smoke import CHECKS, DISTRO_CHECKS, EVERY_CHECK, checks_on
from harness.spec import Accel, GuestKind, PageSize, Platform

DEBIAN = (GuestKind.DEBIAN,)


class FakeQemu:
    """A QEMU with one CPU model, which is never started."""

    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """Has every granule."""
        assert accel is Accel.TCG
        return CpuModel(argument=argument, granules=frozenset(PageSize))

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """See harness.qemu.probe.Qemu."""
        return ()


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    """The catalogue, and an empty cache."""
    return KernelStore(Cache(tmp_path / "cache"), offline=True)


def _plan(store: KernelStore, **options: Any) -> Plan:
    return plan(Request(**{"accel": Accel.TCG, "guests": DEBIAN, **options}), store, FakeQemu())


def _cell(store: KernelStore, **options: Any) -> Cell:
    return _plan(store, page_sizes=(PageSize.K16,), **options).cells[0]


def test_default_kernels(store: KernelStore) -> None:
    """Each page size has a kernel that can run systemd, and one guest."""
    cells = _plan(store).cells
    assert [(cell.page_size, cell.kernel) for cell in cells] == [
        (PageSize.K4, "debian-4k"),
        (PageSize.K16, "debian-16k"),
        (PageSize.K64, "distro-64k"),
    ]
    assert {cell.guest for cell in cells} == {GuestKind.DEBIAN}


def test_checks(store: KernelStore) -> None:
    """A Debian guest has the userspace checks, and the kernel's that need nothing of the micro guest."""
    names = {check.name for check in _cell(store).checks}
    assert {"services", "packages", "volumes", "page-size", "ssh", "kernel-tables", "user-tables"} <= names
    assert not {"root-volume", "swap", "block", "network", "hotplug"} & names
    lvm = _cell(store, guests=(GuestKind.DEBIAN_LVM,))
    assert "root-volume" in {check.name for check in lvm.checks}


def test_the_micro_guest_is_as_it_was() -> None:
    """It has none of the distributions' checks, and every other of them, in their order."""
    assert checks_on(Platform.VIRT) == CHECKS
    assert not any(check in DISTRO_CHECKS for check in checks_on(Platform.HYPERV))
    assert all(check in EVERY_CHECK for check in DISTRO_CHECKS)


def test_both_guests(store: KernelStore) -> None:
    """A request for several guests has each of them with each kernel that it can have."""
    cells = _plan(store, page_sizes=(PageSize.K16,), guests=(GuestKind.MICRO, GuestKind.DEBIAN)).cells
    assert [(cell.guest, cell.kernel) for cell in cells] == [
        (GuestKind.MICRO, "debian-16k"),
        (GuestKind.DEBIAN, "debian-16k"),
    ]
    assert len({cell.id for cell in cells}) == 2


def test_id_and_rerun(store: KernelStore) -> None:
    """The guest is part of a cell's id and of the command that runs it again, unless it is micro."""
    cell = _cell(store)
    assert cell.id == "16k-debian-16k-neoverse-n1-tcg-debian"
    assert "--guest debian" in cell.rerun
    assert "--check" not in cell.rerun
    assert "--check services" in replace(cell, checks=DISTRO_CHECKS[1:2]).rerun
    assert "--guest" not in _cell(store, guests=(GuestKind.MICRO,)).rerun


@pytest.mark.parametrize("name", ["trimmed-64k", "combined"])
def test_a_kernel_without_the_options(store: KernelStore, name: str) -> None:
    """A kernel of ours that systemd cannot run on is left out with that reason."""
    with pytest.raises(UsageError, match=r"nothing to run: .*distro\.config"):
        _plan(store, kernels=(name,), page_sizes=(PageSize.K64,))


def test_checks_of_another_guest(store: KernelStore) -> None:
    """A check that was named and that the guest cannot have is told."""
    swap = tuple(check for check in CHECKS if check.name == "swap")
    with pytest.raises(UsageError, match="swap: for --guest micro only"):
        _plan(store, checks=swap)


def test_refused_combinations(store: KernelStore) -> None:
    """Runs that repeat have no disks."""
    with pytest.raises(UsageError, match="--deterministic does not go with --guest debian"):
        _plan(store, exact=(Conditions.of(Seed(1)),))


def test_on_hyper_v(store: KernelStore) -> None:
    """On Hyper-V such a guest has its userspace's checks and the bus's, under kernels with its drivers."""
    cells = _plan(store, platforms=(Platform.HYPERV,)).cells
    assert [cell.kernel for cell in cells] == ["debian-4k", "debian-16k", "distro-64k"]
    for cell in cells:
        names = {check.name for check in cell.checks}
        assert {"services", "vmbus", "kernel-tables"} <= names
        assert not {"storvsc", "netvsc"} & names  # what they use are the micro guest's disks and programs


def test_more_patience() -> None:
    """A distribution is waited for longer than a micro guest; a limit of the user's is the user's."""
    micro = Patience.of(Accel.TCG, "neoverse-n1")
    debian = Patience.of(Accel.TCG, "neoverse-n1", guest=GuestKind.DEBIAN)
    assert debian.boot_s > micro.boot_s
    assert debian.command_s > micro.command_s
    assert Patience.of(Accel.TCG, "neoverse-n1", 7.0, GuestKind.DEBIAN).cell_s == 7.0
