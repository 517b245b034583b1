"""Tests of `granule kexec` without a guest: what is asked for and cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cache import Cache
from harness.cli.kexec import CAPTURE_CHECKS, _cells, _reserving, kexec
from harness.errors import UsageError
from harness.kernels.store import KernelStore
from harness.matrix import plan as plan_module
from harness.matrix.cell import Request
from harness.qemu.probe import CpuModel
from harness.smoke import CHECKS
from harness.spec import Accel, PageSize

GRANULES = {"neoverse-n1": frozenset(PageSize), "cortex-a57": frozenset({PageSize.K4, PageSize.K64})}


class FakeQemu:
    """A QEMU that knows two CPU models and is never started."""

    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """See harness.qemu.probe.Qemu."""
        return CpuModel(argument=argument, granules=GRANULES[argument])

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """See harness.qemu.probe.Qemu."""
        return tuple(name for name, granules in GRANULES.items() if size in granules)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real catalogue over an empty cache, on a host without KVM."""
    monkeypatch.setattr(plan_module, "resolve_accel", lambda _wanted: Accel.TCG)
    return SimpleNamespace(
        request=Request(checks=CHECKS), store=KernelStore(Cache(tmp_path / "cache"), offline=True),
        bench=SimpleNamespace(qemu=FakeQemu()), beside=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("debian-4k",), "granule kexec FROM TO"),
        (("debian-4k", "debian-16k", "-o", "vmcore"), "goes with --crash"),
        (("--crash", "debian-4k", "debian-16k", "debian-4k"), "one kernel that crashes"),
    ],
)
def test_options_that_contradict(words: tuple[str, ...], why: str) -> None:
    """They are an error of use, told before anything is looked for."""
    done = CliRunner().invoke(kexec, words)
    assert isinstance(done.exception, UsageError)
    assert why in str(done.exception)


@pytest.mark.parametrize(
    ("names", "cpus", "why"),
    [
        (("no-such-kernel", "debian-4k"), (), "no-such-kernel"),
        (("debian-4k", "no-such-kernel"), (), "no-such-kernel"),
        (("debian", "debian-4k"), (), "stands for 2 guests"),
        (("debian-4k", "debian-16k"), ("cortex-a57",), "has no 16K granule"),
        (("debian-16k", "debian-4k"), ("cortex-a57",), "has no 16K granule"),
        (("debian-4k", "debian-16k"), ("neoverse-n1", "cortex-a57"), "name one kernel and CPU"),
    ],
)
def test_kernels_that_cannot_be(
    setting: Any, names: tuple[str, ...], cpus: tuple[str, ...], why: str
) -> None:
    """FROM has to be one guest, and so has something that it is to start: told before any guest is."""
    setting.request = dataclasses.replace(setting.request, cpus=cpus)
    with pytest.raises(UsageError, match=why):
        _cells(setting, names, 512, ("granule",))


def test_each_kernel_gets_a_cell(setting: Any) -> None:
    """Even one that comes again: first its page size is asked, and of those it starts their tables too."""
    cells, skipped = _cells(setting, ("debian-4k", "debian-16k", "debian-4k"), 700, ("granule", "kexec"))
    assert not skipped
    assert len({cell.id for cell in cells}) == 3
    assert [cell.page_size for cell in cells] == [PageSize.K4, PageSize.K16, PageSize.K4]
    assert [[check.name for check in cell.checks] for cell in cells] == [
        ["page-size"], ["page-size", "user-tables", "kernel-tables"],
        ["page-size", "user-tables", "kernel-tables"],
    ]  # fmt: skip
    assert {cell.memory_mib for cell in cells} == {700}
    assert {cell.command for cell in cells} == {(("granule", "kexec"), ())}


def test_a_kernel_in_the_midst_that_cannot_be(setting: Any) -> None:
    """It is left out with its reason, and the chain goes on without it."""
    setting.request = dataclasses.replace(setting.request, cpus=("cortex-a57",))
    cells, skipped = _cells(setting, ("debian-4k", "debian-16k", "trimmed-64k"), 512, ("granule",))
    assert [cell.kernel for cell in cells] == ["debian-4k", "trimmed-64k"]
    assert [entry.id for entry in skipped] == ["hop1-debian-16k"]
    assert "no 16K granule" in skipped[0].reason


def test_a_capture_kernel_is_asked_what_it_has_memory_for(setting: Any) -> None:
    """It is not asked for mappings of every kind, which a kernel with 64K pages has no room for there."""
    cells, _ = _cells(setting, ("debian-4k", "trimmed-64k"), 512, ("granule",), CAPTURE_CHECKS)
    assert [check.name for check in cells[1].checks] == ["page-size", "kernel-tables"]


def test_the_crashing_kernel_reserves_memory(setting: Any) -> None:
    """What it is to reserve is added to what the user wants on the command line."""
    setting.request = dataclasses.replace(setting.request, cmdline="quiet")
    cells, _ = _cells(setting, ("debian-4k", "debian-16k"), 512, ("granule",))
    assert _reserving(cells[0], 200).cmdline == "quiet crashkernel=200M"


def test_help() -> None:
    """It names the arguments and the options, and has commands to paste."""
    done = CliRunner().invoke(kexec, ["--help"])
    assert done.exit_code == 0
    for word in ("FROM", "TO", "--crash", "--output", "--crash-kernel", "granule kexec --crash trimmed-64k"):
        assert word in done.stdout
    assert "--page-size" not in done.stdout
