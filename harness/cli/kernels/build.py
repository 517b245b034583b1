"""`granule kernels build`: a tree of the user's."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cache import Cache
from harness.cli.progress import KernelProgress
from harness.kernels.store import KernelStore

__all__ = ["build"]


@click.command()
@click.option(
    "--tree",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A kernel source tree; it is never written to.",
)
@click.option(
    "--like", required=True, metavar="NAME", help="Catalogue kernel whose fragments to use: trimmed-16k."
)
def build(tree: Path, like: str) -> None:
    """Build a source tree of yours with the fragments of a catalogue kernel; prints the Image's path."""
    progress = KernelProgress()
    kernel = KernelStore(Cache(), progress=progress).build_tree(like, tree)
    progress.close()
    click.echo(f"{kernel.release}, sha256 {kernel.sha256[:16]}", err=True)
    click.echo(str(kernel.image))
