"""`granule guests`: distribution guests made ahead of the run that wants them."""

from __future__ import annotations

import click

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.errors import UsageError
from harness.guests import DiskGuests
from harness.kernels.store import KernelStore
from harness.qemu.probe import Qemu
from harness.spec import GuestKind

__all__ = ["guests"]


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--refresh", is_flag=True, help="Make them of the archive's newest packages.")
@click.option("--offline", is_flag=True, help="Take only what is in the cache.")
def guests(names: tuple[str, ...], refresh: bool, offline: bool) -> None:
    """Make distribution guests now (debian, debian-lvm), so that later runs can be --offline.

    A run makes what it lacks by itself. A guest that is there keeps its packages until --refresh.
    """
    kinds = tuple(map(GuestKind.parse, names))
    for kind in kinds:
        if not kind.is_on_disk:
            raise UsageError(f"{kind.value} is made with each kernel: see `granule kernels fetch`")
    progress = KernelProgress()
    cache = Cache()
    store = KernelStore(cache, offline=offline, progress=progress)
    micro = MicroGuest(cache, offline=offline, progress=progress)
    made = DiskGuests(cache, micro, Qemu.find(), store, offline=offline, refresh=refresh, progress=progress)
    for kind in kinds:
        image = made.image(kind)
        progress.close()
        click.echo(f"{kind.value}: {image.key}, {made.packages} packages")
