"""Warnings of a build, object by object, kept between incremental builds.

An incremental build prints the warnings of what it compiles and no others. Each object's last ones are kept
beside the objects, so that all warnings of a tree are known without compiling it again. The log has to be
grouped by target (make -Otarget): what follows an object's line up to the next is that object's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.kernels.kbuild.build import step_of
from harness.saving import replacing
from harness.series.values import Warning_

__all__ = ["Ledger", "first_place", "new_warnings", "short_path"]

_WARNING: Final = re.compile(r"(\S+?):(\d+)(?::\d+)?: warning: (.*)")
_OTHER: Final = re.compile(
    r"WARNING: (?P<modpost>modpost: .*)|(?:\S*/)?\S*ld(?:\.bfd)?: warning: (?P<linker>.*)"
)
_ERROR: Final = re.compile(r"(\S+?):(\d+)(?::\d+)?: (?:fatal )?error: ")
_CALLER: Final = re.compile(r"(?:inlined from .* at|\bfrom) (\S+?):(\d+)")
_HEADERS: Final = ("include/", "arch/arm64/include/")
_CONTEXT_LINES: Final = 40
_FILE: Final = "granule.warnings.json"
_MAX_LOG_BYTES: Final = 64 << 20
_MAX_WARNINGS: Final = 2000
_MAX_TEXT: Final = 300


@dataclass(slots=True)
class Ledger:
    """The warnings of what lies in a build directory.

    Arguments: `output`, the directory; `source`, the tree, which paths are shown without.
    """

    output: Path
    source: Path
    objects: dict[str, list[Warning_]] = field(default_factory=dict)

    @classmethod
    def read(cls, output: Path, source: Path) -> Ledger:
        """As it was left; empty where there is none, or it is damaged."""
        ledger = cls(output, source)
        try:
            table = json.loads((output / _FILE).read_text(encoding="utf-8"))
            ledger.objects = {
                str(name): [Warning_(str(file), int(line), str(text)) for file, line, text in found]
                for name, found in table.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            ledger.objects = {}
        return ledger

    def absorb(self, log: Path) -> tuple[str, ...]:
        """Take over what a build's log says; returns the objects that it made, in order."""
        made: list[str] = []
        current = ""
        for line in _lines(log):
            step = step_of(line)
            if step is not None:
                current = step.split(" ")[-1]
                self.objects.pop(current, None)
                made.append(current)
            elif found := _WARNING.match(line):
                path = short_path(found[1], self.source, self.output)
                self._note(current or path, Warning_(path, int(found[2]), found[3][:_MAX_TEXT]))
            elif found := _OTHER.match(line):
                kind = "modpost" if found["modpost"] else "ld"
                self._note(kind, Warning_(kind, 0, (found["modpost"] or found["linker"])[:_MAX_TEXT]))
        return tuple(made)

    def save(self) -> None:
        """Keep it beside the objects, whole or not at all."""
        table = {
            name: [[each.file, each.line, each.text] for each in found]
            for name, found in self.objects.items()
        }
        with replacing(self.output / _FILE) as file:
            file.write(json.dumps(table).encode("ascii"))

    def warnings(self) -> tuple[Warning_, ...]:
        """All of the objects that are there, each once."""
        found = {
            each
            for name, warnings in self.objects.items()
            if not name.endswith(".o") or (self.output / name).exists()
            for each in warnings
        }
        return tuple(sorted(found))

    def _note(self, name: str, warning: Warning_) -> None:
        if len(self.objects) < _MAX_WARNINGS:
            kept = self.objects.setdefault(name, [])
            if len(kept) < _MAX_WARNINGS:
                kept.append(warning)


def first_place(log: Path, source: Path, output: Path) -> str:
    """Where a build's first error comes from, `FILE:LINE`: of one in a header, who includes or calls it.

    GCC names those on the lines before: `inlined from 'f' at mm/x.c:12:3:`, `from mm/x.c:7:`. Empty where no
    error has a place.
    """
    before: list[str] = []
    for line in _lines(log):
        found = _ERROR.match(line)
        if found is None:
            before = [] if step_of(line) is not None else [*before[-_CONTEXT_LINES:], line]
            continue
        own = short_path(found[1], source, output)
        if not own.startswith(_HEADERS):
            return f"{own}:{found[2]}"
        for earlier in reversed(before):
            for path, number in _CALLER.findall(earlier):
                caller = short_path(path, source, output)
                if not caller.startswith(_HEADERS):
                    return f"{caller}:{number}"
        return f"{own}:{found[2]}"
    return ""


def new_warnings(base: Iterable[Warning_], now: Iterable[Warning_]) -> tuple[Warning_, ...]:
    """Those of `now` that `base` lacks: a line that moved makes no other warning."""
    counts: dict[tuple[str, str], int] = {}
    for each in base:
        counts[each.file, each.text] = counts.get((each.file, each.text), 0) + 1
    found = []
    for each in now:
        left = counts.get((each.file, each.text), 0)
        if left:
            counts[each.file, each.text] = left - 1
        else:
            found.append(each)
    return tuple(found)


def short_path(path: str, source: Path, output: Path) -> str:
    """A path that a compiler printed, from the top of the tree."""
    for root in (f"{source}/", f"{output}/"):
        path = path.removeprefix(root)
    while path.startswith("../"):
        path = path[3:]
    return path.removeprefix("./")


def _lines(log: Path) -> Iterator[str]:
    try:
        with log.open("rb") as file:
            text = file.read(_MAX_LOG_BYTES)
    except OSError:
        return
    for line in text.split(b"\n"):
        yield line.decode("utf-8", "replace").rstrip()
