"""`granule series`: a patch series, each patch at each page size, with the tree below it as control."""

from __future__ import annotations

import contextlib
import datetime
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.build.guest import MicroGuest
from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.cli.options import adding, parse_words, program
from harness.cli.progress import KernelProgress
from harness.errors import GranuleError, InfraError, UsageError
from harness.kernels.catalogue import Catalogue
from harness.kernels.kbuild.configs import read_configuration
from harness.kernels.source import SourceKernels
from harness.kernels.store import KernelStore
from harness.kernels.trees.origin import SourceTree, find_tree
from harness.kernels.trees.overlay import apply_series
from harness.kernels.trees.patches import series_digest
from harness.matrix.budget import guest_memory_mib
from harness.matrix.cell import Request
from harness.matrix.guests import Guests
from harness.matrix.matrix import default_jobs
from harness.matrix.run import Bench
from harness.qemu.probe import Qemu
from harness.report import write_reports, write_whole
from harness.report.bundle import claim_directory, keep_bundles
from harness.report.series.document import render_series_json
from harness.report.series.facts import About
from harness.report.series.mail import render_mail
from harness.report.series.page import render_page
from harness.report.series.terminal import print_series, render_series
from harness.report.series.terse import terse_lines
from harness.report.terminal import make_console
from harness.report.wording import safe
from harness.series.affected import RULES_FILE, Decision, Rules, decide
from harness.series.building import KernelBuilder, tree_fingerprint
from harness.series.engine import CANNOT_TELL, Asked, Engine, SeriesResult
from harness.series.order import Mode
from harness.series.reading import Given, read_given
from harness.series.running import CellRunner
from harness.series.store import Results
from harness.series.values import Variant, parse_variants
from harness.spec import Accel
from harness.verdict import CellResult, CheckResult, MatrixResult

__all__ = ["series"]

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}

