"""The files that a series touches, as it leaves them, made beside the tree and never in it.

Only those files are copied out and patched, so that a series costs no copy of the kernel, and one that does
not apply has changed nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.kernels.trees.git import git, said
from harness.kernels.trees.patches import Patch

__all__ = ["Overlay", "apply_series"]

_REJECT_LINES = 24
_REJECT_BYTES = 1 << 16
_LINE_CHARS = 160
_FAILED = re.compile(r"error: patch failed: (.*):\d+")
_REJECTED = re.compile(r"Rejected hunk #(\d+)\.")


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a series makes of a tree: the files it touches, from the top of the tree."""

    directory: Path
    """Holds those that are there after it, at their places."""
    files: frozenset[str]
    """All that it touches: one that is not in the directory is removed from the tree."""


def apply_series(source: Path, series: Sequence[Patch], directory: Path) -> Overlay:
    """Apply a series to copies, in the empty `directory`, of the files it touches in `source`.

    Raises UsageError naming the first patch that does not apply, with the file, the hunk and its text.
    """
    touched = frozenset(path for patch in series for path in patch.files)
    for path in sorted(touched):
        _copy_out(source, path, directory)
    for number, patch in enumerate(series, start=1):
        if not patch.diff:
            continue  # an empty commit
        # Strict, without fuzz, as `git am` is: a hunk in a place it was not made for is no kernel to test.
        ran = git("apply", "-", cwd=directory, stdin=patch.diff, outside=True)
        if ran.returncode != 0:
            raise _refusal(source, series, number, directory, ran.stderr)
    _check_result(touched, directory, source)
    return Overlay(directory, touched)


def _copy_out(source: Path, path: str, directory: Path) -> None:
    parents = path.split("/")[:-1]
    for depth in range(1, len(parents) + 1):
        parent = source.joinpath(*parents[:depth])
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            what = "a symbolic link" if parent.is_symlink() else "a file"
            raise UsageError(
                f"the series touches {path}, but {'/'.join(parents[:depth])} is {what} in {source}; "
                "nothing was applied"
            )
    found, copy = source / path, directory / path
    if not os.path.lexists(found):
        return
    if found.is_dir() and not found.is_symlink():
        raise UsageError(f"the series touches {path}, which is a directory in {source}; nothing was applied")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(found, copy, follow_symlinks=False)


def _refusal(
    source: Path, series: Sequence[Patch], number: int, directory: Path, stderr: bytes
) -> UsageError:
    """Why patch `number` does not apply, found out by applying what fits of it."""
    patch = series[number - 1]
    opening = f"patch {number} of {len(series)}, {patch}, does not apply to {source}"
    ran = git("apply", "--reject", "--verbose", "-", cwd=directory, stdin=patch.diff, outside=True)
    words = ran.stderr.decode("utf-8", "replace")
    failed = _FAILED.search(words)
    reject = directory / f"{failed[1]}.rej" if failed else None
    if failed is None or reject is None or not reject.is_file() or reject.is_symlink():
        lacking = [path for path in patch.files if not os.path.lexists(source / path)]
        hint = f" The tree has no {', '.join(lacking[:3])}." if lacking else ""
        return UsageError(f"{opening}: git said: {said(stderr)}.{hint} {_advice(series, number)}")
    after = words[failed.end() :].partition("\nerror: patch failed: ")[0]
    hunks = " and ".join(f"#{hunk}" for hunk in _REJECTED.findall(after)[:5]) or "one"
    return UsageError(
        f"{opening}: in {failed[1]}, hunk {hunks} does not fit. {_advice(series, number)}\n{_shown(reject)}"
    )


def _advice(series: Sequence[Patch], number: int) -> str:
    """What to look into: a mail that is missing before this one, or a tree that the series is not for."""
    before = [patch.number for patch in series[: number - 1]]
    own = series[number - 1].number
    if own is not None and own > 1 and own - 1 not in before:
        return f"Number {own - 1} of the series is missing before it."
    if number == 1:
        return "Is the series for another version? Give the tree that it was made for."
    return f"The {number - 1} before it applied: is the series complete, and for this version?"


def _shown(reject: Path) -> str:
    with reject.open("rb") as file:
        lines = file.read(_REJECT_BYTES).decode("utf-8", "replace").splitlines()
    kept = [line[:_LINE_CHARS] for line in lines[:_REJECT_LINES]]
    if len(lines) > _REJECT_LINES:
        kept.append(f"… and {len(lines) - _REJECT_LINES} lines more")
    return "\n".join(f"    {line}" for line in kept)


def _check_result(touched: frozenset[str], directory: Path, source: Path) -> None:
    """git and our own reading of the diffs must agree on the files, and no link may lead out of the tree."""
    root = Path(os.path.realpath(source))
    for folder, _names, files in os.walk(directory):
        for name in files:
            made = Path(folder) / name
            path = made.relative_to(directory).as_posix()
            if path not in touched:
                raise UsageError(f"the series changes {path}, which none of its headers names")
            if made.is_symlink():
                target = os.path.normpath(root / Path(path).parent / made.readlink())
                if not Path(target).is_relative_to(root):
                    raise UsageError(f"the series makes {path} a link that leads out of the tree: {target}")
