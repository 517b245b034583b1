"""What GNU ld says of objects that do not fit together, and who refers to a symbol.

ld names a symbol's first five references only, and names the object on a line before the complaint.
Source: binutils ld/ldmain.c (undefined_symbol, MAX_ERRORS_IN_A_ROW; multiple_definition).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import ToolMissing

__all__ = ["LinkReader", "Linked", "referrers"]

_NM_TIMEOUT_S = 300
_MEMBER = r"(?P<archive>[^\s:()]*\.a)\((?P<member>[^\s()]+\.o)\)|(?P<object>[^\s:()]+\.o)"
_IN = re.compile(rf"(?:\S*ld(?:\.\w+)?: )?(?:{_MEMBER}):(?: in function `.*|\(.*)")
_COMPLAINT = re.compile(
    r".*?(?:undefined reference to `(?P<symbol>[^']+)'|multiple definition of `[^']+'"
    r"|relocation truncated to fit: .*|dangerous relocation: .*"
    r"|relocation R_\w+ against .* can ?not be used .*)"
)


@dataclass(frozen=True, slots=True)
class Linked:
    """An object that the linker complains of."""

    object: str
    symbol: str
    """What has no definition; empty for another complaint."""


class LinkReader:
    """Fed with the lines of a log; remembers which object the linker speaks of."""

    def __init__(self) -> None:
        self._object = ""
        self.named_since_step = False
        """True once an object was complained of since the last step of the build."""

    def feed(self, line: str) -> Linked | None:
        """What the line complains of, or None."""
        if place := _IN.match(line):
            self._object = _path_of(place)
        complaint = _COMPLAINT.match(line)
        if complaint is None or not self._object:
            return None
        self.named_since_step = True
        return Linked(self._object, complaint["symbol"] or "")

    def end(self) -> None:
        """Another step of the build begins."""
        self._object = ""
        self.named_since_step = False


def referrers(nm: str, archive: Path, symbols: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The members of an archive that refer to each symbol: all of them, where ld names five.

    Source: nm(1), -A: `ARCHIVE:MEMBER:                 U SYMBOL`. Raises ToolMissing.
    """
    try:
        ran = subprocess.run(
            [
                nm,
                "-A",
                "--undefined-only",
                archive.name,
            ],  # a path would be put before the members of a thin one
            capture_output=True,
            cwd=archive.parent,
            env={**os.environ, "LC_ALL": "C"},
            timeout=_NM_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolMissing(nm, package="binutils") from error
    found: dict[str, list[str]] = {}
    for line in ran.stdout.decode("utf-8", "replace").splitlines():
        place, _, symbol = line.rpartition(" ")
        member = place.removeprefix(f"{archive.name}:").partition(":")[0]
        if symbol in symbols and member.endswith(".o"):
            found.setdefault(symbol, []).append(member)
    return {symbol: tuple(members) for symbol, members in found.items()}


def _path_of(place: re.Match[str]) -> str:
    if place["object"]:
        return place["object"].removeprefix("./")
    if "/" in place["member"] or place["archive"].endswith("vmlinux.a"):
        return place["member"]
    return str(PurePosixPath(place["archive"]).parent / place["member"])
