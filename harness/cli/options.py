"""The options that several commands share: which kernels, which machine, how long."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.errors import UsageError
from harness.guests import DiskGuests
from harness.guests.image import AUTO, OwnDisk, parse_root, read_image
from harness.guests.recipe import load_recipe
from harness.kernels.file import Beside
from harness.kernels.store import KernelStore
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Request
from harness.matrix.guests import Guests
from harness.matrix.post_mortem import DEFAULT_LIMIT
from harness.matrix.run import Bench
from harness.qemu.probe import Qemu
from harness.smoke import CHECKS, EVERY_CHECK, Check
from harness.smoke.check import BASE_MEMORY_MIB
from harness.spec import Accel, Feature, GuestKind, PageSize, Platform

__all__ = [
    "Setting",
    "adding",
    "guest_kind_options",
    "guest_options",
    "leave_out",
    "machine_options",
    "matrix_options",
    "parse_checks",
    "parse_words",
    "program",
]

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, path_type=Path)

_OPTIONS = (
    click.option("--kernel", "-k", "kernels", metavar="NAME|PATH,…", multiple=True,
                 help="Catalogue names (see `granule kernels list`), a family (debian, trimmed), an Image "
                      "(plain, gzip, EFI zboot), a .deb or .rpm, or a build tree, with a '/' in its path."),
    click.option("--page-size", "-p", "page_sizes", metavar="SIZE,…", multiple=True,
                 help="4k, 16k, 64k. Without it: every size, or the one in the kernel's header."),
    click.option("--cpu", "cpus", metavar="MODEL,…", multiple=True,
                 help="QEMU CPU models, with properties after a '+': max+lpa2=off. "
                      "Default: neoverse-n1; host on KVM."),
    click.option("--accel", type=click.Choice([accel.value for accel in Accel]), default="auto",
                 show_default=True, help="auto takes KVM where an arm64 host has it, else TCG."),
    click.option("--vcpus", type=click.IntRange(1, 64), default=2, show_default=True),
    click.option("--with", "features", metavar="FEATURE,…", multiple=True,
                 help="What QEMU's machine has only when asked: el2 (kernels then run at EL2, with VHE where "
                      "the CPU has it), mte (tag memory, for CPU models with MTE)."),
    click.option("--platform", "platforms", metavar="PLATFORM,…", multiple=True, default=("virt",),
                 help="virt, or hyperv: the kernel finds itself on Hyper-V, with VMBus, storvsc and netvsc "
                      "(docs/hyperv.md). TCG only, and every guest is booted. Default: virt."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(1), metavar="SECONDS",
                 help="For each cell. Default: scaled to the accelerator and the CPU model."),
    click.option("--modules", type=FILE, help="With a kernel file: its lib/modules/RELEASE directory."),
    click.option("--initrd", type=FILE, help="With a kernel file: an initramfs unpacked over ours."),
    click.option("--vmlinux", type=FILE, help="With a kernel file: its ELF, for symbols in diagnoses."),
    click.option("--config", type=FILE, help="With a kernel file: its .config."),
    click.option("--cmdline", default="", help="Added to the guest's kernel command line."),
    click.option("--force", is_flag=True, help="Boot even what is bound to hang, and diagnose it."),
    click.option("--boot-time/--no-boot-time", default=None,
                 help="Whether kernels take their page size from arm64.pagesize=, whatever their headers "
                      "say."),
    click.option("--offline", is_flag=True, help="Take only kernels that are in the cache."),
    click.option("--cold", is_flag=True,
                 help="Boot every guest. Otherwise a guest is a clone of one that was booted before, on this "
                      "host or in this run, with the same kernel, QEMU and machine."),
)  # fmt: skip


_MATRIX_OPTIONS = (
    click.option("--jobs", "-j", type=click.IntRange(1), help="Guests at once. Default: one per processor."),
    click.option("--report", type=click.Path(file_okay=False, path_type=Path), default="granule-report",
                 show_default=True, metavar="DIR",
                 help="Where report.json, junit.xml, report.html and consoles go."),
    click.option("--snapshot", is_flag=True,
                 help="Keep the guest of a cell that does not pass, for `granule tables` and gdb."),
    click.option("--snapshot-limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True,
                 metavar="N", help="Guests to keep of one run, at most."),
)  # fmt: skip

_GUEST_OPTIONS = (
    click.option("--put", multiple=True, type=FILE, metavar="PATH",
                 help="A program, module or directory to copy to /root in the guest. May be given again."),
    click.option("--memory", type=click.IntRange(128), default=BASE_MEMORY_MIB, show_default=True,
                 metavar="MIB", help="Guest RAM."),
)  # fmt: skip


_GUEST_KIND_OPTIONS = (
    click.option("--guest", "guests", metavar="NAME,…", multiple=True,
                 help="What the kernel starts: micro (busybox in RAM), debian, or debian-lvm (root on a "
                      "logical volume); docs/debian.md. Default: micro."),
    click.option("--disk", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                 help="A disk image of yours, raw or qcow2, is the guest: its root, under each kernel. "
                      " It is never written to; docs/images.md."),
    click.option("--root", "own_root", metavar="WHERE",
                 help="With --disk: LABEL=NAME, UUID=ID or /dev/GROUP/VOLUME. Default: the only one."),
    click.option("--recipe", metavar="NAME|FILE",
                 help="What a disk of yours is like, in place of options: rhel, or a file; docs/images.md."),
)  # fmt: skip


def adding(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    """A decorator that gives a command these options, in their order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


machine_options = adding(_OPTIONS)
"""Gives a command the options that say which guests to run."""

