"""`granule kernels fetch`."""

from __future__ import annotations

import click

from harness.build.disks import prepare_disks
from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.kernels.store import KernelStore
from harness.spec import PageSize

__all__ = ["fetch"]


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--refresh", is_flag=True, help="Look for a newer one in the archive.")
@click.option("--offline", is_flag=True, help="Take only what is in the cache.")
def fetch(names: tuple[str, ...], refresh: bool, offline: bool) -> None:
    """Fetch or build kernels now, and all their guests need, so that later runs can be --offline."""
    progress = KernelProgress()
    cache = Cache()
    store = KernelStore(cache, offline=offline, progress=progress)
    guest = MicroGuest(cache, offline=offline, progress=progress)
    for name in (member for given in names for member in store.expand(given)):
        kernel = store.get(name, refresh=refresh)
        progress.close()
        click.echo(f"{name}: {kernel.release}, sha256 {kernel.sha256[:16]}, {kernel.origin}")
        for size in PageSize if kernel.page_size is None else (kernel.page_size,):
            guest.prepare(kernel.running(size))
            _ = guest.sshd
            progress(0, None, f"making the disks for {size.label}")
            prepare_disks(cache, size)
        progress.close()
