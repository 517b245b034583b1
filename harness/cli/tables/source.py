"""What SOURCE means: a file with a guest in it, or a kernel that is booted and stopped to be looked at."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from harness.cli.booted import booted
from harness.cli.options import Setting
from harness.cli.progress import KernelProgress
from harness.errors import ChannelError, UsageError
from harness.kernels.catalogue import Catalogue
from harness.linux.symbols import Symboliser
from harness.matrix.cell import Cell
from harness.matrix.plan import plan
from harness.qemu.machine import Machine
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.page_size import page_size
from harness.snapshot import Snapshot, open_snapshot
from harness.snapshot.inferred import vmcoreinfo_of
from harness.spec import PageSize
from harness.tables.words import safe

__all__ = ["Opener", "Source", "open_source", "openers"]

TRIES: Final = 50
"""Times to stop a guest until the vCPU is not in EL0: an idle one is outside nearly always."""

_IMAGE: Final = (56, b"ARM\x64")  # Linux Documentation/arch/arm64/booting.rst
_PACKED: Final = ((0, b"\x1f\x8b"), (4, b"zimg"))  # gzip; drivers/firmware/efi/libstub/zboot-header.S


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A guest to look at, while it is open."""

    snapshot: Snapshot
    label: str
    """What the user calls it."""
    symbols: Symboliser | None = None
    """The kernel's, moved to where it runs; None where there are none."""
    vmlinux: Path | None = None
    """The kernel's ELF file, where there is one."""

    def address_of(self, name: str) -> int | None:
        """Where a symbol of the kernel's is, or None."""
        if self.symbols is None:
            return None
        link_va = self.symbols.table.address_of(name)
        return None if link_va is None else link_va + self.symbols.offset

    def name_of(self, va: int) -> str:
        """The symbol that an address of the kernel's image is in, or nothing."""
        found = self.symbols.lookup(va) if self.symbols is not None and va >> 63 else None
        return str(found) if found is not None else ""


Opener = Callable[[], AbstractContextManager[Source]]


@contextlib.contextmanager
def open_source(name: str, options: dict[str, Any]) -> Iterator[Source]:
    """The one guest that SOURCE names; raises UsageError where it names several."""
    found = openers((name,), options)
    if len(found) > 1:
        labels = ", ".join(label for label, _ in found)
        raise UsageError(
            f"'{safe(name)}' stands for {len(found)} guests ({labels}): name one, or choose with --page-size "
            "and --cpu"
        )
    ((_, opener),) = found
    with opener() as source:
        yield source


def openers(names: tuple[str, ...], options: dict[str, Any]) -> list[tuple[str, Opener]]:
    """A label for each guest that the SOURCEs stand for, and what opens it; none named: the default kernels.

    Everything that can be known to be wrong before a guest is booted raises UsageError here.
    """
    found: list[tuple[str, Opener]] = []
    for name in names or (None,):
        if name is not None and _is_snapshot(name):
            found.append((name, lambda name=name: _opened(name, options)))  # type: ignore[misc]
        else:
            found += _kernels(() if name is None else (name,), options)
    return found


def _is_snapshot(name: str) -> bool:
    """True for a file that is no kernel; a name that is no file is the catalogue's to know."""
    path = Path(name)
    if name in Catalogue.load().names or path.is_dir():
        return False
    if not path.exists():
        if "/" in name or path.suffix:
            raise UsageError(
                f"there is no file {safe(name)}; SOURCE is a snapshot, a core, a dump of memory or a kernel"
            )
        return False
    if not path.is_file():  # a pipe would wait for a writer
        raise UsageError(f"{safe(name)} is no regular file: a snapshot is mapped, not read through")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UsageError(f"cannot read {safe(name)}: {error.strerror}") from error
    return not any(head[at : at + len(magic)] == magic for at, magic in (_IMAGE, *_PACKED))


@contextlib.contextmanager
def _opened(name: str, options: dict[str, Any]) -> Iterator[Source]:
    with open_snapshot(Path(name), base_pa=options["base_pa"], registers=options["registers"]) as snapshot:
        vmlinux: Path | None = options["vmlinux"]
        yield Source(snapshot=snapshot, label=name, symbols=_symbols_of(snapshot, vmlinux), vmlinux=vmlinux)


def _symbols_of(snapshot: Snapshot, vmlinux: Path | None) -> Symboliser | None:
    """A vmlinux's symbols where VMCOREINFO says that its swapper_pg_dir is."""
    if vmlinux is None:
        return None
    symbols = Symboliser.of_vmlinux(vmlinux)
    link_va = symbols.table.address_of("swapper_pg_dir")
    info = vmcoreinfo_of(snapshot.memory, snapshot.first_tables)
    if info is None or link_va is None:
        raise UsageError(
            f"{snapshot.origin} does not say where the kernel is (VMCOREINFO), or {vmlinux} has no "
            "swapper_pg_dir: symbols cannot be placed; leave --vmlinux out"
        )
    return symbols.at_offset(info.swapper_va - link_va)


def _kernels(names: tuple[str, ...], options: dict[str, Any]) -> list[tuple[str, Opener]]:
    memory_mib: int = options["memory"]
    checks = (Check(run=page_size, memory_mib=dict.fromkeys(PageSize, memory_mib)),)
    console = make_console(sys.stderr)
    progress = KernelProgress()
    setting = Setting.make({**options, "kernels": names}, console, progress, checks)
    cells = plan(setting.request, setting.store, setting.bench.qemu, setting.beside).cells
    return [(cell.id, lambda cell=cell: _booted(cell, setting, console)) for cell in cells]  # type: ignore[misc]


@contextlib.contextmanager
def _booted(cell: Cell, setting: Setting, console: Console) -> Iterator[Source]:
    """A guest, booted to its shell and stopped; it is ended when the caller is done with it."""
    with booted(cell, setting, console) as guest:
        machine, kernel = guest.subject.machine, guest.subject.kernel
        said = guest.subject.sh("grep -m1 ' _text$' /proc/kallsyms").text
        console.print(f"granule: {cell.id} is up after {guest.seconds:.1f} s, and stopped", soft_wrap=True)
        with _stopped(machine, cell.id) as snapshot:
            moved = _moved(guest.symbols.get(), said)
            yield Source(snapshot=snapshot, label=cell.id, symbols=moved, vmlinux=kernel.vmlinux)


@contextlib.contextmanager
def _stopped(machine: Machine, origin: str) -> Iterator[Snapshot]:
    """The guest at a moment at which vCPU 0 is in the kernel."""
    for left in reversed(range(TRIES)):
        with machine.frozen() as frozen:
            snapshot = frozen.snapshot(origin)
            if left and snapshot.vcpus[0].el == 0:
                continue
            if "TCR_EL1" not in {name.upper() for name in snapshot.vcpus[0].registers}:
                raise ChannelError(f"{origin}: KVM does not show this vCPU's system registers")
            yield snapshot
            return


def _moved(symbols: Symboliser | None, kallsyms_line: str) -> Symboliser | None:
    """A kernel's symbols where KASLR put it, by where it says `_text` is."""
    words = kallsyms_line.split()
    if symbols is None or len(words) != 3:
        return symbols
    try:
        text_va = int(words[0], 16)
    except ValueError:
        return symbols
    return replace(symbols, offset=text_va - symbols.table.base) if text_va else symbols