matrix_options = adding(_MATRIX_OPTIONS)
"""The options of a command that runs many cells."""

guest_kind_options = adding(_GUEST_KIND_OPTIONS)
"""Lets a command be asked for another guest than the micro guest."""

guest_options = adding(_GUEST_OPTIONS)
"""The options of a command that puts something of the user's into a guest."""


def leave_out(*names: str) -> Callable[[F], F]:
    """Takes from a command those of the options below it whose place something of its own takes."""

    def take(command: F) -> F:
        parameters: list[click.Parameter] = command.__click_params__  # type: ignore[attr-defined]
        parameters[:] = [one for one in parameters if one.name not in names]
        return command

    return take


def program() -> str:
    """How this program is called: its name where that finds it, else its path."""
    name = Path(sys.argv[0]).name
    return name if shutil.which(name) else sys.argv[0]


def parse_words(values: tuple[str, ...]) -> tuple[str, ...]:
    """What an option that takes a list and may be given again was given."""
    return tuple(word for value in values for word in value.split(",") if word)


def parse_checks(values: tuple[str, ...]) -> tuple[Check, ...]:
    """The named checks in the order they run, CHECKS for no name; raises UsageError for an unknown one."""
    names = set(parse_words(values))
    if not names:
        return CHECKS
    every = EVERY_CHECK
    unknown = names - {check.name for check in every}
    if unknown:
        known = ", ".join(check.name for check in every)
        raise UsageError(f"there is no check '{sorted(unknown)[0]}'; there are {known}")
    return tuple(check for check in every if check.name in names)


def _own_disk(options: Mapping[str, Any]) -> OwnDisk | None:
    """The disk of the user's; raises UsageError where it can be none, or it is described and not there."""
    name = options.get("recipe")
    recipe = None if name is None else load_recipe(name)
    path, root = options.get("disk"), options.get("own_root")
    if recipe is not None:
        path, root = path or recipe.disk, root or recipe.root
    if path is None:
        if root is not None or recipe is not None:
            raise UsageError("--root and --recipe say what is on a disk of yours: give that with --disk")
        return None
    return OwnDisk(
        image=read_image(path.absolute()),
        root=AUTO if root is None else parse_root(root),
        words=() if recipe is None else recipe.words,
    )


def _own_options(own: OwnDisk | None, options: Mapping[str, Any]) -> tuple[str, ...]:
    """How a disk of the user's is named when a cell is run again."""
    if own is None:
        return ()
    recipe = () if options.get("recipe") is None else ("--recipe", options["recipe"])
    return ("--disk", str(own.image.path), "--root", own.root, *recipe)


def _guests(options: Mapping[str, Any], own: OwnDisk | None) -> tuple[GuestKind, ...]:
    named = tuple(dict.fromkeys(map(GuestKind.parse, parse_words(options.get("guests", ())))))
    if named and (GuestKind.IMAGE in named) != (own is not None):
        raise UsageError("--guest image and --disk FILE go together: --disk by itself is enough")
    return named or ((GuestKind.MICRO,) if own is None else (GuestKind.IMAGE,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A command's options made into what the matrix works with."""

    request: Request
    beside: Beside | None
    store: KernelStore
    bench: Bench
    console: Console
    kernel_progress: KernelProgress
    own: OwnDisk | None = None
    """A disk of the user's that is a guest."""

    @classmethod
    def make(
        cls,
        options: dict[str, Any],
        console: Console,
        progress: KernelProgress,
        checks: tuple[Check, ...],
        command: tuple[tuple[str, ...], tuple[str, ...]] | None = None,
    ) -> Setting:
        """From the values of `machine_options`; raises UsageError or ToolMissing.

        `command` is how a cell is run again: what stands before the options, and after them.
        """
        beside_names = ("modules", "initrd", "vmlinux", "config")
        given = {name: options[name] for name in beside_names if options[name] is not None}
        words = [word for name, path in given.items() for word in (f"--{name}", str(path))]
        cache, qemu = Cache(), Qemu.find()
        store = KernelStore(cache, offline=options["offline"], progress=progress)
        micro = MicroGuest(cache, offline=options["offline"], progress=progress)
        own = _own_disk(options)
        guests = Guests(cache, qemu, cold=options["cold"], total_mib=guest_memory_mib())
        click.get_current_context().call_on_close(guests.close)
        return cls(
            request=Request(
                kernels=parse_words(options["kernels"]),
                page_sizes=tuple(dict.fromkeys(map(PageSize.parse, parse_words(options["page_sizes"])))),
                cpus=tuple(cpu.replace("+", ",") for cpu in parse_words(options["cpus"])),
                accel=Accel(options["accel"]),
                vcpus=options["vcpus"],
                checks=checks,
                timeout_s=options["timeout_s"],
                force=options["force"],
                boot_time=options["boot_time"],
                cmdline=options["cmdline"],
                features=tuple(dict.fromkeys(map(Feature.parse, parse_words(options["features"])))),
                platforms=tuple(dict.fromkeys(map(Platform.parse, parse_words(options["platforms"]))))
                or (Platform.VIRT,),
                guests=_guests(options, own),
                guest_options=_own_options(own, options),
                kernel_options=tuple(words),
                command=command or ((program(), "smoke"), ()),
            ),
            beside=Beside(**given) if given else None,
            store=store,
            bench=Bench(
                qemu=qemu,
                cache=cache,
                guest=micro,
                guests=guests,
                on_disk=DiskGuests(
                    cache, micro, qemu, store, offline=options["offline"], own=own, progress=progress
                ),
            ),
            console=console,
            kernel_progress=progress,
            own=own,
        )
