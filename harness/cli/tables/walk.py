"""`granule tables walk`: one translation, every step in words."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import Any

import click

from harness.cli.tables.options import json_option, number, source_options, table_options
from harness.cli.tables.source import Source, open_source
from harness.errors import ExitStatus, UsageError
from harness.linux.symbols import Symboliser
from harness.report.terminal import make_console
from harness.snapshot.symbols import symbols_in
from harness.tables.explain import explain
from harness.tables.half import Half, view_of
from harness.tables.json import explanation_json
from harness.tables.text import print_explanation
from harness.tables.words import safe

__all__ = ["walk"]

_SYMBOL = re.compile(r"([A-Za-z_.$][\w.$]*)(?:\+(0x[0-9a-fA-F]+|[0-9]+))?")


@click.command()
@click.argument("source")
@click.argument("addresses", metavar="VA…", nargs=-1, required=True)
@source_options
@table_options
@json_option
def walk(
    source: str,
    addresses: tuple[str, ...],
    vcpu: int | None,
    table_pa: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Explain translations: which registers, each descriptor, the result, and who may do what.

    VA is hexadecimal, with or without 0x; or a symbol of the kernel: schedule+0x10. Status 0: every address
    is mapped; 1: one meets a fault, which is explained too.

    \b
    granule tables walk debian-16k _text init_task
    granule tables walk guest.snap ffff800080010000
    granule tables walk guest.core 0xaaaac0de0000 --table 43210000
    """
    with open_source(source, options) as opened:
        if not all(_is_number(text) for text in addresses):
            opened = _with_symbols(opened)
        vas = [_address(opened, text) for text in addresses]
        explained = []
        for va in vas:
            half = Half.KERNEL if va >> 55 & 1 else Half.USER
            view = view_of(opened.snapshot, vcpu=vcpu, table_pa=table_pa, half=half)
            explained.append(explain(view, va, opened.name_of(va)))
        notes = view.notes
    console = make_console(sys.stdout)
    if as_json:
        click.echo(json.dumps([explanation_json(one) for one in explained], indent=2))
    else:
        for number_, one in enumerate(explained):
            if number_:
                console.print("\n")
            print_explanation(one, console)
        for note in notes:
            console.print(f"note: {safe(note)}", soft_wrap=True)
    mapped = all(one.is_mapped for one in explained)
    click.get_current_context().exit(ExitStatus.PASSED if mapped else ExitStatus.FAILED)


def _is_number(text: str) -> bool:
    try:
        number(text, "VA")
    except UsageError:
        return False
    return True


def _with_symbols(source: Source) -> Source:
    """The source with symbols, out of its memory where no file has them: that takes a second."""
    table = symbols_in(source.snapshot) if source.symbols is None else None
    return source if table is None else replace(source, symbols=Symboliser(table=table))


def _address(source: Source, text: str) -> int:
    """What VA says; a word that is both, such as `dead`, is a number."""
    try:
        return number(text, "VA")
    except UsageError as error:
        found = _SYMBOL.fullmatch(text)
        if found is None:
            raise
        if source.symbols is None:
            raise UsageError(
                f"'{safe(text)}' is not an address, and {safe(source.label)} comes without symbols: give "
                "hexadecimal digits"
            ) from error
        name, offset = found.groups()
        va = source.address_of(name)
        if va is None:
            raise UsageError(
                f"{safe(source.label)} has no symbol '{name}', and it is not an address"
            ) from error
        return (va + int(offset or "0", 0)) & (1 << 64) - 1
