"""Tests of harness.qemu.template with builders of our own: no QEMU is started."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import GuestGone, InfraError
from harness.qemu import template as template_module
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.state import CannotMigrate
from harness.qemu.template import NoTemplate, Obstacle, Templates, template_key
from harness.qemu.template_files import write_template
from harness.spec import Accel, Disk, Hyperv, MachineSpec, Uefi, Wire

MIB = 1 << 20


@pytest.fixture
def qemu(tmp_path: Path) -> Qemu:
    """Something that stands for QEMU's program."""
    program = tmp_path / "qemu"
    program.write_bytes(b"qemu 1")
    return Qemu(program=str(program), version=(7, 2, 0), has_sandbox=True)


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    """A machine whose files exist."""
    for name in ("Image", "initrd", "disk"):
        (tmp_path / name).write_bytes(name.encode())
    return MachineSpec(
        kernel=tmp_path / "Image", initrd=tmp_path / "initrd", cmdline="console=ttyAMA0", memory_mib=1,
        disks=(Disk(path=tmp_path / "disk", serial="a"),), wire=Wire(),
    )  # fmt: skip


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[MachineSpec]:
    """The machines that were booted, each of which becomes a template of almost nothing."""
    made: list[MachineSpec] = []

    def build(directory: Path, spec: MachineSpec, _qemu: Qemu, boot: Callable[[object], None]) -> None:
        made.append(spec)
        boot(None)
        ram = os.memfd_create("ram")
        os.ftruncate(ram, spec.memory_mib * MIB)
        os.pwrite(ram, b"granule", 4096)
        write_template(directory, ram=ram, ram_bytes=spec.memory_mib * MIB, devices=b"d", console=b"c")
        os.close(ram)

    monkeypatch.setattr(template_module, "_build", build)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """An empty cache."""
    with Cache(tmp_path / "cache") as made:
        yield made


def _boot(_machine: Machine) -> None:
    """Ready at once."""


@pytest.mark.parametrize(
    "changed",
    [
        {"cmdline": "console=ttyAMA0 quiet"},
        {"cpu": "max"},
        {"vcpus": 1},
        {"memory_mib": 2},
        {"wire": None},
        {"wire": Wire(echo=False)},
        {"disks": ()},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_machine_has_another_key(spec: MachineSpec, qemu: Qemu, changed: dict[str, object]) -> None:
    """All that a spec says shapes the template."""
    assert template_key(replace(spec, **changed), qemu) != template_key(spec, qemu)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Image", "initrd", "disk", "qemu"])
def test_other_content_has_another_key(spec: MachineSpec, qemu: Qemu, tmp_path: Path, name: str) -> None:
    """Kernel, initramfs, disks and QEMU itself count by what is in them, and not by their name or date."""
    was = template_key(spec, qemu)
    file = tmp_path / name
    content = file.read_bytes()
    file.write_bytes(content + b"!")
    assert template_key(spec, qemu) != was
    file.write_bytes(content)
    assert template_key(spec, qemu) == was


def test_a_moved_file_is_the_same(spec: MachineSpec, qemu: Qemu, tmp_path: Path) -> None:
    """Paths are not part of a key."""
    moved = (tmp_path / "elsewhere").absolute()
    moved.write_bytes(spec.direct[0].read_bytes())
    assert template_key(replace(spec, kernel=moved), qemu) == template_key(spec, qemu)


def test_an_image_that_is_known_is_not_read(spec: MachineSpec, qemu: Qemu, tmp_path: Path) -> None:
    """A disk with an identity counts by that, which is as good as reading gigabytes."""
    known = [Disk(path=tmp_path / "not there", serial="a", identity=name) for name in ("one", "two")]
    first, second = (template_key(replace(spec, disks=(disk,)), qemu) for disk in known)
    assert first != second


def test_firmware_is_part_of_a_key(spec: MachineSpec, qemu: Qemu, tmp_path: Path) -> None:
    """Of a machine that starts by its firmware, the firmware's content counts, and not its path."""
    keys = []
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
        uefi = Uefi(firmware=tmp_path / name)
        keys.append(template_key(MachineSpec(uefi=uefi, disks=spec.disks), qemu))
    assert keys[0] == keys[1] != keys[2]


def test_a_newer_qemu_has_another_key(spec: MachineSpec, qemu: Qemu) -> None:
    """A state saved by one version is never given to another."""
    assert template_key(spec, replace(qemu, version=(7, 2, 1))) != template_key(spec, qemu)


def test_made_once_and_kept(spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]) -> None:
    """One boot serves a process, and the processes after it."""
    for _ in range(2):
        with Templates(cache, qemu) as templates:
            first = templates.get(spec, _boot)
            assert templates.get(spec, _boot) is first
            assert os.pread(first.saved.ram, 7, 4096) == b"granule"
    assert builds == [spec]
    assert [entry.kind for entry in cache.list()] == ["templates"]


def test_threads_boot_once(spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]) -> None:
    """Threads that want the same template at once get the same one, booted once."""
    with Templates(cache, qemu) as templates:
        found: list[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(templates.get(spec, _boot))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1
        assert len(found) == 8
    assert builds == [spec]


@pytest.mark.parametrize("name", ["ram", "devices", "console"])
def test_a_damaged_template_is_made_anew(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec], name: str
) -> None:
    """A template whose content changed is not used: it is booted again, and is good afterwards."""
    with Templates(cache, qemu) as templates:
        templates.get(spec, _boot)
    path = cache.entry("templates", template_key(spec, qemu)) / name
    path.write_bytes(b"X" + path.read_bytes()[1:])
    for _ in range(2):
        with Templates(cache, qemu) as templates:
            saved = templates.get(spec, _boot).saved
            assert (os.pread(saved.ram, 7, 4096), saved.console) == (b"granule", b"c")
    assert len(builds) == 2


