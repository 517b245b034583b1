"""Clones of real guests: fresh where they should be, and untouched by what another of them suffers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError, GuestGone, QemuDied, WrongHostKey
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.run import Bench, machine_spec, subject_of
from harness.qemu.clone import start_clone
from harness.qemu.machine import Machine
from harness.qemu.template import Template, Templates
from harness.smoke import CHECKS
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.subject import Subject
from harness.snapshot import kernel_regime
from harness.spec import Accel
from harness.verdict import Verdict

KERNELS = ("debian-4k", "debian-16k", "trimmed-64k")
COMMAND_S = 90.0


def _deadline() -> Deadline:
    return Deadline.after(COMMAND_S)


@pytest.fixture(scope="module", params=KERNELS)
def started(
    request: pytest.FixtureRequest, granule_bench: Bench, granule_kernels: KernelStore
) -> Iterator[tuple[Template, Callable[[Machine], Subject]]]:
    """The template of an ordinary cell, and what makes a subject of its clones."""
    wanted = Request(kernels=(request.param,), accel=Accel.TCG)
    cell = next(
        cell
        for cell in plan(wanted, granule_kernels, granule_bench.qemu).cells
        if cell.memory_mib == BASE_MEMORY_MIB
    )
    kernel = granule_kernels.get(cell.kernel)
    patience = Patience.of(cell.accel, cell.cpu)

    def subject(machine: Machine) -> Subject:
        deadline = Deadline.after(patience.cell_s)
        return subject_of(cell, kernel, machine, patience, deadline, granule_bench.guest)

    with Templates(granule_bench.cache, granule_bench.qemu) as templates:
        spec = machine_spec(cell, kernel, granule_bench)
        yield (
            templates.get(spec, lambda machine: machine.shell.wait_ready(Deadline.after(patience.boot_s))),
            subject,
        )


@pytest.fixture
def template(started: tuple[Template, Callable[[Machine], Subject]]) -> Template:
    """The template of an ordinary cell."""
    return started[0]


def _said(machine: Machine, script: str) -> str:
    done = machine.shell.run(script, _deadline())
    assert done.ok, done.text
    return done.text


def test_every_check_passes_in_a_clone(started: tuple[Template, Callable[[Machine], Subject]]) -> None:
    """What a booted guest passes, a clone passes: memory, disks, network and the walk of its tables."""
    template, subject = started
    with start_clone(template) as clone:
        ordinary = [check for check in CHECKS if not check.memory_mib]
        results = {check.name: check.result(subject(clone)) for check in ordinary}
        assert [f"{name}: {finding}" for name, result in results.items() for finding in result.findings] == []
        assert sum(result.verdict is Verdict.PASS for result in results.values()) > len(results) // 2
        assert clone.power_off(_deadline()) == "guest-shutdown"


def test_clones_are_fresh(template: Template) -> None:
    """Two clones have random numbers and a boot id of their own, and the time of day of the host."""
    script = "head -c 16 /dev/urandom | od -An -tx1; cd /proc/sys/kernel/random; cat boot_id uuid"
    seen = []
    for _ in range(2):
        with start_clone(template) as clone:
            seen.append(_said(clone, script))
            guest_s = int(_said(clone, "date +%s"))
            assert abs(guest_s - time.time()) < COMMAND_S
    assert all(mine != other for mine, other in zip(*map(str.splitlines, seen), strict=True))


def test_the_boot_is_in_a_clones_log(template: Template) -> None:
    """A clone's transcript begins with the boot of its template, and goes on with its own messages."""
    with start_clone(template) as clone:
        _said(clone, "echo 'granule: hello' >/dev/kmsg")
        Deadline.after(10).wait_until(lambda: b"hello" in clone.transcript.content(), "the message")
        assert clone.transcript.content().startswith(template.saved.console)
        assert b"Booting Linux on physical CPU" in template.saved.console


def test_clones_by_ssh(started: tuple[Template, Callable[[Machine], Subject]]) -> None:
    """Two clones at once have host keys, client keys and ports of their own, and each answers for itself."""
    template, subject = started
    with start_clone(template) as first, start_clone(template) as second:
        subjects = [subject(machine) for machine in (first, second)]
        for number, one in enumerate(subjects):
            one.sh(f"echo {number} >/run/number")
        logins = [one.ssh for one in subjects]
        assert [login.run("cat /run/number", _deadline()).text for login in logins] == ["0\n", "1\n"]
        places = [one.way_in.place(_deadline()) for one in subjects]
        assert len({forward.host_port for forward, _ in places}) == 2
        assert len({login.host_key for _, login in places}) == 2
        assert len({login.key.public for _, login in places}) == 2
        with pytest.raises(WrongHostKey):
            subjects[0].way_in.connect(_deadline(), host_key=places[1][1].host_key)


def test_a_panic_under_ssh(started: tuple[Template, Callable[[Machine], Subject]]) -> None:
    """A kernel that dies under a command by SSH is told with its own words, as on the serial line."""
    template, subject = started
    with start_clone(template) as clone:
        ssh = subject(clone).ssh
        with pytest.raises(GuestGone, match=r"sysrq|Kernel panic"):
            ssh.run("echo c >/proc/sysrq-trigger; sleep 600", _deadline())


def _panic(clone: Machine) -> None:
    with pytest.raises((GuestGone, ChannelError)):
        clone.shell.run("echo c >/proc/sysrq-trigger; sleep 60", _deadline())


def _fill_disk(clone: Machine) -> None:
    for disk in clone.spec.disks:
        path = f"$(grep -l '^{disk.serial}$' /sys/block/vd*/serial | cut -d/ -f4)"
        clone.shell.run(f"cat /dev/urandom >/dev/{path}; sync", Deadline.after(10 * COMMAND_S))
        assert Path(clone.disk_path(disk.serial)).read_bytes()[:4096] != disk.path.read_bytes()[:4096]


def _corrupt_tables(clone: Machine) -> None:
    with clone.frozen() as frozen:
        table_pa = kernel_regime(frozen.snapshot()).table_pa
        frozen.memory.write(table_pa, bytes(4096))
        assert frozen.memory.read(table_pa, 4096) == bytes(4096)
    with pytest.raises(ChannelError):
        clone.shell.run("echo alive", Deadline.after(3))


def _die(clone: Machine) -> None:
    clone.process.kill()
    with pytest.raises(QemuDied):
        clone.shell.run("echo alive", _deadline())


@pytest.mark.parametrize("suffer", [_panic, _fill_disk, _corrupt_tables, _die], ids=lambda one: one.__name__)
def test_isolation(
    started: tuple[Template, Callable[[Machine], Subject]], suffer: Callable[[Machine], None]
) -> None:
    """Whatever becomes of one clone, one beside it and one after it have memory, tables and disks intact."""
    template, subject = started
    wanted = ("guard", "block", "kernel-tables")
    with start_clone(template) as beside:
        with start_clone(template) as clone:
            suffer(clone)
        with start_clone(template) as after:
            for machine in (beside, after):
                checks = [check for check in CHECKS if check.name in wanted]
                assert len(checks) == len(wanted)
                for check in checks:
                    result = check.result(subject(machine))
                    assert not result.findings, "\n".join(map(str, result.findings))
                assert machine.console.fatal_event() is None
