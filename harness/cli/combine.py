"""`granule combine`: one Image of several kernels."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.table import Table

from harness.build.selector import build_selector
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.errors import UsageError
from harness.kernels.combine import refuse_unfit
from harness.kernels.combined import Member, assemble
from harness.kernels.store import KernelStore
from harness.report.terminal import make_console
from harness.saving import replacing, saving_to

__all__ = ["combine"]


@click.command()
@click.argument("kernels", nargs=-1, required=True, metavar="KERNEL…")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The Image to write. It appears whole or not at all; an older file is replaced.",
)
@click.option(
    "--lz4", is_flag=True, help="Pack the kernels: under half of the size; large kernels start later."
)
@click.option("--offline", is_flag=True, help="Take only kernels that are in the cache.")
def combine(kernels: tuple[str, ...], output: Path, lz4: bool, offline: bool) -> None:  # fmt: skip
    """Make one arm64 Image of two or three kernels, of which arm64.pagesize= on its command line picks one.

    KERNEL is a name of the catalogue (see `granule kernels list`), a family such as trimmed, or an Image
    (plain, gzip, EFI zboot) or build tree with a '/' in its path. Each must have a page size of its own.

    The Image boots like any other: under QEMU with -kernel, or from a boot loader that follows Linux's
    protocol for arm64, but not through EFI. Without arm64.pagesize=, or where the CPU lacks the size, the
    largest that it has is started. It is several kernels in one file, not boot-time selection inside one
    kernel. `granule smoke --kernel combined` tests one that is made of the trimmed kernels.

    \b
    granule combine trimmed -o Image
    granule combine debian trimmed-64k -o Image
    granule combine ./linux-4k ./linux-16k/arch/arm64/boot/Image --lz4 -o Image
    granule smoke --kernel ./Image
    """
    progress = KernelProgress()
    cache = Cache()
    store = KernelStore(cache, offline=offline, progress=progress)
    names = [name for given in kernels for name in store.expand(given)]
    chosen = [store.get(name) for name in dict.fromkeys(names)]
    refuse_unfit(chosen)
    selector = (build_selector(Toolchain.find(), cache) / "selector.bin").read_bytes()
    if not output.absolute().parent.is_dir():
        raise UsageError(f"cannot save to {output}: there is no directory {output.absolute().parent}")
    progress(0, None, f"writing {output}")
    with saving_to(output), replacing(output) as file:
        members = assemble(selector, [(kernel.name, kernel.image) for kernel in chosen], file, lz4=lz4)
        os.fchmod(file.fileno(), 0o644)  # nothing in it is a secret, as it would be in a snapshot
    progress.close()
    _show(output, members)


def _show(output: Path, members: tuple[Member, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("KERNEL", "PAGES", "IMAGE", "IN THE FILE"):
        table.add_column(title, justify="right" if title.isupper() and title[0] == "I" else "left")
    for member in members:
        table.add_row(
            member.name, member.page_size.label, _size(member.size_bytes), _size(member.packed_bytes)
        )
    table.add_row(str(output), "boot-time", "", _size(output.stat().st_size))
    make_console(sys.stdout).print(table)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
