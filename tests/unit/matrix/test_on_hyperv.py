"""The platform Hyper-V in a plan: its kernels, its checks, and what is refused before any boot."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cache import Cache
from harness.determinism.conditions import Conditions
from harness.errors import UsageError
from harness.kernels.file import Beside
from harness.kernels.store import KernelStore
from harness.matrix.cell import Cell, Request
from harness.matrix.plan import Plan, plan
from harness.qemu.probe import CpuModel
from harness.smoke import CHECKS, HYPERV_CHECKS, checks_on
from harness.spec import Accel, Feature, PageSize, Platform

HYPERV = (Platform.HYPERV,)


class FakeQemu:
    """A QEMU with one CPU model, which is never started."""

    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """Has every granule, under TCG, which is what is asked for."""
        assert accel is Accel.TCG
        return CpuModel(argument=argument, granules=frozenset(PageSize))

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """See harness.qemu.probe.Qemu."""
        return ("neoverse-n1",)


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    """The real catalogue over an empty cache."""
    return KernelStore(Cache(tmp_path / "cache"), offline=True)


def _plan(store: KernelStore, **options: Any) -> Plan:
    return plan(Request(platforms=HYPERV, **options), store, FakeQemu())


def _cell(store: KernelStore, **options: Any) -> Cell:
    return _plan(store, kernels=("debian-16k",), **options).cells[0]


def test_kernels_with_the_drivers_run_by_default(store: KernelStore) -> None:
    """Without a kernel named, each page size has one that knows Hyper-V, on that platform, under TCG."""
    cells = _plan(store).cells
    assert list(dict.fromkeys(cell.kernel for cell in cells)) == [
        "debian-4k", "debian-16k", "trimmed-hyperv-64k",
    ]  # fmt: skip
    assert {(cell.platform, cell.accel) for cell in cells} == {(Platform.HYPERV, Accel.TCG)}


def test_both_platforms_are_cells_of_their_own(store: KernelStore) -> None:
    """`--platform virt,hyperv` has a kernel in both, told apart by id, and each has the checks of its own."""
    request = Request(kernels=("debian-4k",), accel=Accel.TCG, platforms=tuple(Platform))
    virt, hyperv = plan(request, store, FakeQemu()).cells
    assert (virt.platform, hyperv.platform) == (Platform.VIRT, Platform.HYPERV)
    assert hyperv.id == f"{virt.id}-hyperv"
    assert virt.checks == CHECKS
    assert hyperv.checks == (*HYPERV_CHECKS, *CHECKS)


def test_one_of_its_checks_runs_on_it_alone(store: KernelStore) -> None:
    """A check of Hyper-V's that is named has no cell on virt, and is all that its cell on Hyper-V runs."""
    asked = tuple(check for check in HYPERV_CHECKS if check.name == "storvsc")
    assert _cell(store, checks=asked).checks == asked
    assert checks_on(Platform.VIRT, asked) == ()
    request = Request(kernels=("debian-4k",), accel=Accel.TCG, checks=asked)
    with pytest.raises(UsageError, match="storvsc: a check for --platform hyperv only"):
        plan(request, store, FakeQemu())


def test_run_again(store: KernelStore) -> None:
    """The command that runs a cell again says the platform, and names no checks where all run."""
    rerun = _cell(store).rerun
    assert "--platform hyperv" in rerun
    assert "--check" not in rerun
    some = _cell(store, checks=HYPERV_CHECKS[:1]).rerun
    assert some.endswith(f"--check {HYPERV_CHECKS[0].name}")


def test_never_a_clone(store: KernelStore) -> None:
    """Why its guest is booted and not cloned is said."""
    assert "channels" in _cell(store).cold


@pytest.mark.parametrize("name", ["trimmed-4k", "combined"])
def test_kernels_without_the_drivers_are_refused(store: KernelStore, name: str) -> None:
    """A kernel of ours that is built without HYPERV, or made of such, is refused by name."""
    with pytest.raises(UsageError, match=f"{name} is built without CONFIG_HYPERV"):
        _plan(store, kernels=(name,), page_sizes=(PageSize.K4,))


def test_of_a_family_each_is_looked_at(store: KernelStore) -> None:
    """`trimmed` has none of the drivers, `hyperv` has them all."""
    with pytest.raises(UsageError, match="trimmed-16k is built without"):
        _plan(store, kernels=("trimmed",))
    assert {cell.page_size for cell in _plan(store, kernels=("hyperv",)).cells} == set(PageSize)


@pytest.mark.parametrize(("line", "refused"), [("CONFIG_HYPERV=m", False), ("CONFIG_PCI=y", True)])
def test_a_file_is_judged_by_its_configuration(
    store: KernelStore, tmp_path: Path, line: str, refused: bool
) -> None:
    """An Image with a .config beside it is refused if that lacks HYPERV."""
    flags = 1 << 1  # 4K pages (Linux Documentation/arch/arm64/booting.rst)
    image, config = tmp_path / "Image", tmp_path / "config"
    image.write_bytes(struct.pack("<IIQQQQQQ4sI", 0, 0, 0, 8192, flags, 0, 0, 0, b"ARM\x64", 0) + bytes(4096))
    config.write_text(f"{line}\n")
    request, beside = Request(kernels=(str(image),), platforms=HYPERV), Beside(config=config)
    if refused:
        with pytest.raises(UsageError, match="without CONFIG_HYPERV"):
            plan(request, store, FakeQemu(), beside)
        request = replace(request, force=True)
    assert plan(request, store, FakeQemu(), beside).cells


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accel": Accel.KVM}, "unavailable under KVM"),
        ({"vcpus": 9}, "8 vCPUs at most"),
        ({"features": (Feature.EL2,)}, "EL2 is the monitor's"),
        ({"exact": (Conditions.of(None),)}, "does not go with --platform hyperv"),
    ],
)
def test_what_such_a_machine_cannot_have(store: KernelStore, options: dict[str, Any], said: str) -> None:
    """KVM, many vCPUs, EL2 and runs that repeat are refused with the reason."""
    with pytest.raises(UsageError, match=said):
        _plan(store, kernels=("debian-4k",), **options)
