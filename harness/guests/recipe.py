"""Recipes: what a kind of disk image is like, so that nobody has to say it in options each time.

One TOML file each; guests/image/recipes has those that come with granule. Fields: `schema`, `about`, and any of
`disk` (a path, relative to the file), `root`, `cmdline` (words for the kernel), and the table `may_fail` of systemd
units whose failure says nothing of the kernel, each with the reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.guests.image import parse_root
from harness.paths import data_dir

__all__ = ["Recipe", "load_recipe", "recipes"]

SCHEMA = 1
FILE_LIMIT_BYTES = 1 << 16
UNITS_LIMIT = 16
"""They are words on the kernel's command line, of which arm64 takes 2048 bytes (COMMAND_LINE_SIZE)."""
UNIT = re.compile(r"[A-Za-z0-9:_.@-]{1,64}\.[a-z]{1,9}")
CMDLINE = re.compile(r"[ -~]{0,512}")
FIELDS = {"schema": int, "about": str, "disk": str, "root": str, "cmdline": str, "may_fail": dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a kind of disk image is like; what is None is not said."""

    about: str
    disk: Path | None = None
    root: str | None = None
    cmdline: str = ""
    may_fail: Mapping[str, str] = field(default_factory=dict)
    """systemd units whose failure is expected, and why."""

    @property
    def words(self) -> tuple[str, ...]:
        """Of the kernel's command line; guests/disk/checks/services.sh reads the last."""
        units = (f"granule.may_fail={','.join(self.may_fail)}",) if self.may_fail else ()
        return (*self.cmdline.split(), *units)


def recipes() -> dict[str, Path]:
    """Those that come with granule, by name."""
    return {path.stem: path for path in sorted((data_dir("guests") / "image" / "recipes").glob("*.toml"))}


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, or in the file of that name.

    Raises UsageError where there is none, naming what there is, and for a file that is none.
    """
    known = recipes()
    path = known.get(name, Path(name))
    if name not in known and not path.exists():
        raise UsageError(f"there is no recipe '{name}', nor a file of that name; there is {', '.join(known)}")
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
        if len(data) > FILE_LIMIT_BYTES:
            raise ValueError(f"it is larger than {FILE_LIMIT_BYTES >> 10} KiB")
        return _recipe(tomllib.loads(data.decode()), path.absolute().parent)
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (ValueError, UsageError) as error:  # TOML's and UTF-8's errors are ValueErrors
        raise UsageError(f"{path} is no recipe: {error}") from error


def _recipe(document: Mapping[str, Any], beside: Path) -> Recipe:
    for name, value in document.items():
        wanted = FIELDS.get(name)
        if wanted is None:
            raise ValueError(f"it has a field `{name}`; there are {', '.join(FIELDS)}")
        if not isinstance(value, wanted):
            raise ValueError(f"its `{name}` is no {wanted.__name__}")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"its `schema` has to be {SCHEMA}")
    if not document.get("about"):
        raise ValueError("its `about` has to say what images it is for")
    cmdline, may_fail = document.get("cmdline", ""), document.get("may_fail", {})
    if not CMDLINE.fullmatch(cmdline):
        raise ValueError("its `cmdline` has to be one line of at most 512 printable ASCII characters")
    if len(may_fail) > UNITS_LIMIT:
        raise ValueError(f"its `may_fail` has {len(may_fail)} units; {UNITS_LIMIT} is the most")
    for unit, reason in may_fail.items():
        if not UNIT.fullmatch(unit):
            raise ValueError(f"its `may_fail` names '{unit}', which is no systemd unit")
        if not isinstance(reason, str) or not reason:
            raise ValueError(f"its `may_fail` gives no reason for {unit}")
    root = document.get("root")
    return Recipe(
        about=document["about"],
        disk=beside / document["disk"] if "disk" in document else None,
        root=None if root is None else parse_root(root),
        cmdline=cmdline,
        may_fail=may_fail,
    )
