"""`granule kernels build`: a tree, a configuration and patches of the user's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from harness.cache import Cache
from harness.cli.kernels.failed_build import print_failed_build
from harness.cli.options import parse_words
from harness.cli.progress import KernelProgress
from harness.errors import UsageError
from harness.kernels.catalogue import BOOT_TIME, Catalogue
from harness.kernels.kbuild.build import BuildFailed
from harness.kernels.kbuild.configs import BOOT, read_configuration
from harness.kernels.kbuild.making import Made
from harness.kernels.source import SourceKernels
from harness.kernels.store import KernelStore
from harness.kernels.trees.patches import read_all_series
from harness.spec import PageSize

__all__ = ["build"]

_SHOWN = 5
_ALL_SIZES = ("4k", "16k", "64k")


_OPTIONS = (
    click.option("--tree", required=True, metavar="DIR|TARBALL|REF",
                 help="Kernel source: a directory without a build in it, a .tar (.gz, .xz, .zst), or a "
                      "commit: REPOSITORY@REF, or REF of the repository you are in. Never written to."),
    click.option("--config", "configs", multiple=True, metavar="FILE|NAME,…",
                 help="Fragments, ours by name or files, each option of which has to survive; and at most "
                      "one base under them: a full .config, or a make target such as defconfig. "
                      "Default: trimmed,ptdump."),
    click.option("--page-size", "-p", "page_sizes", multiple=True, metavar="SIZE,…",
                 help="4k, 16k, 64k, or boot: a kernel that takes it at boot. One build each, in an output "
                      "directory of its own. Default: 4k,16k,64k."),
    click.option("--patches", multiple=True, metavar="MBOX|DIR", type=click.Path(path_type=Path),
                 help="A series to build with: a mailbox (git format-patch --stdout, b4 am), a quilt "
                      "directory, or one diff. May be given again. Applied to a copy."),
    click.option("--like", metavar="NAME",
                 help="Take fragments and page size of that kernel of the catalogue: trimmed-16k."),
    click.option("--keep-going", is_flag=True, help="Compile all that can be, although something failed."),
    click.option("--table", "as_table", is_flag=True, help="Print a table instead of the Images' paths."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the Images' paths."),
)  # fmt: skip


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_options
def build(
    tree: str,
    configs: tuple[str, ...],
    page_sizes: tuple[str, ...],
    patches: tuple[Path, ...],
    like: str | None,
    keep_going: bool,
    as_table: bool,
    as_json: bool,
) -> None:
    """Build kernels of your own; prints the path of each Image, one a line.

    \b
    granule kernels build --tree ~/linux                        # trimmed kernels: 4K, 16K, 64K
    granule kernels build --tree linux-6.12.tar.xz -p 64k --config .config
    granule kernels build --tree ~/linux@v6.12 --patches series.mbox
    granule smoke --kernel "$(granule kernels build --tree ~/linux | paste -sd,)"

    Sizes are built one after the other, each with as many compilers as processors and memory allow. Tree,
    configuration and page size have an output directory of their own in the cache, so that the next build
    compiles only what has changed, also what other --patches have changed.

    A fragment's option that does not survive fails the build. Options of a full .config that this tree does
    not know, or that depend on what is off, are dropped, and said. Building runs the makefiles of the tree.
    """
    if as_table and as_json:
        raise UsageError("--table and --json: one of them")
    if like and (configs or page_sizes):
        raise UsageError("--like NAME says configuration and page size; leave out --config and --page-size")
    catalogue = Catalogue.load()
    series = read_all_series(patches)
    progress = KernelProgress()
    plain = not (as_table or as_json)

    def told(made: Made) -> None:
        progress.close()
        _say(made)
        if plain:
            click.echo(str(made.kernel.image))
            sys.stdout.flush()

    cache = Cache()
    try:
        if like:
            store = KernelStore(cache, progress=progress, catalogue=catalogue)
            made: tuple[Made, ...] = (store.build_tree(like, tree, series, keep_going=keep_going),)
            told(made[0])
        else:
            configuration = read_configuration(parse_words(configs), catalogue) if configs else None
            sizes = tuple(dict.fromkeys(map(_size, parse_words(page_sizes) or _ALL_SIZES)))
            kernels = SourceKernels(cache, catalogue, progress=progress)
            made = kernels.build(tree, configuration, sizes, series, keep_going=keep_going, made=told)
    except BuildFailed as error:
        progress.close()
        print_failed_build(error, sys.stderr)
        raise
    finally:
        progress.close()
    if as_json:
        click.echo(json.dumps([_facts(one) for one in made], indent=1))
    elif as_table:
        Console().print(_table(made))


def _size(word: str) -> PageSize | None:
    """A page size, or None for one chosen at boot; raises UsageError for neither."""
    if word.strip().lower() in (BOOT, BOOT_TIME):
        return None
    try:
        return PageSize.parse(word)
    except UsageError as error:
        raise UsageError(f"{error}, or {BOOT}") from None


def _label(made: Made) -> str:
    """The page size that the Image's header has."""
    size = made.kernel.page_size
    return "unspecified" if size is None else size.label


def _say(made: Made) -> None:
    """What a person wants to know, on stderr."""
    kernel = made.kernel
    click.echo(
        f"{kernel.name}: {kernel.release}, {_label(made)} pages by its header, sha256 {kernel.sha256[:16]}",
        err=True,
    )
    if made.dropped:
        names = ", ".join(f"CONFIG_{missing.option}" for missing in made.dropped[:_SHOWN])
        more = ", …" if len(made.dropped) > _SHOWN else ""
        click.echo(
            f"{kernel.name}: {len(made.dropped)} options of the configuration were dropped: {names}{more} "
            f"(all of them: {made.dropped_list})",
            err=True,
        )


def _facts(made: Made) -> dict[str, object]:
    kernel = made.kernel
    return {
        "name": kernel.name,
        "page_size": None if kernel.page_size is None else kernel.page_size.token,
        "boot_time": kernel.is_boot_time,
        "release": kernel.release,
        "image": str(kernel.image),
        "sha256": kernel.sha256,
        "origin": kernel.origin,
        "config": str(kernel.config) if kernel.config else None,
        "modules": str(kernel.modules) if kernel.modules else None,
        "vmlinux": str(kernel.vmlinux) if kernel.vmlinux else None,
        "dropped_options": [missing.option for missing in made.dropped],
    }


def _table(made: tuple[Made, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("kernel", "pages", "release", "dropped", "image"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "dropped" else "left")
    for one in made:
        kernel = one.kernel
        dropped = str(len(one.dropped))
        table.add_row(kernel.name, _label(one), kernel.release, dropped, str(kernel.image))
    return table
