"""`granule kselftest`: a collection of Linux's own tests in every cell, each test a check of its own."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.cli.options import FILE, Setting, machine_options, matrix_options, parse_words, program
from harness.cli.progress import KernelProgress
from harness.cli.smoke import run_and_report
from harness.errors import UsageError
from harness.kernels.trees.origin import SourceTree
from harness.kselftest.build import Suite, build_suite
from harness.kselftest.check import choose, suite_checks
from harness.kselftest.facts import Facts, Needs
from harness.kselftest.judge import UNEXPECTED_PASS
from harness.kselftest.script import Listed
from harness.matrix.plan import plan
from harness.report.terminal import make_console
from harness.spec import PageSize
from harness.verdict import CellResult, MatrixResult, Verdict

__all__ = ["kselftest"]

DEFAULT_MEMORY_MIB = 1024
CELL_S = 7200.0
HUGE_PAGES = "default_hugepagesz=2M hugepagesz=2M"
"""The one size that every page size has: a block at 4K, contiguous pages at 16K and at 64K, where blocks are
512 MiB."""


@click.command()
@machine_options
@matrix_options
@click.argument("collection", default="mm")
@click.option(
    "--tree",
    metavar="TREE",
    help="The kernel's source, as `granule kernels build --tree` takes it. "
    "Default: the source package of a kernel of the catalogue.",
)
@click.option(
    "--category",
    "categories",
    metavar="NAME,…",
    multiple=True,
    help="Only tests of these categories; --list names them.",
)
@click.option(
    "--test",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only the test of that command, or those of that program. May be given again.",
)
@click.option(
    "--memory",
    type=click.IntRange(128),
    default=DEFAULT_MEMORY_MIB,
    show_default=True,
    metavar="MIB",
    help="Guest RAM. Tests that need more are listed as not run.",
)
@click.option(
    "--known-failures",
    "more",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Known failures of your own, in the form of guests/kselftest/mm.toml.",
)
@click.option(
    "--list", "only_list", is_flag=True, help="Print the tests of the source and what they need, and end."
)
def kselftest(
    collection: str,
    tree: str | None,
    categories: tuple[str, ...],
    names: tuple[str, ...],
    memory: int,
    more: tuple[Path, ...],
    only_list: bool,
    jobs: int | None,
    report: Path,
    snapshot: bool,
    snapshot_limit: int,
    **options: Any,
) -> None:  # fmt: skip
    """Build a COLLECTION of kselftest (mm) from the kernel's source, and run its tests at each page size.

    A test is a check: it passes when all of its points and its exit status do, but for known failures, which
    are listed with their reasons. One that hangs is a TIMEOUT, and the next one runs.

    \b
    granule kselftest mm --page-size 4k,16k,64k
    granule kselftest mm --kernel trimmed --category mremap,mdwe
    granule kselftest mm --kernel ./Image --config .config --tree ~/linux
    """
    facts = Facts.load(collection, more)
    chosen = parse_words(categories)
    console = make_console(sys.stdout)
    setting = Setting.make(
        options, console, KernelProgress(), (), _again(collection, tree, chosen, names, memory, more)
    )
    request = setting.request
    if "default_hugepagesz=" not in request.cmdline:
        request = dataclasses.replace(request, cmdline=f"{request.cmdline} {HUGE_PAGES}".strip())
    if request.timeout_s is None:
        request = dataclasses.replace(request, timeout_s=CELL_S)
    setting = dataclasses.replace(setting, request=request)
    suite = build_suite(
        setting.bench.cache, _source(setting, tree), collection,
        offline=options["offline"], progress=setting.kernel_progress,
    )  # fmt: skip
    tests = choose(suite.tests, chosen, names)
    if only_list:
        _print_tests(tests, facts, suite, console)
        return
    request = dataclasses.replace(request, checks=suite_checks(suite, facts, tests, memory))
    setting = dataclasses.replace(setting, request=request)
    run_and_report(
        setting, report, jobs, frozenset(), _print_counts, snapshots=snapshot_limit if snapshot else 0
    )


def _again(
    collection: str,
    tree: str | None,
    categories: tuple[str, ...],
    names: tuple[str, ...],
    memory: int,
    more: tuple[Path, ...],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How a cell is run again: what stands before the options, and after them."""
    words = ["--memory", str(memory)]
    words += ["--tree", tree] if tree is not None else []
    words += ["--category", ",".join(categories)] if categories else []
    for option, values in (("--test", names), ("--known-failures", more)):
        words += [word for value in values for word in (option, str(value))]
    return (program(), "kselftest", collection), tuple(words)


def _source(setting: Setting, tree: str | None) -> SourceTree:
    """The source of all kernels of a run; raises UsageError where they have several."""
    if tree is not None:
        return setting.store.tree(tree)
    cells = plan(setting.request, setting.store, setting.bench.qemu, setting.beside).cells
    sources = {setting.store.source_of(name) for name in dict.fromkeys(cell.kernel for cell in cells)}
    if len(sources) != 1:
        origins = ", ".join(sorted(source.origin for source in sources))
        raise UsageError(f"these kernels are from different sources ({origins}): run each by itself")
    return sources.pop()


def _print_tests(tests: tuple[Listed, ...], facts: Facts, suite: Suite, console: Console) -> None:
    for listed in tests:
        needs = facts.needs_of(listed)
        whys = [*needs.not_here.values(), suite.missing(listed.program)]
        whys += ["it is destructive"] if listed.is_destructive else []
        why = next((f"not run{_where(needs)}: {why}" for why in whys if why), "")
        mib = sorted(set(needs.memory_mib.values()))
        memory = f"{mib[0]} MiB" if len(mib) == 1 else f"{mib[0]} to {mib[-1]} MiB"
        words = ", ".join([memory, *(f"CONFIG_{option}" for option in needs.options)])
        console.print(f"{listed.category:16} {listed.title}: {why or words}", soft_wrap=True)


def _where(needs: Needs) -> str:
    """The page sizes at which a test is not run, where it is at others."""
    if not needs.not_here or len(needs.not_here) == len(PageSize):
        return ""
    return " at " + " and ".join(size.label for size in PageSize if size in needs.not_here)


def _print_counts(result: MatrixResult, console: Console) -> None:
    for cell in result.cells:
        console.print(f"{cell.id}: {_counts(cell)}", style="bold", soft_wrap=True)
        for check in cell.checks:
            for line in check.output.splitlines():
                if line.startswith((UNEXPECTED_PASS, "known failure:")):
                    console.print(f"  {check.name}: {line}", soft_wrap=True)
    console.print()


def _counts(cell: CellResult) -> str:
    tests = [check for check in cell.checks if check.name.count("/") > 1]
    passed = sum(check.verdict.is_pass for check in tests)
    skipped = sum(check.verdict is Verdict.SKIP for check in tests)
    points = sum(check.expectations for check in tests)
    failed = len(tests) - passed - skipped
    return (
        f"{len(tests)} tests: {passed} passed ({points} points), {failed} failed, "
        f"{skipped} not run, skipped or known to fail"
    )
