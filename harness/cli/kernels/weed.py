"""`granule kernels weed`: from a configuration that does not build to one that does."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.cli.kernels.weed_table import print_outcome
from harness.cli.options import parse_words
from harness.cli.progress import KernelProgress
from harness.errors import ExitStatus, UsageError
from harness.kernels.catalogue import Catalogue
from harness.kernels.kbuild.build import Build, check_tree, jobs_here
from harness.linux.kconfig import read_config
from harness.saving import replacing
from harness.spec import PageSize
from harness.weed.publish import published
from harness.weed.verdicts import Outcome
from harness.weed.weeding import Weeding
from harness.weed.workbench import Workbench, prepared

__all__ = ["weed"]

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--tree",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A kernel source tree; it is never written to.",
)
@click.option(
    "--config",
    "given",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration to start from, say a distribution's /boot/config-….",
)
@click.option(
    "--keep", multiple=True, metavar="OPTION,…", help="Never turned off: if one does not build, that is said."
)
@click.option(
    "--only",
    multiple=True,
    metavar="DIR,…",
    help="Build only these directories: drivers/net,fs. No Image then.",
)
@click.option(
    "--page-size", "size", metavar="SIZE", help="4k, 16k or 64k. Default: what the configuration has."
)
@click.option("-o", "--output", type=_FILE, metavar="FRAGMENT", help="Write what to turn off, as Kconfig.")
@click.option("--config-out", type=_FILE, metavar="FILE", help="Write the whole working .config.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON value on stdout.")
def weed(
    tree: Path,
    given: Path,
    keep: tuple[str, ...],
    only: tuple[str, ...],
    size: str | None,
    output: Path | None,
    config_out: Path | None,
    as_json: bool,
) -> None:
    """Find a minimal set of options to turn off so that a tree, parts of which do not build, builds.

    Builds everything with make -k, maps what failed (compiling, linking, modpost) to the options that had it
    built, turns those off, and goes on until nothing fails. Then each option is turned on alone, to prove
    that it has to be off. Costs little more than one build of everything, and a short one for each option;
    later runs on the same tree reuse its objects. --only builds some directories of a large configuration.

    \b
    Examples:
      granule kernels weed --tree ~/linux --config /boot/config-6.12.0 -o weeded.config
      granule kernels weed --tree ~/linux --config debian.config --page-size 64k --keep XFS_FS,HYPERV
      granule kernels weed --tree ~/linux --config debian.config --only drivers/net,fs --json

    Exit status: 0 the tree builds; 1 something that is to be kept, or that no option turns off, does not.
    """
    for path in (output, config_out):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write {path}: its directory does not exist. Make it first.")
    source = tree.resolve()
    check_tree(source)
    directories = _directories(source, only)
    changes, notes, base = _base(source, given, size)
    require_programs()
    progress = KernelProgress()
    cache = Cache()
    with cache.workdir(_name(source, size), waiting=lambda what: progress(0, None, what)) as build_directory:
        build = Build(
            source=source,
            output=build_directory,
            toolchain=Toolchain.find(),
            ccache_dir=cache.shared_workdir("ccache"),
            jobs=jobs_here(),
            expected_steps=0,
            progress=progress,
        )
        build.log.write_bytes(b"")
        weeding = Weeding(
            Workbench(build=build, base=base),
            keep=frozenset(option.removeprefix("CONFIG_") for option in _words(keep)),
            only=directories,
            changes=changes,
            notes=notes,
        )
        try:
            outcome = published(cache, build, weeding.run())
        except BaseException:
            progress.close()
            _show(weeding.outcome(), as_json)
            raise
    progress.close()
    _write(output, outcome.fragment)
    _write(config_out, outcome.config)
    _show(outcome, as_json)
    click.get_current_context().exit(ExitStatus.PASSED if outcome.works else ExitStatus.FAILED)


def _base(tree: Path, given: Path, size: str | None) -> tuple[str, tuple[str, ...], str]:
    """What is changed in the configuration first, notes about it, and its text with that."""
    config = read_config(given)
    fragment = ""
    if size is not None:
        name = f"page-{PageSize.parse(size).token}"
        fragment = Catalogue.load().fragment(name).read_text(encoding="utf-8")
    changes, notes = prepared(config, tree, fragment)
    text = given.read_text(encoding="utf-8", errors="replace")
    return changes, notes, f"{text}\n{changes}\n"


def _directories(tree: Path, only: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip("/") for name in _words(only)))
    for name in names:
        path = tree / name
        has_makefile = any((path / file).is_file() for file in ("Kbuild", "Makefile"))
        if not name or ".." in path.parts or not has_makefile:
            raise UsageError(
                f"--only names {name}, which is no directory of {tree} that kbuild builds: give paths from "
                "its top, such as drivers/net,fs"
            )
    return names


def _words(given: tuple[str, ...]) -> list[str]:
    return [word for word in map(str.strip, parse_words(given)) if word]


def _name(tree: Path, size: str | None) -> str:
    digest = hashlib.sha256(str(tree).encode()).hexdigest()[:12]
    return f"weed-{digest}-{PageSize.parse(size).token if size else 'as-given'}"


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with replacing(path) as file:
            file.write(text.encode())
            os.fchmod(file.fileno(), 0o644)


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = outcome.as_json()
        click.echo(json.dumps(shown, indent=1))
    else:
        print_outcome(outcome, sys.stdout)
