"""Templates: machines booted once, stopped where their shell is ready, and kept in the cache.

A template holds RAM as a sparse file, QEMU's device state, and what the guest had printed. Its key is made of
all that shaped it; its files are checked against their digests once in a process, and one that is damaged or
that this QEMU cannot load is thrown away and made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import TracebackType

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import ChannelError, InfraError
from harness.memory.sparse import digest_of
from harness.qemu.argv import Lines, qemu_argv
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.qemu.state import CannotMigrate, SavedState, save_state
from harness.qemu.template_files import DamagedTemplate, open_template, write_template
from harness.spec import Accel, DiskMode, MachineSpec

__all__ = ["Boot", "NoTemplate", "Obstacle", "Template", "Templates", "template_key"]

KIND = "templates"
# What the cache keeps: each takes 40 to 250 MiB, and whoever rebuilds a kernel leaves one for every build.
KEPT = 32
# Part of every key: raise it when this file, or a clone's command line, changes what is stored.
FORMAT = 1
# A kernel that has just been busy has work left over, which every clone would do, and translate, again.
SETTLE_S, SETTLE_LIMIT_S = 0.5, 5.0
DRAIN_S = 0.05
MONITOR_S = 10.0
# Of several processes that find a template damaged, one may discard what another has just made.
ATTEMPTS = 3

Boot = Callable[[Machine], None]
"""Brings a machine to its ready shell, or raises: what it raises goes to whoever wanted the template."""


class Obstacle(Enum):
    """Why there is no template of a machine, so that it is booted anew."""

    KVM = "cold under KVM until run"
    UNMIGRATABLE = "QEMU cannot save or load this machine's state"
    CACHE = "the template cannot be kept"
    HYPERV = "cold on Hyper-V"


class NoTemplate(InfraError):
    """This machine has to be booted anew: `obstacle` says why in kind, `str()` in full."""

    def __init__(self, obstacle: Obstacle, detail: str) -> None:
        super().__init__(f"{obstacle.value}: {detail}")
        self.obstacle = obstacle


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A machine to be cloned: `harness.qemu.clone.start_clone`. Good until its `Templates` is closed."""

    spec: MachineSpec
    qemu: Qemu
    saved: SavedState
    key: str


def template_key(spec: MachineSpec, qemu: Qemu) -> str:
    """A hash of all that shapes a booted machine: contents and not paths of files, and QEMU's own.

    Raises InfraError when one of the files cannot be read.
    """
    lines = Lines(ram=0, monitor=0, console=0, shell=0, gdb=0, wire=0, disks=tuple(0 for _ in spec.disks))
    loaded: tuple[Path, ...]
    if spec.uefi is None:
        loaded, nameless = spec.direct, replace(spec, kernel=Path("kernel"), initrd=Path("initrd"))
    else:
        loaded = (spec.uefi.firmware,)
        nameless = replace(spec, uefi=replace(spec.uefi, firmware=Path("firmware")))
    argv = qemu_argv(nameless, lines, program="qemu", sandbox=qemu.has_sandbox)
    files = (Path(qemu.program), *loaded)
    contents = (*map(_content, files), *(disk.identity or _content(disk.path) for disk in spec.disks))
    parts = (FORMAT, argv, spec.wire, qemu.version, contents)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _content(path: Path) -> str:
    try:
        about = path.stat()
        return _digest_of_file(path, (about.st_ino, about.st_size, about.st_mtime_ns))
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error


@functools.lru_cache(maxsize=256)
def _digest_of_file(path: Path, identity: tuple[int, int, int]) -> str:
    with path.open("rb") as file:
        return digest_of(file.fileno(), identity[1])