_OPTIONS = (
    click.argument("given", metavar="MBOX|DIR|RANGE|-"),
    click.option("--base", metavar="TREE|REF|NAME",
                 help="What the series is for: a source directory, a tarball, REPOSITORY@REF, a REF of the "
                      "repository you are in, or a kernel of the catalogue, for its source. Only read. "
                      "Default: the start of a RANGE."),
    click.option("--page-size", "-p", "sizes", multiple=True, metavar="SIZE,…",
                 help="4k, 16k, 64k, or boot: a kernel that takes it at boot. Default: 4k,16k,64k."),
    click.option("--every-patch", "mode", flag_value=Mode.EVERY.name, default=True,
                 help="Try every patch, those that narrow a failure down first. The default."),
    click.option("--tip", "mode", flag_value=Mode.TIP.name, help="Try the base and the whole series only."),
    click.option("--bisect", "mode", flag_value=Mode.BISECT.name,
                 help="Try the base and the whole series, then bisect for what fails, by page size."),
    click.option("--checks", multiple=True, metavar="NAME,…",
                 help="Groups of checks (mm, huge, tables, devices, login, hyperv; smoke, all) or checks by "
                      "name. Default: what the files that are touched call for; --plan shows it."),
    click.option("--config", "configs", multiple=True, metavar="FILE|NAME,…",
                 help="As `granule kernels build` takes it. Default: trimmed,ptdump and what the checks "
                      "need."),
    click.option("--affected", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
                 default=RULES_FILE, help="Other rules than ours for which files call for which checks."),
    click.option("--repeat", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N",
                 help="How often a check is run that fails anew, to tell a flaky one."),
    click.option("--budget", metavar="TIME",
                 help="Stop when that long has gone by, and say what was left out: 2h, 30m, 900s."),
    click.option("--cpu", default="neoverse-n1", show_default=True, metavar="MODEL", help="Of QEMU's."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(1), metavar="SECONDS",
                 help="For each guest."),
    click.option("--jobs", "-j", type=click.IntRange(1), help="Guests at once. Default: one per processor."),
    click.option("--offline", is_flag=True, help="Fetch nothing."),
    click.option("--again", is_flag=True, help="Do all anew, also what is on disk from an earlier run."),
    click.option("--plan", "plan_only", is_flag=True, help="Show which checks patches call for, and end."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table."),
    click.option("--terse", is_flag=True, help="Print a line for each finding, as checkpatch --terse does."),
    click.option("--report", type=click.Path(file_okay=False, path_type=Path), default="granule-series",
                 show_default=True, metavar="DIR", help="Where series.json, the pages and consoles go."),
)  # fmt: skip


@click.command()
@adding(_OPTIONS)
def series(given: str, as_json: bool, terse: bool, plan_only: bool, report: Path, **options: Any) -> None:
    """Build and boot a patch series patch by patch at each page size, and say which patch broke what.

    \b
    granule series v2.mbox --base ~/linux@v6.12
    granule series v6.12..topic --page-size 16k,64k --bisect
    granule series patches/ --base trimmed-64k --checks mm,tables --budget 2h
    git bisect run granule series v6.12..HEAD --tip --page-size 16k --checks mm

    The base comes first, as control. A check that fails there too is not blamed on the series; one that fails
    anew is repeated, to tell a flaky one. What has been built and run is kept and found again, also
    after a kill.

    Exit status: 0 nothing fails that does not fail on the base; 1 something does; 125 it cannot be told:
    the base does not build, a check is flaky, the budget was over, this machine is at fault.
    """
    try:
        work = _Work.make(given, options)
        if plan_only:
            _print_plan(work, make_console(sys.stdout))
            return
        claim_directory(report)
        about = work.about()
        result = work.run(lambda so_far: _write(so_far, about, report))
        _write(result, about, report)
    except GranuleError as error:
        # `git bisect run` takes 2 and 3 for a bad commit.
        click.echo(f"granule: {error}", err=True)
        click.get_current_context().exit(CANNOT_TELL)
    if as_json:
        click.echo(render_series_json(result, about), nl=False)
    elif terse:
        for line in terse_lines(result):
            click.echo(line)
    else:
        console = make_console(sys.stdout)
        print_series(result, about, console)
        console.print(f"Reports: {report}", soft_wrap=True)
    click.get_current_context().exit(result.exit_status)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """The options made into what the engine works with."""

    given: Given
    base: SourceTree
    decision: Decision
    variants: tuple[Variant, ...]
    catalogue: Catalogue
    config_words: tuple[str, ...]
    cache: Cache
    store: KernelStore
    progress: KernelProgress
    options: dict[str, Any]

    @classmethod
    def make(cls, text: str, options: dict[str, Any]) -> _Work:
        """Reads series and base, and applies the one to the other; raises UsageError before anything is
        built.
        """
        found = read_given(text, sys.stdin.buffer.read() if text == "-" else None)
        decision = decide(found.patches, Rules.read(options["affected"]), parse_words(options["checks"]))
        progress, cache, catalogue = KernelProgress(), Cache(), Catalogue.load()
        store = KernelStore(cache, offline=options["offline"], progress=progress, catalogue=catalogue)
        base = _find_base(options["base"] or found.base, store, cache, progress)
        with tempfile.TemporaryDirectory(prefix="granule-series-") as scratch:
            apply_series(base.path, found.patches, Path(scratch))
        words = parse_words(options["configs"]) or ("trimmed", *decision.fragments, "ptdump")
        return cls(
            given=found,
            base=base,
            decision=decision,
            variants=parse_variants(parse_words(options["sizes"]) or ("4k", "16k", "64k")),
            catalogue=catalogue,
            config_words=words,
            cache=cache,
            store=store,
            progress=progress,
            options=options,
        )

    def run(self, on_interrupt: Callable[[SeriesResult], None]) -> SeriesResult:
        """All of it, with progress on stderr."""
        require_programs()
        options, console = self.options, make_console(sys.stderr)
        sources = SourceKernels(self.cache, self.catalogue, progress=self.progress)
        configuration = read_configuration(self.config_words, self.catalogue)
        qemu = Qemu.find()
        guests = Guests(self.cache, qemu, cold=False, total_mib=guest_memory_mib())
        click.get_current_context().call_on_close(guests.close)
        bench = Bench(
            qemu=qemu,
            cache=self.cache,
            guest=MicroGuest(self.cache, offline=options["offline"], progress=self.progress),
            guests=guests,
        )
        asked = Asked(
            patches=self.given.patches,
            affected=self.decision.affected,
            exercised=self.decision.exercised,
            suites=self.decision.suites,
            groups=self.decision.groups,
            variants=self.variants,
            mode=Mode[options["mode"]],
            repeat=options["repeat"],
            budget_s=_seconds(options["budget"]),
        )
        runner = CellRunner(
            store=self.store,
            bench=bench,
            request=Request(
                cpus=(options["cpu"].replace("+", ","),),
                accel=Accel.AUTO,
                timeout_s=options["timeout_s"],
                command=((program(), "smoke"), ()),
            ),
            listener=lambda _cells: contextlib.nullcontext(_Silent()),
            jobs=options["jobs"] or default_jobs(),
        )
        builder = KernelBuilder(
            cache=self.cache,
            toolchain=Toolchain.find(),
            base=self.base,
            patches=self.given.patches,
            configurations={one.built: sources.configured(configuration, one.built) for one in self.variants},
            progress=self.progress,
            fingerprint=tree_fingerprint(self.base, self.cache.root),
        )
        results = Results(self.cache.shared_workdir("series"))
        with builder:
            return Engine(
                asked=asked,
                builder=builder,
                runner=runner,
                results=results,
                listening=_Spoken(console, self.progress),
                reuse=not options["again"],
                on_interrupt=on_interrupt,
            ).run()

    def about(self) -> About:
        """What it was tried on and with."""
        return About(
            base=self.base.origin,
            series=self.given.name,
            digest=series_digest(self.given.patches),
            configuration=",".join(self.config_words),
            compiler=Toolchain.find().version,
            qemu=Qemu.find().version_text,
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


class _Spoken:
    """A line on stderr for each piece of work that begins or ends."""

    def __init__(self, console: Console, progress: KernelProgress) -> None:
        self._console = console
        self._progress = progress
        self._start_s = time.monotonic()

    def started(self, what: str, left: str) -> None:
        """Something begins."""
        self._say(f"{what} …{f' ({left})' if left else ''}")

    def ended(self, what: str, how: str) -> None:
        """It has ended."""
        self._progress.close()
        self._say(f"{what}: {how}")

    def _say(self, words: str) -> None:
        self._console.print(f"[{time.monotonic() - self._start_s:7.1f} s] {safe(words)}", soft_wrap=True)


class _Silent:
    """Hears a matrix and says nothing: the suite is told as one."""

    def kernel_wanted(self, name: str) -> None:
        """A kernel is not here: it always is."""

    def kernel_ready(self, name: str) -> None:
        """The kernel is here."""

    def cell_started(self, cell_id: str) -> None:
        """A guest is being started."""

    def check_finished(self, cell_id: str, check: CheckResult) -> None:
        """A check has its result."""

    def cell_finished(self, cell: CellResult) -> None:
        """A cell has its verdict."""


def _find_base(text: str, store: KernelStore, cache: Cache, progress: KernelProgress) -> SourceTree:
    if not text:
        raise UsageError("--base is missing: what tree is the series for?")
    if text in store.catalogue.names:
        return store.source_of(text)
    try:
        return find_tree(cache, text, progress=progress)
    except UsageError as error:
        raise UsageError(str(error).replace("--tree", "--base", 1)) from error


def _seconds(text: str | None) -> float | None:
    """Of `2h`, `30m`, `900`; raises UsageError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if found is None or not float(found[1]):
        raise UsageError(f"--budget {text}: wanted a time such as 2h, 30m or 900s")
    return float(found[1]) * _UNITS_S[found[2]]


def _print_plan(work: _Work, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("#", "patch", "file", "calls for"):
        table.add_column(title, overflow="fold", justify="right" if title == "#" else "left")
    for step, (patch, affected) in enumerate(
        zip(work.given.patches, work.decision.affected, strict=True), start=1
    ):
        for number, (path, reason) in enumerate(affected.reasons.items()):
            first = number == 0
            table.add_row(
                str(step) if first else "", safe(patch.subject) if first else "", safe(path), safe(reason)
            )
    console.print(table)
    console.print(f"Every kernel is asked: {', '.join(work.decision.groups)}.", soft_wrap=True)
    for suite in work.decision.suites:
        console.print(f"  on {suite.platform.value}: {', '.join(suite.names)}", soft_wrap=True)
    sizes = ", ".join(variant.label for variant in work.variants)
    console.print(f"Page sizes: {sizes}. Configuration: {','.join(work.config_words)}.", soft_wrap=True)


def _write(result: SeriesResult, about: About, report: Path) -> None:
    cells = tuple(cell for _key, unit in sorted(result.units.items()) for cell in unit.cells)
    matrix = MatrixResult(
        expected=len(cells),
        cells=cells,
        host={"QEMU": about.qemu, "compiler": about.compiler, "base": about.base, "time": about.made},
        duration_s=result.seconds,
    )
    try:
        write_reports(keep_bundles(matrix, report, program=program()), report)
        for name, text in (
            ("series.json", render_series_json(result, about)),
            ("series.txt", render_series(result, about)),
            ("series.html", render_page(result, about)),
            ("mail.txt", render_mail(result, about)),
        ):
            write_whole(report / name, text)
    except OSError as error:
        raise InfraError(f"the reports could not be written to {report}: {error.strerror}") from error
