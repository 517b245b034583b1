"""What `probe hold` (guests/programs/probe/hold.c) says it holds: mappings, and what should back them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["Backing", "Held", "HeldMapping", "parse_held"]

TEXT_LIMIT_BYTES = 1 << 16

_MAP = re.compile(
    r"map (?P<name>[a-z-]{1,40}) 0x(?P<start>[0-9a-f]{1,16}) (?P<length>[0-9]{1,19}) "
    r"(?P<prot>[r-][w-][x-]) (?P<backing>[a-z-]{1,20})",
    re.ASCII,
)
_NONE = re.compile(r"none (?P<name>[a-z-]{1,40}) (?P<reason>.{1,200})")
_HELD = re.compile(r"held (?P<pid>[0-9]{1,9})", re.ASCII)


class Backing(Enum):
    """What the table entries of a mapping should be; the values are the program's words."""

    PAGE = "page"
    CONT_PTE = "cont-pte"
    PMD = "pmd"
    CONT_PMD = "cont-pmd"
    ZERO = "zero"
    """Pages, each of them the zero page."""
    HIDDEN = "hidden"
    """Entries that the kernel remembers and hardware cannot use."""
    EMPTY = "empty"

    @property
    def is_mapped(self) -> bool:
        """Hardware translates every address of it."""
        return self not in (Backing.HIDDEN, Backing.EMPTY)

    @property
    def level(self) -> int:
        """The level of its leaves."""
        return 2 if self in (Backing.PMD, Backing.CONT_PMD) else 3

    @property
    def is_contiguous(self) -> bool:
        """Its leaves are contiguous groups."""
        return self in (Backing.CONT_PTE, Backing.CONT_PMD)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMapping:
    """One kind of mapping that the process has."""

    name: str
    start_va: int
    size_bytes: int
    protection: str
    """As in `r-x`."""
    backing: Backing

    @property
    def end_va(self) -> int:
        """The first address after it."""
        return self.start_va + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A process that holds mappings."""

    pid: int
    mappings: tuple[HeldMapping, ...]
    absent: tuple[tuple[str, str], ...]
    """Kinds that could not be had, each with its reason."""

    def named(self, name: str) -> HeldMapping | None:
        """The mapping of a kind, if it could be had."""
        return next((one for one in self.mappings if one.name == name), None)


def parse_held(raw: bytes) -> Held | None:
    """What the program printed, or None unless it got to its end; unknown lines are passed over."""
    mappings: list[HeldMapping] = []
    absent: list[tuple[str, str]] = []
    pid = None
    known = {backing.value for backing in Backing}
    for line in raw[:TEXT_LIMIT_BYTES].decode("utf-8", "replace").split("\n"):
        if (said := _MAP.fullmatch(line)) and said["backing"] in known and _fits(said):
            mappings.append(
                HeldMapping(
                    name=said["name"],
                    start_va=int(said["start"], 16),
                    size_bytes=int(said["length"]),
                    protection=said["prot"],
                    backing=Backing(said["backing"]),
                )
            )
        elif said := _NONE.fullmatch(line):
            absent.append((said["name"], said["reason"]))
        elif said := _HELD.fullmatch(line):
            pid = int(said["pid"])
    return None if pid is None else Held(pid=pid, mappings=tuple(mappings), absent=tuple(absent))


def _fits(said: re.Match[str]) -> bool:
    return int(said["start"], 16) + int(said["length"]) < 1 << 64
