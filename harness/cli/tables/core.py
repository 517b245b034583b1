"""`granule tables core`: a core that gdb reads, and the command that reads it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any, Final

import click

from harness.cli.tables.options import source_options
from harness.cli.tables.source import Source, open_source
from harness.errors import UsageError
from harness.linux.kallsyms import SymbolTable
from harness.linux.symbols import Symboliser
from harness.snapshot.gdb_core import write_gdb_core
from harness.snapshot.symbols import code_in, has_frames, symbols_in, vmlinux_offset, write_symbol_file
from harness.tables.words import count, safe, size

__all__ = ["core"]

GDBS: Final = ("gdb-multiarch", "aarch64-linux-gnu-gdb")
"""Programs that read a core of arm64 on any host; plain gdb does on arm64 hosts only."""
_TO_LOOK_AT: Final = ("info threads", "thread apply all bt")


@click.command()
@click.argument("source")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--vcpu", type=click.IntRange(0), metavar="N",
    help="Whose process the lower half is to be. Default: the first vCPU's that has one.",
)  # fmt: skip
@source_options
def core(source: str, file: Path, vcpu: int | None, **options: Any) -> None:
    """Write SOURCE to FILE as a core for gdb, laid out by virtual address, and print how to call gdb.

    Kernel pointers can be followed there, which QEMU's own cores do not allow. Symbols are those of a
    vmlinux, where there is one, else the kernel's own kallsyms, out of the guest's memory, in FILE.symbols.

    \b
    granule tables core guest.snap guest.core
    granule tables core --vmlinux vmlinux guest.snap guest.core
    """
    with open_source(source, options) as opened:
        written = write_gdb_core(opened.snapshot, file, vcpu=vcpu)
        symbols, words = _symbols(opened, file)
    for note in written.notes:
        click.echo(f"note: {safe(note)}", err=True)
    user = f", {written.user_segments} of the process of vCPU {written.user_vcpu}"
    click.echo(
        f"granule: {file} takes {size(file.stat().st_blocks * 512)} of disk: "
        f"{count(written.kernel_segments, 'segment')} of the kernel"
        f"{user if written.user_vcpu is not None else ''}; {symbols}",
        err=True,
    )
    gdb = next((name for name in GDBS if shutil.which(name)), GDBS[0])
    shown = (*_TO_LOOK_AT, *(("x/s &linux_banner",) if words else ("x/4i $pc",)))
    said = " ".join(f"-ex {shlex.quote(word)}" for word in (*words, *shown))
    click.echo(f"{gdb} -q --core={shlex.quote(str(file.absolute()))} {said}")
    if shutil.which(gdb) is None:
        click.echo(f"granule: there is no {gdb} here: `apt-get install gdb-multiarch` has it", err=True)


def _symbols(source: Source, file: Path) -> tuple[str, tuple[str, ...]]:
    """Where symbols come from, in words, and gdb's commands for them: none where there are none."""
    words: list[str] = []
    commands: list[str] = []
    # gdb unwinds by the frames of the first file that has any.
    if source.vmlinux is None or not has_frames(source.vmlinux):
        table = symbols_in(source.snapshot) or _moved(source.symbols)
        if table is not None:
            symbols = file.with_name(f"{file.name}.symbols")
            write_symbol_file(table, symbols, code_in(source.snapshot, table))
            words.append(f"{count(len(table), 'symbol')} in {symbols}")
            commands.append(f"symbol-file {_quoted(symbols)}")
    offset = None if source.vmlinux is None else vmlinux_offset(source.snapshot, source.vmlinux)
    if source.vmlinux is not None and offset is not None:
        words.append(f"those of {source.vmlinux} moved by {offset:#x}")
        commands.append(f"add-symbol-file {_quoted(source.vmlinux)} -o {offset:#x}")
    return " and ".join(words) or "no symbols: its memory has none, and no --vmlinux was given", tuple(
        commands
    )


def _moved(symbols: Symboliser | None) -> SymbolTable | None:
    if symbols is None:
        return None
    return SymbolTable((va + symbols.offset & (1 << 64) - 1, name) for va, name in symbols.table)


def _quoted(path: Path) -> str:
    """A path as gdb's symbol-file takes it, which reads quotes as a shell does (libiberty, buildargv)."""
    text = str(path.absolute())
    if "\n" in text:
        raise UsageError("a path with a line break in it cannot be given to gdb")
    return shlex.quote(text)
