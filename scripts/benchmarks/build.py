"""The figures of `scripts/bench build`: one driver is changed, and the trimmed kernels are built again.

seconds_by_size   `granule kernels build` of that size, start to end
total_s           of all three
load              what else the machine was doing: processes that ran or waited, over the last minute

The change is a patch, which ccache has never seen; the tree is not written to. All sizes are built before,
which takes as long as it takes and is not measured.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import click

from benchmarks.output import as_json, printed

SIZES = ("4k", "16k", "64k")
GRANULE = Path(sys.executable).with_name("granule")


def change(tree: Path, name: str) -> str:
    """A patch that has the compiler make something else of a file."""
    before = (tree / name).read_text(encoding="utf-8").splitlines(keepends=True)
    word = f'static const char granule_bench[] __attribute__((used)) = "{uuid.uuid4()}";\n'
    return "".join(difflib.unified_diff(before, [*before, word], f"a/{name}", f"b/{name}"))


def built_s(tree: Path, patch: Path, size: str) -> float:
    """Seconds that one build takes."""
    start_s = time.monotonic()
    command = [str(GRANULE), "kernels", "build", "--tree", str(tree), "--patches", str(patch), "-p", size]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"scripts/bench: the build at {size} failed, see above")
    return time.monotonic() - start_s


def measure(tree: Path, name: str) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory() as directory:
        patch = Path(directory) / "change.patch"
        patch.write_text(change(tree, name), encoding="utf-8")
        for size in SIZES:
            built_s(tree, patch, size)
        patch.write_text(change(tree, name), encoding="utf-8")
        took = {size: round(built_s(tree, patch, size), 1) for size in SIZES}
    return {"seconds_by_size": took, "total_s": round(sum(took.values()), 1), "load": os.getloadavg()[0]}


def show(figures: dict[str, Any]) -> None:
    """For people."""
    for size, took_s in figures["seconds_by_size"].items():
        print(f"{size:4} {took_s:6.1f} s")
    print(f"all  {figures['total_s']:6.1f} s, load {figures['load']:.1f}")


@click.command()
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file", default="drivers/block/zram/zram_drv.c")
@as_json
def build(tree: Path, file: str, as_json: bool) -> None:
    """How long the three sizes of TREE take to build again after a change of one driver, FILE."""
    if not (tree / file).is_file():
        raise click.UsageError(f"there is no {file} in {tree}")
    printed(measure(tree, file), show, as_json)
