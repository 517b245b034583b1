"""The options that the commands of `granule tables` share: where a guest comes from, and which tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from harness.cli.options import leave_out, machine_options
from harness.errors import UsageError
from harness.smoke.check import BASE_MEMORY_MIB
from harness.tables.half import Half
from harness.tables.words import safe

__all__ = [
    "half_option",
    "halves",
    "json_option",
    "limit_option",
    "number",
    "source_options",
    "table_options",
]

Command = Callable[..., Any]
BOTH: Final = "both"
DEFAULT_ROWS: Final = 2000


def number(text: str, what: str) -> int:
    """A number as people write it: `0x40000000`, `40000000` (hexadecimal all the same), `1_000`.

    Raises UsageError for what is no number of 64 bits.
    """
    digits = text.lower().removeprefix("0x").replace("_", "")
    try:
        value = int(digits, 16)
    except ValueError:
        value = -1
    if value < 0 or value >> 64 or not digits.isalnum():
        raise UsageError(f"{what} '{safe(text)}' is not an address: up to 16 hexadecimal digits are wanted")
    return value


def _pa(_context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else number(value, f"--{parameter.name}".replace("_pa", ""))


_SOURCE = (
    click.option("--base", "base_pa", callback=_pa, metavar="PA",
                 help="Of a flat dump: the physical address of its first byte. Default: 40000000."),
    click.option("--registers", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
                 help="Of a flat dump or core: registers by name, as JSON."),
    click.option("--memory", type=click.IntRange(128), default=BASE_MEMORY_MIB, show_default=True,
                 metavar="MIB", help="Of a kernel that is booted: guest RAM."),
)  # fmt: skip

_TABLES = (
    # --vcpus is the machine's.
    click.option("--vcpu", type=click.IntRange(0), metavar="N",
                 help="Take this vCPU's registers as they are. Default: the first that will do."),
    click.option("--table", "table_pa", callback=_pa, metavar="PA",
                 help="Walk another first table, such as that of a process, by its physical address."),
)  # fmt: skip


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def source_options(command: Command) -> Command:
    """The options of a guest to be booted, and of a file to be opened; goes below `click.command`."""
    # SOURCE takes the place of --kernel.
    return leave_out("kernels")(machine_options(_with(command, _SOURCE)))


def table_options(command: Command) -> Command:
    """The options that say which tables."""
    return _with(command, _TABLES)


def half_option(default: str = Half.KERNEL.value) -> Callable[[Command], Command]:
    """The option that says which half."""
    return click.option(
        "--half", type=click.Choice([*(half.value for half in Half), BOTH]), default=default,
        show_default=True, help="Of the address space: the kernel's (TTBR1), the user's (TTBR0), or both.",
    )  # fmt: skip


def halves(word: str) -> tuple[Half, ...]:
    """What `--half` names."""
    return (Half.KERNEL, Half.USER) if word == BOTH else (Half(word),)


json_option = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON value on stdout.")
"""The option of commands that also speak JSON."""

limit_option = click.option(
    "--limit", type=click.IntRange(0), default=DEFAULT_ROWS, show_default=True, metavar="N",
    help="Rows to print of each half, at most; 0 for all.",
)  # fmt: skip
"""The option of commands that print rows."""
