"""Whether a change costs anything where it is turned off: two builds compared object by object.

With the new option off the objects should be the same. Where they are not, the functions are named that
differ, by their instructions and by what they refer to, wherever they moved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import UsageError
from harness.linux.objects import Piece, read_object

__all__ = ["Changed", "Comparison", "compare_builds"]

_SKIPPED: Final = ("built-in.o", "vmlinux.o", ".tmp_")
"""Made of others."""
_HOST_DIRECTORIES: Final = frozenset({"scripts", "tools", "usr", ".git"})
_MAX_OBJECTS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A function or datum that is not the same in both."""

    object: str
    """Path from the top of the builds."""
    name: str
    before_bytes: int | None
    """None where it is new."""
    after_bytes: int | None
    """None where it is gone."""
    is_code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a change makes of a build."""

    identical: int
    """Objects that are the same, byte for byte or in all that their functions and data are."""
    changed: tuple[Changed, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def is_same_code(self) -> bool:
        """True where every function is the same and no object came or went."""
        return not (self.only_before or self.only_after or any(one.is_code for one in self.changed))


def compare_builds(before: Path, after: Path) -> Comparison:
    """Compare two build directories, or two objects.

    Raises UsageError where one is neither, or no object is in both.
    """
    if before.is_file() and after.is_file():
        changed = _changed(before, after, before.name)
        return Comparison(identical=int(not changed), changed=changed, only_before=(), only_after=())
    for path in (before, after):
        if not path.is_dir():
            raise UsageError(
                f"{path} is no directory; wanted two build directories (make O=), or two objects"
            )
    ours, theirs = set(_objects(before)), set(_objects(after))
    both = sorted(ours & theirs)
    if not both:
        raise UsageError(f"no object is in both {before} and {after}: are they build directories (make O=)?")
    identical = 0
    found: list[Changed] = []
    for name in both:
        changed = _changed(before / name, after / name, name)
        found += changed
        identical += not changed
    return Comparison(
        identical=identical,
        changed=tuple(found),
        only_before=tuple(sorted(ours - theirs)),
        only_after=tuple(sorted(theirs - ours)),
    )


def _changed(before: Path, after: Path, name: str) -> tuple[Changed, ...]:
    try:
        if before.read_bytes() == after.read_bytes():
            return ()
    except OSError as error:
        raise UsageError(f"cannot read the object {name}: {error.strerror}") from error
    old, new = read_object(before), read_object(after)
    return tuple(
        Changed(
            object=name,
            name=symbol,
            before_bytes=_size(first.get(symbol)),
            after_bytes=_size(second.get(symbol)),
            is_code=is_code,
        )
        for first, second, is_code in ((old.functions, new.functions, True), (old.data, new.data, False))
        for symbol in sorted({*first, *second})
        if first.get(symbol) != second.get(symbol)
    )


def _size(piece: Piece | None) -> int | None:
    return None if piece is None else piece.size_bytes


def _objects(top: Path) -> Iterator[str]:
    """The objects for the target, as paths from the top."""
    count = 0
    for folder, names, files in os.walk(top):
        if Path(folder) == top:
            names[:] = [name for name in names if name not in _HOST_DIRECTORIES]
        for name in files:
            if name.endswith(".o") and not name.startswith(_SKIPPED) and not name.endswith(".mod.o"):
                count += 1
                if count > _MAX_OBJECTS:
                    raise UsageError(f"{top} holds over {_MAX_OBJECTS} objects; no kernel's build does")
                path = Path(folder, name)
                if _is_target(path):
                    yield path.relative_to(top).as_posix()


def _is_target(path: Path) -> bool:
    """ELF's magic, 64 bits, and e_machine EM_AARCH64 (183)."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head[:5] == b"\x7fELF\x02" and head[18:20] == b"\xb7\x00"
