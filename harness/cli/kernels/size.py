"""`granule kernels size`: how large kernels are, and what they take of a guest's memory."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.cache import Cache
from harness.cli.booted import booted
from harness.cli.options import Setting, leave_out, machine_options
from harness.cli.progress import KernelProgress
from harness.errors import InfraError, UsageError
from harness.kernels.copied import shown
from harness.kernels.kernel import Kernel
from harness.kernels.size import belonging, measure
from harness.kernels.store import KernelStore, is_path
from harness.linux.meminfo import GuestMemory, boot_memory, mem_total_kib, memmap_kib
from harness.matrix.cell import Cell
from harness.matrix.plan import plan
from harness.report import write_whole
from harness.report.sizes.comparison import Comparison, SizedGuest
from harness.report.sizes.json import render_json
from harness.report.sizes.page import render_page
from harness.report.sizes.picture import render_picture
from harness.report.sizes.terminal import print_comparison
from harness.report.terminal import make_console
from harness.smoke import Check
from harness.smoke.check import BASE_MEMORY_MIB
from harness.smoke.page_size import page_size
from harness.spec import PageSize

__all__ = ["size"]

_OUTPUT = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A kernel as it was asked for, and what reports call it."""

    given: str
    label: str
    kernel: Kernel


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="KERNEL…")
@click.option(
    "--base", metavar="KERNEL", help="The one of them that others are held against. Default: the first."
)
@click.option(
    "--vmlinux",
    "vmlinuxes",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ELF file of one of the kernels, found by its build ID. May be given again. Build trees "
    "and kernels that granule built bring their own.",
)
@click.option("--no-boot", is_flag=True, help="Leave out what booted guests lose; needs no QEMU.")
@click.option("--picture", type=_OUTPUT, metavar="FILE.svg", help="Draw it, too.")
@click.option("--html", "page", type=_OUTPUT, metavar="FILE.html", help="Picture and tables as a web page.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON value on stdout, no tables.")
@click.option(
    "--memory",
    type=click.IntRange(128),
    default=BASE_MEMORY_MIB,
    show_default=True,
    metavar="MIB",
    help="RAM of the guests.",
)
@leave_out("kernels", "vmlinux")
@machine_options
def size(
    names: tuple[str, ...],
    base: str | None,
    vmlinuxes: tuple[Path, ...],
    no_boot: bool,
    picture: Path | None,
    page: Path | None,
    as_json: bool,
    memory: int,
    **options: Any,
) -> None:  # fmt: skip
    """Compare the sizes of kernels: Image, compressed, text, data, bss, and memory that a guest loses.

    KERNEL is a name of the catalogue, a family (trimmed), or an Image or build tree with a '/' in its path.
    Each is held against one of them, in KB and percent. Guests are booted, one per kernel and page size, to
    see what is left of their RAM. Compressing takes up to a minute, once per Image.

    \b
    granule kernels size trimmed
    granule kernels size ~/linux-before ~/linux-after --picture growth.svg
    granule kernels size debian --base debian-16k --no-boot
    """  # fmt: skip
    for output in filter(None, (picture, page)):
        if not output.parent.is_dir():
            raise UsageError(f"there is no directory {output.parent} to put {output.name} in")
    console, progress = make_console(sys.stderr), KernelProgress()
    checks = (Check(run=page_size, memory_mib=dict.fromkeys(PageSize, memory)),)
    setting = None
    if not no_boot:
        options |= {"kernels": (), "vmlinux": None}
        setting = Setting.make(options, console, progress, checks)
    cache = setting.bench.cache if setting else Cache()
    store = setting.store if setting else KernelStore(cache, offline=options["offline"], progress=progress)
    wanted = _wanted(names, base, store, setting)
    held_against = _base(base, wanted)
    wanted = _with_vmlinuxes(wanted, vmlinuxes)
    cells, without = _cells(wanted, setting)
    comparison = Comparison(
        kernels=tuple(measure(one.kernel, one.label, cache, progress) for one in wanted),
        base=held_against,
        guests=tuple(_guest(cell, wanted, setting, console) for cell in cells if setting),
        without_guest=without,
    )
    progress.close()
    if picture is not None:
        _write(picture, render_picture(comparison))
    if page is not None:
        _write(page, render_page(comparison))
    if as_json:
        click.echo(render_json(comparison), nl=False)
    else:
        print_comparison(comparison, make_console(sys.stdout))