def test_the_cache_keeps_the_newest(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel rebuilt time and again leaves no more templates than are kept: the last ones."""
    monkeypatch.setattr(template_module, "KEPT", 3)
    for number in range(8):
        with Cache(cache.root) as own, Templates(own, qemu) as templates:
            templates.get(replace(spec, cmdline=f"build={number}"), _boot)
            os.utime(
                own.entry("templates", template_key(builds[-1], qemu)) / ".granule-entry.json", (0, number)
            )
    assert {entry.key for entry in cache.list()} == {template_key(made, qemu) for made in builds[-3:]}


def test_templates_in_use_are_kept_besides(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a run needs, it takes none away from itself or from another run."""
    monkeypatch.setattr(template_module, "KEPT", 1)
    with Cache(cache.root) as other, Templates(cache, qemu) as mine, Templates(other, qemu) as theirs:
        for number in range(3):
            mine.get(replace(spec, cmdline=f"mine={number}"), _boot)
            theirs.get(replace(spec, cmdline=f"theirs={number}"), _boot)
        assert {entry.key for entry in cache.list()} == {template_key(made, qemu) for made in builds}
    assert len(builds) == 6


def test_a_guest_that_hangs_up_is_no_fault_of_the_cache(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """A guest that breaks its line is heard of, and not hidden by a second boot; the errno is the line's."""

    def hang_up(_machine: Machine) -> None:
        raise GuestGone("the guest closed its shell line") from BrokenPipeError(32, "Broken pipe")

    with Templates(cache, qemu) as templates, pytest.raises(GuestGone, match="closed its shell line"):
        templates.get(spec, hang_up)
    assert len(builds) == 1


def test_a_forgotten_template_is_made_anew(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """A template that QEMU would not load is removed, and its descriptors stay good for who has them."""
    with Templates(cache, qemu) as templates:
        first = templates.get(spec, _boot)
        templates.forget(first)
        assert cache.list() == ()
        assert templates.get(spec, _boot) is not first
        assert os.pread(first.saved.ram, 7, 4096) == b"granule"
    assert len(builds) == 2


def test_closing_leaves_nothing_open(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """After close() no descriptor of a template is left, and prune may have it."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Templates(cache, qemu) as templates:
        templates.get(spec, _boot)
        assert [entry.kind for entry in cache.prune().in_use] == ["templates"]
    cache.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [entry.kind for entry in cache.prune().removed] == ["templates"]
    assert builds


def test_a_boot_that_fails_leaves_nothing(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """What the boot raises reaches the caller as it is, and the next one boots again."""

    class Panic(Exception):
        pass

    def panic(_machine: Machine) -> None:
        raise Panic

    with Templates(cache, qemu) as templates:
        with pytest.raises(Panic):
            templates.get(spec, panic)
        assert cache.list() == ()
        templates.get(spec, _boot)
    assert len(builds) == 2


def test_kvm_boots_cold(spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]) -> None:
    """A KVM guest is not cloned, and the reason is typed."""
    with Templates(cache, qemu) as templates, pytest.raises(NoTemplate, match="cold under KVM") as caught:
        templates.get(replace(spec, accel=Accel.KVM), _boot)
    assert caught.value.obstacle is Obstacle.KVM
    assert builds == []


def test_hyperv_boots_cold(spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]) -> None:
    """A Hyper-V guest is not cloned, and the reason is typed."""
    with Templates(cache, qemu) as templates, pytest.raises(NoTemplate, match="cold on Hyper-V") as caught:
        templates.get(replace(spec, hyperv=Hyperv(monitor=Path("/monitor"))), _boot)
    assert caught.value.obstacle is Obstacle.HYPERV
    assert builds == []


def test_what_cannot_migrate_boots_cold(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """A machine that QEMU cannot save has no template, with QEMU's reason."""

    def blocked(_machine: Machine) -> None:
        raise CannotMigrate("QEMU cannot save this machine: the device is not migratable")

    with Templates(cache, qemu) as templates, pytest.raises(NoTemplate, match="not migratable") as caught:
        templates.get(spec, blocked)
    assert caught.value.obstacle is Obstacle.UNMIGRATABLE
    assert builds


@pytest.mark.parametrize("number", [5, 28, 30, 122], ids=["bad disk", "full", "read-only", "quota"])
def test_a_cache_that_cannot_be_written_boots_cold(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec], number: int
) -> None:
    """A cache on a full, read-only or failing disk means no template, and the disk's own reason."""

    def full(_machine: Machine) -> None:
        raise OSError(number, os.strerror(number))

    with (
        Templates(cache, qemu) as templates,
        pytest.raises(NoTemplate, match=os.strerror(number)) as caught,
    ):
        templates.get(spec, full)
    assert caught.value.obstacle is Obstacle.CACHE
    assert cache.list() == ()
    assert builds


def test_an_error_of_ours_is_no_reason_to_boot(
    spec: MachineSpec, qemu: Qemu, cache: Cache, builds: list[MachineSpec]
) -> None:
    """An InfraError that is not the cache's stays one."""

    def broken(_machine: Machine) -> None:
        raise InfraError("something else")

    with Templates(cache, qemu) as templates, pytest.raises(InfraError, match="something else") as caught:
        templates.get(spec, broken)
    assert not isinstance(caught.value, NoTemplate)
    assert builds
