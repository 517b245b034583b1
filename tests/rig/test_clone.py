"""Tests of saved states, templates and clones with a payload for a kernel.

The payload has no shell, so what a template asks of the guest's agent is left out here; tests/smoke has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.channel.shell import Shell
from harness.deadline import Deadline
from harness.errors import LaunchError
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.argv import qemu_argv
from harness.qemu.clone import ClonePool, start_clone
from harness.qemu.forward import LOOPBACK, open_forward
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.state import CannotMigrate
from harness.qemu.template import NoTemplate, Obstacle, Template, Templates, template_key
from harness.spec import Disk, MachineSpec, Wire

# Within RAM, and neither the payload nor what QEMU puts before it.
PLACE_PA = RAM_BASE_PA + (64 << 20)


@pytest.fixture(autouse=True)
def agentless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that has no agent to ask."""
    monkeypatch.setattr(Shell, "keep_spare", lambda _shell, _deadline: None)
    monkeypatch.setattr(Shell, "renew", lambda _shell, _deadline: None)


@pytest.fixture
def spec(idle_spec: MachineSpec, tmp_path: Path) -> MachineSpec:
    """The idle machine with every device that a cell has."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"granule".ljust(1 << 20, b"\0"))
    return replace(idle_spec, disks=(Disk(path=image, serial="a"),), wire=Wire(), vcpus=2)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """An empty cache."""
    with Cache(tmp_path / "cache") as made:
        yield made


@pytest.fixture
def templates(cache: Cache, qemu: Qemu) -> Iterator[Templates]:
    """The templates of an empty cache."""
    with Templates(cache, qemu) as made:
        yield made


def _mark(machine: Machine) -> None:
    """Leave something in RAM to know the template by."""
    with machine.frozen() as frozen:
        frozen.memory.write(PLACE_PA, b"template")


def _read(machine: Machine, pa: int = PLACE_PA) -> bytes:
    with machine.frozen() as frozen:
        return frozen.memory.read(pa, 8)


def test_a_clone_has_its_templates_memory_and_registers(templates: Templates, spec: MachineSpec) -> None:
    """A clone goes on where its template was stopped, with the same code around its pc."""
    template = templates.get(spec, _mark)
    with start_clone(template) as clone, clone.frozen() as frozen:
        assert clone.is_clone
        assert frozen.memory.read(PLACE_PA, 8) == b"template"
        pc = frozen.gdb.registers(frozen.vcpus[0], ("pc",), Deadline.after(10))["pc"]
        assert frozen.memory.read(pc, 4) == bytes.fromhex("00000014")
        assert len(frozen.vcpus) == 2


def test_clones_share_nothing_that_they_write(templates: Templates, spec: MachineSpec) -> None:
    """What one clone has in RAM and on disk afterwards, neither its template nor another clone sees."""
    template = templates.get(spec, _mark)
    with start_clone(template) as first, start_clone(template) as second:
        with first.frozen() as frozen:
            frozen.memory.write(PLACE_PA, b"changed!")
        with Path(first.disk_path("a")).open("r+b") as disk:
            disk.write(b"changed")
        assert _read(first) == b"changed!"
        assert _read(second) == b"template"
        assert Path(second.disk_path("a")).read_bytes()[:7] == b"granule"
        with start_clone(template) as third:
            assert _read(third) == b"template"


def test_a_stopped_clone_runs_when_told(templates: Templates, spec: MachineSpec) -> None:
    """A clone of the pool waits stopped, and `cont` starts it."""
    with start_clone(templates.get(spec, _mark), running=False) as clone:
        deadline = Deadline.after(10)
        assert clone.qmp.execute("query-status", deadline)["status"] == "paused"
        clone.qmp.execute("cont", deadline)
        assert clone.qmp.execute("query-status", deadline)["status"] == "running"


def test_a_clone_reads_no_kernel(templates: Templates, spec: MachineSpec) -> None:
    """A clone needs neither kernel nor initramfs any more: they may be gone."""
    template = templates.get(spec, _mark)
    for path in spec.direct:
        path.unlink()
    with start_clone(template) as clone:
        assert _read(clone) == b"template"


@contextlib.contextmanager
def _with_state(template: Template, change: Callable[[bytes], bytes]) -> Iterator[Template]:
    """The template with another migration stream."""
    with template.saved.reopened() as stream:
        content = stream.read()
    descriptor = os.memfd_create("changed", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, change(content))
        yield replace(template, saved=replace(template.saved, devices=descriptor))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("data", "at"), [(b"XXXX", 0), (b"\xff", 7), (b"Z" * 64, 4000)])
def test_a_state_that_qemu_does_not_know_is_refused(
    templates: Templates, spec: MachineSpec, data: bytes, at: int
) -> None:
    """A migration stream that is none, of another version, or changed: QEMU's reason, and no orphan."""

    def change(content: bytes) -> bytes:
        return content[:at] + data + content[at + len(data) :]

    with _with_state(templates.get(spec, _mark), change) as broken:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(CannotMigrate, match="could not load the saved state"):
            start_clone(broken)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_truncated_state_is_refused(templates: Templates, spec: MachineSpec) -> None:
    """A stream that ends too soon is refused, and not waited for."""
    template = templates.get(spec, _mark)
    with (
        _with_state(template, lambda content: content[: len(content) // 2]) as short,
        pytest.raises(CannotMigrate),
    ):
        start_clone(short)


def test_another_machines_state_is_refused(templates: Templates, spec: MachineSpec) -> None:
    """A state is loaded by a machine with the same devices only."""
    template = templates.get(spec, _mark)
    with pytest.raises(CannotMigrate):
        start_clone(replace(template, spec=replace(spec, vcpus=1)))


def test_ram_that_became_shorter_is_refused(templates: Templates, spec: MachineSpec, cache: Cache) -> None:
    """A RAM file truncated after it was checked is QEMU's error, and not a guest that faults."""
    template = templates.get(spec, _mark)
    os.truncate(cache.entry("templates", template.key) / "ram", 1 << 20)
    with pytest.raises(LaunchError, match="size"):
        start_clone(template)


def test_an_unmigratable_machine_boots_cold(
    templates: Templates, spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that QEMU cannot save is a typed reason with QEMU's words."""
    real = qemu_argv
    # A directory shown as a disk: QEMU says itself that it cannot save that (block/vvfat.c).
    vvfat = ("-blockdev", f"vvfat,node-name=fat,read-only=off,rw=on,dir={tmp_path / 'fat'}")
    (tmp_path / "fat").mkdir()
    monkeypatch.setattr(
        "harness.qemu.machine.qemu_argv", lambda *given, **named: (*real(*given, **named), *vvfat)
    )
    with pytest.raises(NoTemplate, match="vvfat") as caught:
        templates.get(spec, _mark)
    assert caught.value.obstacle is Obstacle.UNMIGRATABLE


def test_a_pool_of_clones(templates: Templates, spec: MachineSpec) -> None:
    """A clone that was started ahead is running when it is handed out; close() ends the one that waits."""
    with ClonePool(templates, total_mib=4096) as pool:
        with pool.clone(spec, _mark, Deadline.after(60)) as first:
            assert _read(first) == b"template"
        Deadline.after(30).wait_until(lambda: any(pool._waiting.values()), "a clone that waits")
        (waiting,) = next(iter(pool._waiting.values()))
        taken = pool.clone(spec, _mark, Deadline.after(60))
        assert taken is waiting
        taken.close()
        Deadline.after(30).wait_until(lambda: any(pool._waiting.values()), "a clone that waits")
        (last,) = next(iter(pool._waiting.values()))
    assert last.process.exit_status() is not None


def test_clones_have_ports_of_their_own(templates: Templates, spec: MachineSpec) -> None:
    """The state of a network goes with a template, and each clone is reached by a port of its own."""
    template = templates.get(spec, _mark)
    with start_clone(template) as first, start_clone(template) as second:
        ports = []
        for clone in (first, second):
            ports.append(open_forward(clone.qmp, 22, Deadline.after(10)).host_port)
            with socket.create_connection((LOOPBACK, ports[-1]), 10):
                pass
        assert ports[0] != ports[1]


BUILDER = """
import pathlib, sys
from harness.cache import Cache
from harness.channel.shell import Shell
from harness.qemu.probe import Qemu
from harness.qemu.template import Templates
from harness.spec import MachineSpec
Shell.keep_spare = lambda shell, deadline: None
kernel, initrd, root, hold = sys.argv[1:]
kernel, initrd = pathlib.Path(kernel), pathlib.Path(initrd)
spec = MachineSpec(kernel=kernel, initrd=initrd, cmdline="", vcpus=1, memory_mib=128)
def boot(machine):
    print("booting", machine.process.pid, flush=True)
    if hold == "hold":
        sys.stdin.read()
with Cache(pathlib.Path(root)) as cache, Templates(cache, Qemu.find()) as templates:
    print("template", templates.get(spec, boot).key, flush=True)
"""


@contextlib.contextmanager
def _builder(spec: MachineSpec, root: Path, hold: bool) -> Iterator[subprocess.Popen[str]]:
    words = (str(spec.kernel), str(spec.initrd), str(root), "hold" if hold else "go")
    with subprocess.Popen(
        (sys.executable, "-c", BUILDER, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_two_builders_boot_once(idle_spec: MachineSpec, cache: Cache, qemu: Qemu) -> None:
    """Of two processes that want the same template one boots it, and the other has it too."""
    key = template_key(idle_spec, qemu)
    with _builder(idle_spec, cache.root, True) as first, _builder(idle_spec, cache.root, False) as second:
        # One of them boots, whichever was first; the end of its input lets it go on.
        said = [process.communicate()[0].splitlines() for process in (first, second)]
    assert [lines[-1] for lines in said] == [f"template {key}"] * 2
    assert sum(line.startswith("booting") for lines in said for line in lines) == 1


def test_a_killed_builder_leaves_nothing(idle_spec: MachineSpec, cache: Cache, qemu: Qemu) -> None:
    """`kill -9` in the middle of a boot: no QEMU, no half a template, and the next one builds it."""
    with _builder(idle_spec, cache.root, True) as builder:
        assert builder.stdout is not None
        pid = int(builder.stdout.readline().split()[1])
        builder.kill()
        builder.wait()
    try:
        Deadline.after(10).wait_until(lambda: not _is_alive(pid), "QEMU's death")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert cache.list() == ()
    with Cache(cache.root) as again, Templates(again, qemu) as templates:
        assert list((cache.root / "tmp").iterdir()) == []
        templates.get(idle_spec, lambda _machine: None)
        assert len(again.list()) == 1


def test_no_orphan_when_a_holder_of_clones_is_killed(
    templates: Templates, idle_spec: MachineSpec, cache: Cache
) -> None:
    """`kill -9` of a process with a pool ends every clone, running or waiting."""
    templates.get(idle_spec, lambda _machine: None)
    script = (
        BUILDER.replace('print("template"', 'Shell.renew = lambda s, d: None\n    print("template"') + HOLDER
    )
    words = (str(idle_spec.kernel), str(idle_spec.initrd), str(cache.root), "go")
    with subprocess.Popen(
        (sys.executable, "-c", script, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("template")
        pids = list(map(int, process.stdout.readline().split()))
        assert all(map(_is_alive, pids))
        process.kill()
        process.wait()
    try:
        Deadline.after(10).wait_until(lambda: not any(map(_is_alive, pids)), "the clones' death")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(pids) == 2


HOLDER = """
    from harness.deadline import Deadline
    from harness.qemu.clone import ClonePool
    with ClonePool(templates, total_mib=2048) as pool:
        clone = pool.clone(spec, boot, Deadline.after(60))
        Deadline.after(60).wait_until(lambda: any(pool._waiting.values()), "a clone")
        waiting = next(iter(pool._waiting.values()))[0]
        print(clone.process.pid, waiting.process.pid, flush=True)
        sys.stdin.read()
"""
