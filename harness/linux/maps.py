"""/proc/PID/maps: which addresses a process may have, and what for.

The format: Linux Documentation/filesystems/proc.rst, section 1.1; fs/proc/task_mmu.c,
show_vma_header_prefix(). Total: whatever the bytes are, the lines that are of the format are taken and the
others passed over. May import the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Vma", "parse_maps", "parse_maps_line"]

TEXT_LIMIT_BYTES = 8 << 20
VMA_LIMIT = 1 << 16  # vm.max_map_count is 65530 unless raised
NAME_LIMIT = 4096

_LINE = re.compile(
    r"(?P<start>[0-9a-f]{1,16})-(?P<end>[0-9a-f]{1,16}) (?P<r>[r-])(?P<w>[w-])(?P<x>[x-])(?P<s>[ps]) "
    r"(?P<offset>[0-9a-f]{1,16}) [0-9a-f]+:[0-9a-f]+ (?P<inode>[0-9]{1,20})(?: +(?P<name>.*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vma:
    """A range of addresses with one protection: [start_va, end_va)."""

    start_va: int
    end_va: int
    readable: bool
    writable: bool
    executable: bool
    shared: bool
    offset_bytes: int
    inode: int
    name: str
    """The file's path, `[stack]` and the like, or nothing."""

    @property
    def accessible(self) -> bool:
        """False for PROT_NONE."""
        return self.readable or self.writable or self.executable

    def __str__(self) -> str:
        letters = zip((self.readable, self.writable, self.executable), "rwx", strict=True)
        rights = "".join(letter if one else "-" for one, letter in letters)
        return f"{self.start_va:#x}-{self.end_va:#x} {rights}{' ' if self.name else ''}{self.name}"


def parse_maps(raw: bytes) -> tuple[Vma, ...]:
    """The mappings, in the kernel's order; reads at most 8 MiB and 65,536 of them."""
    text = raw[:TEXT_LIMIT_BYTES].decode("utf-8", "replace")
    found = (parse_maps_line(line) for line in text.split("\n"))
    return tuple(vma for vma in found if vma is not None)[:VMA_LIMIT]


def parse_maps_line(line: str) -> Vma | None:
    """One line without its end; None unless it is of the format and its range is not empty."""
    match = _LINE.fullmatch(line)
    if match is None or int(match["start"], 16) >= int(match["end"], 16):
        return None
    return Vma(
        start_va=int(match["start"], 16),
        end_va=int(match["end"], 16),
        readable=match["r"] == "r",
        writable=match["w"] == "w",
        executable=match["x"] == "x",
        shared=match["s"] == "s",
        offset_bytes=int(match["offset"], 16),
        inode=int(match["inode"]),
        name=(match["name"] or "").strip()[:NAME_LIMIT],
    )