class Templates:
    """The templates of a cache, for one QEMU; may be asked from several threads. A context manager."""

    def __init__(self, cache: Cache, qemu: Qemu) -> None:
        self._cache = cache
        self._qemu = qemu
        self._open: dict[str, Template] = {}
        self._makers: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Templates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the templates' files; clones that run keep theirs."""
        with self._guard:
            self._open.clear()
            self._cleanup.close()

    def get(self, spec: MachineSpec, boot: Boot) -> Template:
        """The template of a machine: from this process, else from the cache, else made with `boot`.

        Raises NoTemplate where the machine has to be booted anew, and whatever `boot` raises.
        """
        if spec.accel is not Accel.TCG:
            raise NoTemplate(Obstacle.KVM, "saving and loading a KVM guest has not been tried")
        if spec.hyperv is not None:
            raise NoTemplate(Obstacle.HYPERV, "the other ends of its channels are in this process")
        key = template_key(spec, self._qemu)
        with self._guard:
            maker = self._makers.setdefault(key, threading.Lock())
        with maker:
            with self._guard:
                found = self._open.get(key)
            if found is None:
                found = self._from_cache(key, spec, boot)
                with self._guard:
                    self._open[key] = found
        return found

    def has(self, spec: MachineSpec) -> bool:
        """True when this process has that machine's template open."""
        with self._guard:
            return spec.accel is Accel.TCG and template_key(spec, self._qemu) in self._open

    def forget(self, template: Template) -> None:
        """Remove a template that could not be cloned, so that the next `get` makes it anew."""
        with self._guard:
            if self._open.get(template.key) is template:
                del self._open[template.key]
        with contextlib.suppress(InfraError):  # a cache that cannot be written keeps it, damaged
            self._cache.discard(KIND, template.key)

    def _from_cache(self, key: str, spec: MachineSpec, boot: Boot) -> Template:
        made = False

        def build(directory: Path) -> None:
            nonlocal made
            made = True
            _build(directory, spec, self._qemu, boot)

        label = f"{spec.cpu.partition(',')[0]}, {spec.memory_mib} MiB, {spec.cmdline}"
        try:
            for _ in range(ATTEMPTS):
                path = self._cache.make(KIND, key, build, describe=label)
                if made:
                    self._cache.trim(KIND, keep=KEPT)
                try:
                    return self._opened(path, key, spec)
                except DamagedTemplate as damage:
                    if made:
                        raise NoTemplate(Obstacle.CACHE, f"{damage}, just after it was made") from damage
                    self._cache.discard(KIND, key)
            raise NoTemplate(Obstacle.CACHE, f"{path} was damaged again and again")
        except CannotMigrate as error:
            raise NoTemplate(Obstacle.UNMIGRATABLE, str(error)) from error
        except ChannelError:
            raise  # the guest's, whatever broke the line to it: another boot would hide it
        except InfraError as error:
            if isinstance(error.__cause__, OSError):  # as Cache explains a full or unwritable disk
                raise NoTemplate(Obstacle.CACHE, str(error)) from error
            raise
        except OSError as error:
            raise NoTemplate(Obstacle.CACHE, f"{self._cache.root}: {error}") from error

    def _opened(self, path: Path, key: str, spec: MachineSpec) -> Template:
        with contextlib.ExitStack() as stack:
            overlays = sum(disk.mode is DiskMode.OVERLAY for disk in spec.disks)
            saved = open_template(path, spec.memory_mib << 20, stack, overlays=overlays)
            with self._guard:
                self._cleanup.push(stack.pop_all())
        return Template(spec=spec, qemu=self._qemu, saved=saved, key=key)


def _build(directory: Path, spec: MachineSpec, qemu: Qemu, boot: Boot) -> None:
    with Machine(spec, qemu) as machine:
        boot(machine)
        machine.shell.keep_spare(Deadline.after(MONITOR_S))
        machine.console.drain(SETTLE_S, SETTLE_LIMIT_S)
        machine.raise_if_gone()
        machine.qmp.execute("stop", Deadline.after(MONITOR_S))
        devices = save_state(machine.qmp)
        machine.console.drain(DRAIN_S, SETTLE_LIMIT_S)
        write_template(
            directory, ram=machine.ram, ram_bytes=spec.memory_mib << 20, devices=devices,
            console=machine.transcript.content(), overlays=machine.overlays,
        )  # fmt: skip
