"""`granule bench import`: results of the same program on real hardware, in the same table."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from harness.bench.compare import compare
from harness.bench.guest_output import parse_output
from harness.bench.hardware import result_of
from harness.bench.result import SCHEMA, Result, load_results
from harness.cli.bench.run import report_option, show, write_report
from harness.errors import UsageError
from harness.linux.kconfig import read_config
from harness.report.terminal import make_console

__all__ = ["import_"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT_BYTES_LIMIT = 16 << 20


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE…")
@click.option(
    "--config", "configs", multiple=True, type=FILE, help="The .config of each file's kernel, in their order."
)
@click.option("--cpu", default="", help="The CPU they were run on.")
@report_option
def import_(files: tuple[Path, ...], configs: tuple[Path, ...], cpu: str, report: Path) -> None:
    """Compare what `bench` printed on real hardware, or what an earlier bench.json holds.

    Each FILE is the program's output, or a bench.json; the first is the base. Build the program with
    `granule bench program`, copy it to the machine, and keep what it prints.

    \b
    ./bench --samples 50 > 4k.txt        on the machine, once per kernel
    granule bench import 4k.txt 64k.txt
    """
    if configs and len(configs) != len(files):
        raise UsageError(
            f"{len(files)} files and {len(configs)} configurations: give one for each file, or none"
        )
    results: list[Result] = []
    for number, file in enumerate(files):
        results += _results(file, configs[number] if configs else None, cpu)
    comparisons = tuple(compare(results[0], other) for other in results[1:])
    write_report(report, tuple(results), comparisons, make_console(sys.stderr))
    show(results, comparisons, (), make_console(sys.stdout))


def _results(file: Path, config: Path | None, cpu: str) -> tuple[Result, ...]:
    with file.open("rb") as stream:
        data = stream.read(OUTPUT_BYTES_LIMIT + 1)
    if f'"{SCHEMA}"'.encode() in data[:1000] or b'"results"' in data[:1000]:
        return load_results(file)
    if len(data) > OUTPUT_BYTES_LIMIT:
        raise UsageError(f"{file} is longer than {OUTPUT_BYTES_LIMIT >> 20} MiB: not what `bench` prints")
    output = parse_output(data.decode("utf-8", "replace"))
    options = {} if config is None else dict(read_config(config))
    origin = f"{file.name}, sha256 {hashlib.sha256(data).hexdigest()[:16]}"
    return (result_of(output, label=file.stem, origin=origin, config=options, cpu=cpu),)
