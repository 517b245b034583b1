"""Tests of harness.kexec.stage: the machine of a chain, and which kernel said what on its one console."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.kernels.kernel import Kernel
from harness.kexec.crash import is_asked_for
from harness.kexec.stage import Stage, chain_machine, log_of, refused_by_config
from harness.linux.klog import EventKind, LogEvent
from harness.spec import Disk, MachineSpec, PageSize

BANNER = b"[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x414fd0c1]\n"


def _stage(name: str) -> Any:
    spec = MachineSpec(
        kernel=Path(f"/{name}/Image"), initrd=Path(f"/{name}/initrd"), cmdline=f"console={name}",
        disks=(Disk(path=Path("/ext4"), serial="ext4"),),
    )  # fmt: skip
    kernel = Kernel(
        name=name, image=spec.direct[0], page_size=PageSize.K4, release="6", sha256="0", origin="o"
    )
    return Stage(cell=SimpleNamespace(), kernel=kernel, spec=spec)  # type: ignore[arg-type]


def test_the_machine_of_a_chain() -> None:
    """It boots the first kernel, has the others on disks that are not written to, and has no ITS."""
    more = Disk(path=Path("/scratch"), serial="vmcore")
    spec = chain_machine((_stage("a"), _stage("b"), _stage("c")), (more,))
    assert (spec.kernel, spec.cmdline, spec.its) == (Path("/a/Image"), "console=a", False)
    assert [(str(disk.path), disk.serial, disk.read_only) for disk in spec.disks] == [
        ("/b/Image", "image-1", True), ("/b/initrd", "initrd-1", True),
        ("/c/Image", "image-2", True), ("/c/initrd", "initrd-2", True), ("/scratch", "vmcore", False),
    ]  # fmt: skip


def test_serials_fit() -> None:
    """The name of the last disk of a long chain is one that virtio-blk has room for, which is 20 bytes."""
    spec = chain_machine([_stage("k")] * 1000)
    assert max(len(disk.serial) for disk in spec.disks) <= 20


def test_who_said_what() -> None:
    """Each kernel's log begins with its first line; one that never came has none."""
    log = b"QEMU\n" + BANNER + b"one\n" + BANNER + b"two\n"
    assert [
        log_of(log, number).endswith(word) for number, word in ((0, b"one\n[    0.000000] "), (1, b"two\n"))
    ]
    assert b"two" not in log_of(log, 0)
    assert b"one" not in log_of(log, 1)
    assert b"QEMU" not in log_of(log, 0)
    assert log_of(log, 2) == b""
    assert log_of(b"", 0) == b""


@pytest.mark.parametrize(
    ("config", "panic", "reason"),
    [
        ("CONFIG_KEXEC=y\n", False, ""),
        ("CONFIG_KEXEC_FILE=y\n", False, ""),
        ("# CONFIG_KEXEC is not set\n", False, "CONFIG_KEXEC and CONFIG_KEXEC_FILE"),
        ("CONFIG_KEXEC=y\n", True, "CONFIG_CRASH_DUMP"),
        ("CONFIG_KEXEC=y\nCONFIG_CRASH_DUMP=y\n", True, ""),
        (None, True, ""),
    ],
)
def test_what_a_configuration_forbids(tmp_path: Path, config: str | None, panic: bool, reason: str) -> None:
    """A kernel built without it is known before it is asked; one of which nothing is known is asked."""
    path = tmp_path / "config"
    if config is not None:
        path.write_text("CONFIG_ARM64=y\n" + config)
    kernel = dataclasses.replace(_stage("k").kernel, config=path if config is not None else None)
    subject: Any = SimpleNamespace(kernel=kernel)
    said = refused_by_config(subject, panic=panic)
    assert reason in said
    assert bool(said) == bool(reason)


def test_only_the_panic_that_was_asked_for_is_expected() -> None:
    """Another panic, or another complaint with the same words, is judged as ever."""
    line = "Kernel panic - not syncing: sysrq triggered crash"
    assert is_asked_for(LogEvent(kind=EventKind.PANIC, line=line))
    assert not is_asked_for(
        LogEvent(kind=EventKind.PANIC, line="Kernel panic - not syncing: Fatal exception")
    )
    assert not is_asked_for(LogEvent(kind=EventKind.WARNING, line=line))
