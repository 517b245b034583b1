"""Reads a corpus of planted mistakes: an index in TOML, and a patch beside it for each."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError
from harness.hyperv.checker.rules import RULES
from harness.hyperv.modules import MODULES
from harness.hyperv.violation import Rule
from harness.spec import PageSize

__all__ = ["PlantedBug", "read_corpus"]

SCHEMA: Final = 1
PROTOCOL: Final = "violation:"
"""Before the name of a kind of violation, for what the bus or a device refuses by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedBug:
    """One mistake in a driver."""

    name: str
    patch: Path
    file: str
    """The one file of the kernel that it changes."""
    modules: tuple[str, ...]
    """What has to be rebuilt; of a changed header, where it is to show."""
    rule: str
    """What must be broken; empty where nothing can see it."""
    page_sizes: tuple[PageSize, ...]
    """Where it must be broken; at the others the driver must pass."""
    why: str
    device: str = "storvsc"
    """The device that must be there."""
    needs_traffic: bool = False
    """It shows only once data are moved."""
    max_transfer_bytes: int | None = None
    """A limit of the host's that it needs."""


def read_corpus(index: Path) -> tuple[PlantedBug, ...]:
    """All of an index; raises UsageError for what is wrong with it."""
    try:
        table = tomllib.loads(index.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the corpus {index}: {error}") from error
    if table.get("schema") != SCHEMA:
        raise UsageError(f"{index} has schema {table.get('schema')!r}, and {SCHEMA} is known")
    bugs = tuple(_bug(index, each) for each in table.get("bug", ()))
    if len({bug.name for bug in bugs}) != len(bugs):
        raise UsageError(f"{index} has a name twice")
    return bugs


def _bug(index: Path, table: dict[str, Any]) -> PlantedBug:
    name = str(table.get("name", "?"))

    def refuse(what: str) -> UsageError:
        return UsageError(f"{index}, {name}: {what}")

    known = {field.name for field in fields(PlantedBug)} - {"patch"}
    needed = {field.name for field in fields(PlantedBug) if field.default is MISSING} - {"patch"}
    if missing := needed - table.keys():
        raise refuse(f"{', '.join(sorted(missing))} missing")
    if table.keys() - known:
        raise refuse(f"unknown keys {', '.join(sorted(table.keys() - known))}")
    own = {
        "patch": index.with_name(f"{name}.patch"),
        "page_sizes": tuple(PageSize.parse(size) for size in table["page_sizes"]),
        "modules": tuple(table["modules"]),
    }
    bug = PlantedBug(**table | own)
    if not bug.patch.is_file():
        raise refuse(f"there is no {bug.patch.name}")
    if not set(bug.modules) <= MODULES.keys():
        raise refuse(f"modules are among {', '.join(MODULES)}")
    kinds = {each.name for each in RULES} | {f"{PROTOCOL}{kind.name}" for kind in Rule} | {""}
    if bug.rule not in kinds:
        raise refuse(f"there is no rule {bug.rule}")
    return bug
