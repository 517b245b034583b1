"""What was seen of a kernel of the series: its build, and its checks. All of it goes to disk and back.

Step 0 is the base; step k is the tree with the first k patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from harness.errors import UsageError
from harness.spec import PageSize

__all__ = ["BUILD", "NOTHING_SEEN", "Built", "Outcome", "Outlook", "Variant", "Warning_", "parse_variants"]

BUILD: Final = "build"
"""The first check of every kernel."""
_AT_BOOT: Final = "boot"


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A column: the page size that runs, of a kernel that has it compiled in or takes it at boot."""

    bytes: int
    at_boot: bool = False

    @property
    def page_size(self) -> PageSize:
        """The one in force."""
        size = PageSize.of_bytes(self.bytes)
        if size is None:
            raise ValueError(f"{self.bytes} is no page size")
        return size

    @property
    def token(self) -> str:
        """`16k`, or `boot-16k`."""
        return f"{_AT_BOOT}-{self.page_size.token}" if self.at_boot else self.page_size.token

    @property
    def label(self) -> str:
        """For people: `16K`, `16K at boot`."""
        return f"{self.page_size.label}{' at boot' if self.at_boot else ''}"

    @property
    def built(self) -> PageSize | None:
        """What the kernel is built for: None where it takes its size at boot."""
        return None if self.at_boot else self.page_size

    @classmethod
    def parse(cls, token: str) -> Variant:
        """From a token; raises UsageError."""
        rest = token.removeprefix(f"{_AT_BOOT}-")
        return cls(PageSize.parse(rest).bytes, rest != token)


def parse_variants(words: tuple[str, ...]) -> tuple[Variant, ...]:
    """From --page-size, largest first: that is where a size's own mistakes show. `boot` is all three."""
    found: set[Variant] = set()
    for word in words:
        if word.strip().lower() in (_AT_BOOT, "boot-time"):
            found |= {Variant(size.bytes, True) for size in PageSize}
            continue
        try:
            found.add(Variant.parse(word.strip().lower()))
        except UsageError as error:
            raise UsageError(f"{error}, or boot") from None
    return tuple(sorted(found, key=lambda one: (one.at_boot, -one.bytes)))


class Outlook(Enum):
    """How a build ended."""

    BUILT = "built"
    FAILED = "failed"
    ABSENT = "absent"
    """The tree has no kernel of this kind: it does not know boot-time page sizes."""


@dataclass(frozen=True, slots=True, order=True)
class Warning_:  # noqa: N801 - Warning is Python's
    """A compiler's or linker's warning."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What became of a build."""

    outlook: Outlook
    image: str = ""
    """The Image, in the cache."""
    digest: str = ""
    """Of Image and modules: kernels with one digest behave alike."""
    release: str = ""
    errors: tuple[str, ...] = ()
    """The first ones, with paths from the top of the tree; or why there is no such kernel."""
    place: str = ""
    """Where the first error comes from, `mm/mincore.c:240`, also where a header prints it."""
    objects: tuple[str, ...] = ()
    """What this build compiled, at most some hundred."""
    left_out: tuple[str, ...] = ()
    """Source files of the last patch that no object was made from: the configuration does not have them."""
    warnings: tuple[Warning_, ...] = ()
    """All that there are at this step, also of objects compiled before."""
    dropped: tuple[str, ...] = ()
    """Options of a full configuration that this tree does not take."""
    compiler: str = ""
    image_bytes: int = 0
    seconds: float = 0.0

    @property
    def is_built(self) -> bool:
        """True where there is a kernel to run."""
        return self.outlook is Outlook.BUILT

    def as_json(self) -> dict[str, Any]:
        """For the state directory and the report."""
        return {
            "outlook": self.outlook.value,
            "image": self.image,
            "digest": self.digest,
            "release": self.release,
            "errors": list(self.errors),
            "place": self.place,
            "objects": list(self.objects),
            "left_out": list(self.left_out),
            "warnings": [[each.file, each.line, each.text] for each in self.warnings],
            "dropped": list(self.dropped),
            "compiler": self.compiler,
            "image_bytes": self.image_bytes,
            "seconds": round(self.seconds, 1),
        }

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> Built:
        """The way back; raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            outlook=Outlook(table["outlook"]),
            image=str(table["image"]),
            digest=str(table["digest"]),
            release=str(table["release"]),
            errors=tuple(map(str, table["errors"])),
            place=str(table.get("place", "")),  # kept since it is told
            objects=tuple(map(str, table["objects"])),
            left_out=tuple(map(str, table["left_out"])),
            warnings=tuple(
                Warning_(str(file), int(line), str(text)) for file, line, text in table["warnings"]
            ),
            dropped=tuple(map(str, table["dropped"])),
            compiler=str(table["compiler"]),
            image_bytes=int(table["image_bytes"]),
            seconds=float(table["seconds"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A check on one kernel at one page size: how often it ran and failed."""

    runs: int = 0
    failed: int = 0
    said: str = ""
    """The first failure in one line, or why it did not run."""
    place: str = ""
    """Where the kernel was, `file:line` or a function, where that is known."""
    cells: tuple[str, ...] = ()
    """Ids of the cells in which it failed."""
    unbuilt: bool = False
    """There was no kernel to run it on."""

    @property
    def ran(self) -> bool:
        """True where it came to a result."""
        return self.runs > 0

    @property
    def always_fails(self) -> bool:
        """True where it never passed."""
        return self.ran and self.failed == self.runs

    @property
    def is_flaky(self) -> bool:
        """True where it both passed and failed."""
        return 0 < self.failed < self.runs


NOTHING_SEEN: Final = Outcome()
