"""How a boot-time kernel is told its page size: not only as it should be, but also as people get it wrong.

Each way of asking makes a cell whose page size is the one that is *due* by the rule of
`harness.linux.pagesize_option`; a kernel that comes up with another is WRONG_PAGE_SIZE.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.errors import UsageError
from harness.linux.pagesize_option import OPTION, option, page_size_due
from harness.spec import PageSize

__all__ = ["ASKINGS", "BY_SIZE", "Asking", "askings_for", "parse_askings"]

BY_SIZE = "size"
"""The ordinary way: a cell for each page size, asked for by its name. It is no `Asking`."""

LACKING = "lacking"
"""A size that the CPU does not have; there is one for each such size of a CPU model."""

# include/asm/setup.h (uapi), COMMAND_LINE_SIZE of arm64 is 2048 with its NUL; the harness has some words too.
# A name with a dot is taken for a module's parameter, and without that module for nobody's (init/main.c).
_PADDING = tuple(f"granule.padding{number:02}={'x' * 44}" for number in range(28))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Words on the command line in place of the ordinary `arm64.pagesize=SIZE`."""

    name: str
    """Part of a cell's id."""
    words: tuple[str, ...]
    about: str
    """What it tries, in one line."""

    @property
    def kind(self) -> str:
        """What `--ask` calls it: one name stands for every size that a CPU lacks."""
        return LACKING if self.name.startswith(f"{LACKING}-") else self.name

    @property
    def shown(self) -> str:
        """The words as reports print them: padding by its length only."""
        padding = [word for word in self.words if word in _PADDING]
        said = [word for word in self.words if word not in _PADDING]
        long = [f"({len(' '.join(padding))} bytes of other words)"] if padding else []
        return " ".join([*long, *said]) or f"no {OPTION} at all"

    def due(self, granules: Collection[PageSize]) -> PageSize:
        """The page size that these words give on a CPU with those granules."""
        return page_size_due(" ".join(self.words), granules)


ASKINGS = (
    Asking(name="none", words=(), about="the option is absent: the largest size that the CPU has"),
    Asking(name="empty", words=(f"{OPTION}=",), about="it has no value: as if it were absent"),
    Asking(name="nonsense", words=(f"{OPTION}=8k",), about="a size that arm64 lacks: as if it were absent"),
    Asking(name="upper-case", words=(f"{OPTION}=4K",), about="case matters: as if it were absent"),
    Asking(
        name="repeated",
        words=(option(PageSize.K64), option(PageSize.K16), option(PageSize.K4)),
        about="the last one counts: 4K",
    ),
    Asking(
        name="bad-last",
        words=(option(PageSize.K16), f"{OPTION}=8k"),
        about="the last one that is recognised counts: 16K",
    ),
    Asking(
        name="alike",
        words=(option(PageSize.K16), f"{OPTION}s=4k", f"x{OPTION}=4k", f"{OPTION}=4kb"),
        about="words that resemble it say nothing: 16K",
    ),
    Asking(
        name="long",
        words=(*_PADDING, option(PageSize.K16)),
        about="at the end of a command line of some 1,800 bytes: 16K",
    ),
)
"""Every way but the ordinary one, and but for sizes that a CPU lacks."""

NAMES = (BY_SIZE, LACKING, *(asking.name for asking in ASKINGS))


def parse_askings(names: Collection[str]) -> tuple[str, ...]:
    """The names in our order, `all` for every one; raises UsageError naming those that there are."""
    unknown = sorted(set(names) - {*NAMES, "all"})
    if unknown:
        raise UsageError(
            f"'{unknown[0]}' is no way to ask for a page size; there are all, {', '.join(NAMES)}"
        )
    return tuple(name for name in NAMES if name in names or "all" in names)


def askings_for(names: Collection[str], granules: Collection[PageSize]) -> tuple[Asking, ...]:
    """Those named, for a CPU with those granules; the ordinary way is left out."""
    found = [asking for asking in ASKINGS if asking.name in names]
    if LACKING in names:
        found += [
            Asking(
                name=f"{LACKING}-{size.token}",
                words=(option(size),),
                about=f"this CPU has no {size.label} granule: the largest size that it has",
            )
            for size in PageSize
            if size not in granules
        ]
    return tuple(found)
