"""/proc/iomem, as root reads it: what the kernel believes to be at which physical address.

The text comes from a guest that may be broken: nonsense gives no resources, never an exception.
May import the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Iomem", "Resource", "parse_iomem"]

LINE_LIMIT = 100_000
SYSTEM_RAM = "System RAM"
KERNEL_CODE, KERNEL_DATA = "Kernel code", "Kernel data"
# Children of System RAM that the linear map may leave out: a crash kernel is made inaccessible once it is
# loaded (Linux v6.12 arch/arm64/kernel/machine_kexec.c, arch_kexec_protect_crashkres).
MAY_BE_UNMAPPED = ("Crash kernel",)

_LINE = re.compile(
    r"(?P<indent> {0,32})(?P<start>[0-9a-f]{1,16})-(?P<last>[0-9a-f]{1,16}) : (?P<name>.{1,200})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A line of /proc/iomem."""

    pa: range
    name: str
    depth: int
    """0 for a resource that is in no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iomem:
    """All of it, in the kernel's order."""

    resources: tuple[Resource, ...]

    def named(self, name: str) -> tuple[range, ...]:
        """The addresses of the resources of a name."""
        return tuple(one.pa for one in self.resources if one.name == name)

    @property
    def system_ram(self) -> tuple[range, ...]:
        """RAM that the kernel uses, and so maps: memory that firmware keeps to itself is not in it."""
        return tuple(one.pa for one in self.resources if one.name == SYSTEM_RAM and one.depth == 0)

    @property
    def devices(self) -> tuple[range, ...]:
        """What is neither RAM nor in RAM."""
        return tuple(
            one.pa
            for one in self.resources
            if one.depth == 0 and not one.name.startswith((SYSTEM_RAM, "reserved"))
        )

    @property
    def may_be_unmapped(self) -> tuple[range, ...]:
        """RAM that the linear map may leave out."""
        return tuple(one for name in MAY_BE_UNMAPPED for one in self.named(name))

    @property
    def kernel_code(self) -> range | None:
        """_text to __init_begin: text and rodata (Linux v6.12 arch/arm64/kernel/setup.c)."""
        return next(iter(self.named(KERNEL_CODE)), None)

    @property
    def kernel_data(self) -> range | None:
        """_sdata to _end."""
        return next(iter(self.named(KERNEL_DATA)), None)


def parse_iomem(text: str) -> Iomem | None:
    """The resources, or None where there is no address: read without CAP_SYS_ADMIN all of them are 0."""
    found: list[Resource] = []
    for line in text.splitlines()[:LINE_LIMIT]:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        pa = range(int(match["start"], 16), int(match["last"], 16) + 1)
        if len(match["indent"]) % 2 == 0 and pa.stop > pa.start:
            found.append(Resource(pa=pa, name=match["name"].strip(), depth=len(match["indent"]) // 2))
    if not any(one.pa.start for one in found):
        return None
    return Iomem(resources=tuple(found))
