"""Tests of harness.qemu.machine with a payload for a kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded, InfraError, LaunchError, QemuDied
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.process import allow_starts, kill_all
from harness.spec import Disk, MachineSpec


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_registers_of_a_frozen_machine(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """The gdbstub gives general and system registers by name; what a CPU lacks is left out."""
    with Machine(replace(idle_spec, vcpus=2), qemu) as machine, machine.frozen() as frozen:
        assert len(frozen.vcpus) == 2
        names = ("pc", "SCTLR_EL1", "TCR_EL1", "VBAR_EL1", "ID_AA64MMFR0_EL1", "NO_SUCH_EL9")
        registers = frozen.gdb.registers(frozen.vcpus[0], names, Deadline.after(10))
        assert set(registers) == set(names) - {"NO_SUCH_EL9"}
        assert RAM_BASE_PA <= registers["pc"] < RAM_BASE_PA + (idle_spec.memory_mib << 20)
        assert registers["SCTLR_EL1"] & 1 == 0  # the MMU is off: nothing turned it on


def test_shared_and_private_readers_agree(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """RAM read through our map of the file equals RAM read through QEMU's own address space."""
    with Machine(idle_spec, qemu) as machine, machine.frozen() as frozen:
        registers = frozen.gdb.registers(frozen.vcpus[0], ("pc",), Deadline.after(10))
        pc = registers["pc"]
        private = machine._memory(Deadline.after(10), private=True)
        # In the payload, or still in QEMU's boot stub before it: code either way.
        assert private.read(pc, 64) == frozen.memory.read(pc, 64) != bytes(64)
        for reader in (frozen.memory, private):
            with pytest.raises(ChannelError, match="not within RAM"):
                reader.read(RAM_BASE_PA - 8, 8)
            with pytest.raises(ChannelError, match="not within RAM"):
                reader.read(RAM_BASE_PA + (idle_spec.memory_mib << 20) - 4, 8)


def test_launch_failure_carries_what_qemu_said(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """A QEMU that refuses its command line is a LaunchError with argv, status and stderr."""
    with pytest.raises(LaunchError, match="no-such-cpu") as caught:
        Machine(replace(idle_spec, cpu="no-such-cpu"), qemu)
    assert caught.value.exit_status_of_qemu == 1
    assert "no-such-cpu" in caught.value.argv


def test_missing_disk_image_is_named(idle_spec: MachineSpec, qemu: Qemu, tmp_path: Path) -> None:
    """A disk image that is not there is an InfraError with its path, and nothing is left behind."""
    before = _open_files()
    with pytest.raises(InfraError, match=r"gone\.img"):
        Machine(replace(idle_spec, disks=(Disk(path=tmp_path / "gone.img", serial="a"),)), qemu)
    assert _open_files() == before


def test_disk_is_a_copy(idle_spec: MachineSpec, qemu: Qemu, tmp_path: Path) -> None:
    """A machine's disk has the image's content, holes included, and writing to it leaves the image alone."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
        file.seek(5 << 20)
        file.write(b"granule")
    with Machine(replace(idle_spec, disks=(Disk(path=image, serial="a"),)), qemu) as machine:
        copy = Path(machine.disk_path("a"))
        assert copy.read_bytes() == image.read_bytes()
        with copy.open("r+b") as file:
            file.write(b"changed")
    assert image.read_bytes()[:7] == bytes(7)


def test_silent_shell_is_a_deadline(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """Waiting for a shell that never comes ends at the deadline."""
    with Machine(idle_spec, qemu) as machine, pytest.raises(DeadlineExceeded):
        machine.shell.wait_ready(Deadline.after(0.5))


def test_death_of_qemu_is_noticed(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """A command to a guest whose QEMU was killed ends at once, with the signal named."""
    with Machine(idle_spec, qemu) as machine:
        os.kill(machine.process.pid, signal.SIGKILL)
        with pytest.raises(QemuDied, match="status -9"):
            machine.shell.wait_ready(Deadline.after(30))


def test_close_leaves_nothing(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """After close() the process is gone and no file descriptor is left open."""
    before = _open_files()
    machine = Machine(idle_spec, qemu)
    pid = machine.process.pid
    machine.close()
    assert not _is_alive(pid)
    assert _open_files() == before


PARENT = """
import contextlib, pathlib, sys, threading
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import MachineSpec
spec = MachineSpec(kernel=pathlib.Path(sys.argv[1]), initrd=pathlib.Path(sys.argv[2]), cmdline="", vcpus=1,
                   memory_mib=128)
machines = []
thread = threading.Thread(target=lambda: machines.append(Machine(spec, Qemu.find())))
thread.start()
thread.join()  # the thread that asked for the machine has ended; the machine must not, then or soon after
with contextlib.suppress(DeadlineExceeded):
    Deadline.after(1).wait_until(lambda: machines[0].process.exit_status() is not None, "an early end")
print(machines[0].process.pid, machines[0].process.exit_status(), flush=True)
sys.stdin.read()
"""


def test_qemu_dies_with_a_killed_parent(idle_spec: MachineSpec, tmp_path: Path) -> None:
    """`kill -9` of the parent ends QEMU too; the end of the thread that started it does not."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        (sys.executable, str(script), str(idle_spec.kernel), str(idle_spec.initrd)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        pid, status = parent.stdout.readline().split()
        assert status == "None"
        assert _is_alive(int(pid))
        parent.kill()
        parent.wait()
    try:
        Deadline.after(10).wait_until(lambda: not _is_alive(int(pid)), "QEMU's death")
    finally:
        # A test that fails here has an orphan on its hands, which would spin for ever.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def test_kill_all_holds_until_starts_are_allowed(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """kill_all ends what runs and what is being started, and is over when starts are allowed again."""
    with Machine(idle_spec, qemu) as machine:
        try:
            kill_all()
            assert machine.process.wait(Deadline.after(10)) == -signal.SIGKILL
            with pytest.raises(LaunchError):
                Machine(idle_spec, qemu)
        finally:
            allow_starts()
    with Machine(idle_spec, qemu) as machine:
        assert machine.process.exit_status() is None