def _wanted(
    names: tuple[str, ...], base: str | None, store: KernelStore, setting: Setting | None
) -> tuple[_Wanted, ...]:
    """The kernels, fetched or built where need be, each with a label of its own."""
    given = tuple(dict.fromkeys(name for word in names for name in store.expand(word)))
    files = [name for name in given if is_path(name, store.catalogue)]
    beside = setting.beside if setting else None
    if beside is not None and len(files) != 1:
        raise UsageError("--modules, --initrd and --config go with one kernel file, and here are " + (
            f"{len(files)}: leave them out with --no-boot" if files else "none"
        ))  # fmt: skip
    if base is not None and base not in given and not files:  # before anything is fetched or built
        _refuse_base(base, given)
    kernels = [store.get(name, beside=beside if name in files else None) for name in given]
    known = Counter(kernel.name for kernel in kernels)
    return tuple(
        _Wanted(given=name, label=kernel.name if known[kernel.name] == 1 else shown(name), kernel=kernel)
        for name, kernel in zip(given, kernels, strict=True)
    )


def _base(base: str | None, wanted: tuple[_Wanted, ...]) -> str:
    if base is None:
        return wanted[0].label
    found = next((one.label for one in wanted if base in (one.given, one.label)), None)
    return _refuse_base(base, tuple(one.label for one in wanted)) if found is None else found


def _refuse_base(base: str, labels: tuple[str, ...]) -> str:
    raise UsageError(
        f"--base {shown(base)} is not among the kernels that are compared; choose one of {', '.join(labels)}"
    )


def _with_vmlinuxes(wanted: tuple[_Wanted, ...], vmlinuxes: tuple[Path, ...]) -> tuple[_Wanted, ...]:
    for vmlinux in vmlinuxes:
        owner = belonging(vmlinux, tuple(one.kernel for one in wanted))
        wanted = tuple(
            replace(one, kernel=replace(one.kernel, vmlinux=vmlinux)) if one.kernel is owner else one
            for one in wanted
        )
    return wanted


def _cells(wanted: tuple[_Wanted, ...], setting: Setting | None) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The guests to boot, and why some cannot be."""
    if setting is None:
        return (), ()
    if len(setting.request.cpus) > 1:
        raise UsageError("one guest is booted per kernel and page size: give one --cpu")
    request = replace(setting.request, kernels=tuple(one.given for one in wanted))
    found = plan(request, setting.store, setting.bench.qemu, setting.beside)
    return found.cells, tuple(f"no guest {skipped.id}: {skipped.reason}" for skipped in found.skipped)


def _guest(cell: Cell, wanted: tuple[_Wanted, ...], setting: Setting, console: Console) -> SizedGuest:
    """What a guest says of its memory."""
    try:
        with booted(cell, setting, console) as guest:
            meminfo = guest.subject.sh("cat /proc/meminfo").text
            vmstat = guest.subject.sh("cat /proc/vmstat").text
            log = guest.subject.machine.transcript.content().decode("utf-8", "replace")
    except InfraError as error:
        raise InfraError(f"{error}. --no-boot leaves the guests out.") from error
    total_kib = mem_total_kib(meminfo)
    if total_kib is None:
        raise InfraError(f"{cell.id}: /proc/meminfo has no MemTotal. --no-boot leaves the guests out.")
    return SizedGuest(
        kernel=next(one.label for one in wanted if one.given == cell.kernel),
        page_size=cell.page_size,
        memory=GuestMemory(
            given_kib=cell.memory_mib << 10,
            total_kib=total_kib,
            boot=boot_memory(log),
            memmap_kib=memmap_kib(vmstat, cell.page_size.bytes >> 10),
        ),
    )


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise InfraError(f"cannot write {path}: {error.strerror or error}") from error
    click.echo(f"granule: wrote {path}", err=True)
