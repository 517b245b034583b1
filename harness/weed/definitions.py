"""Where a symbol that the linker misses would be defined: a hint for people, and nothing is decided by it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

__all__ = ["defined_in"]

_MAX_FILES = 4000
_MAX_SYMBOLS = 64
_MAX_BYTES = 2 << 20


def defined_in(tree: Path, symbols: Collection[str], objects: Iterable[str]) -> dict[str, str]:
    """For each symbol the C file that exports it, else one that seems to define it; some have none.

    Arguments: `objects`, in whose directories, and those above them, to look: the ones that miss the symbols
    and those that failed. A whole tree would take the better part of a minute.
    """
    wanted = sorted(symbols)[:_MAX_SYMBOLS]
    if not wanted:
        return {}
    names = b"|".join(re.escape(name.encode()) for name in wanted)
    any_of = re.compile(rb"\b(?:%s)\b" % names)
    exported = re.compile(rb"\bEXPORT_SYMBOL\w*\(\s*(%s)\b" % names)
    function = re.compile(rb"^[A-Za-z_][\w \t*]*?\b(%s)\([^;]*?\)\s*\{" % names, re.MULTILINE)
    found: dict[str, str] = {}
    for path in _sources(tree, objects):
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
        if not any_of.search(text):
            continue
        relative = str(path.relative_to(tree))
        for match in exported.finditer(text):
            found[match[1].decode()] = relative
        for match in function.finditer(text):
            found.setdefault(match[1].decode(), relative)
    return found


def _sources(tree: Path, objects: Iterable[str]) -> Iterator[Path]:
    directories = {
        parent for name in objects if not name.startswith("/") for parent in PurePosixPath(name).parents
    }
    left = _MAX_FILES
    for directory in sorted(directories):
        path = tree / directory
        if ".." in directory.parts or not path.is_dir():
            continue
        for source in sorted(path.glob("*.c")):
            if left > 0 and source.is_file():
                left -= 1
                yield source
