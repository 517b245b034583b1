"""Patch series as people have them: a mailbox of git format-patch or b4, a quilt directory, or one diff.

git splits the mailbox and undoes what mail does to text (git-mailsplit(1), git-mailinfo(1)), as `git am`
would have it; no patch is applied here.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.kernels.trees.diff import touched_files
from harness.kernels.trees.git import git, said

__all__ = ["Patch", "read_all_series", "read_series", "series_digest"]

MAX_SERIES_BYTES = 64 << 20
MAX_PATCHES = 5000
_TAGS = re.compile(r"(?:\s*(?:re:|\[[^\]]*\]))*\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\[[^\]]*?\b(\d+)/(\d+)\]")
_REPLY = re.compile(r"\s*re:", re.IGNORECASE)
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One change of a series, not yet applied."""

    name: str
    """Where it was found, for people: `fix.patch`, or `series.mbox, message 3`."""
    subject: str
    """Without `[PATCH 3/57]`; the name where it has none."""
    author: str
    """`Name <address>`, or empty."""
    body: str
    """The message under the subject, without the diff."""
    diff: bytes
    """What is applied."""
    files: tuple[str, ...]
    """Paths it reads or writes, from the top of the tree; all lie inside it."""
    number: int | None = None
    """3 of `[PATCH 3/57]`."""
    total: int | None = None
    """57."""

    @property
    def sha256(self) -> str:
        """Of the diff, in hex: what is said about it makes no other kernel."""
        return hashlib.sha256(self.diff).hexdigest()

    def __str__(self) -> str:
        return f"'{self.subject}' ({self.name})"


def read_series(path: Path) -> tuple[Patch, ...]:
    """The patches of a mailbox, a mail, a diff, or a directory of them, in the order in which they apply.

    A directory goes by its `series` file, as quilt has it, else by the names of its *.patch files. Messages
    without a diff (a cover letter, an answer) are left out. Raises UsageError where there is no patch, one is
    cut short or leaves the tree, or numbered mails are out of order.
    """
    files = _listed(path) if path.is_dir() else (path,)
    left_bytes = MAX_SERIES_BYTES
    series: list[Patch] = []
    for file in files:
        text = _read(file, left_bytes)
        left_bytes -= len(text)
        found = _read_file(file, text)
        if not found:
            raise UsageError(
                f"{file} holds no patch: wanted a mailbox (git format-patch --stdout, b4 am -o), or a diff "
                "with a/ and b/ in its paths"
            )
        series += found
        if len(series) > MAX_PATCHES:
            raise UsageError(f"{path} holds over {MAX_PATCHES} patches; no series is that long")
    return tuple(series)


def read_all_series(paths: Sequence[Path]) -> tuple[Patch, ...]:
    """Several series, one after the other; raises as `read_series` does."""
    return tuple(patch for path in paths for patch in read_series(path))


def series_digest(series: Sequence[Patch]) -> str:
    """SHA-256 over the diffs in order, in hex."""
    return hashlib.sha256("\n".join(patch.sha256 for patch in series).encode()).hexdigest()


def _listed(directory: Path) -> tuple[Path, ...]:
    listing = directory / "series"
    if not listing.is_file():
        found = tuple(sorted(directory.glob("*.patch")))
        if not found:
            raise UsageError(f"{directory} has neither a `series` file nor any *.patch")
        return found
    files = []
    for number, line in enumerate(
        _read(listing, MAX_SERIES_BYTES).decode("utf-8", "replace").splitlines(), 1
    ):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"line {number} of {listing}"
        name, options = words[0], words[1:]
        if options not in ([], ["-p1"]):
            raise UsageError(
                f"{where}: '{' '.join(options)[:40]}': patches are applied with -p1 and nothing else"
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise UsageError(f"{where}: '{name[:80]}' lies outside of {directory}")
        if not (directory / name).is_file():
            raise UsageError(f"{where}: there is no file {directory / name}")
        files.append(directory / name)
    if not files:
        raise UsageError(f"{listing} lists no patch")
    return tuple(files)


def _read(path: Path, limit_bytes: int) -> bytes:
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}; wanted a mailbox, a diff, or a directory of patches")
    try:
        with path.open("rb") as file:
            text = file.read(limit_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read the patches in {path}: {error.strerror}") from error
    if len(text) > limit_bytes:
        raise UsageError(f"{path} goes over {MAX_SERIES_BYTES >> 20} MiB of patches; no series is that long")
    if text.startswith(_PACKED):
        raise UsageError(f"{path} is compressed; unpack it first")
    return text


def _read_file(path: Path, text: bytes) -> list[Patch]:
    if not text.strip():
        return []
    with tempfile.TemporaryDirectory(prefix="granule-patches-") as scratch:
        found = [
            patch
            for message, mail in _messages(path, text, Path(scratch))
            if (patch := _read_mail(path, message, mail, Path(scratch))) is not None
        ]
    numbered = [patch for patch in found if patch.number is not None]
    for before, after in itertools.pairwise(numbered):
        if (before.number or 0) >= (after.number or 0):
            raise UsageError(
                f"{path} is not in order: number {after.number}, {after}, comes after number "
                f"{before.number}. A thread as a list archive has it may hold several versions: let `b4 am` "
                "make the mailbox."
            )
    return found


def _messages(path: Path, text: bytes, scratch: Path) -> Iterator[tuple[int, bytes]]:
    """Number and text of each mail; 0 for a file that is one mail or diff and not a mailbox."""
    (scratch / "mails").mkdir()
    (scratch / "mbox").write_bytes(text)
    # -b: what does not begin with a `From ` line is one mail.
    ran = git("mailsplit", "-b", f"-o{scratch / 'mails'}", "--", "mbox", cwd=scratch, outside=True)
    if ran.returncode != 0:
        raise UsageError(f"{path} is no mailbox: git mailsplit said: {said(ran.stderr)}")
    mails = sorted((scratch / "mails").iterdir())
    for number, mail in enumerate(mails, start=1):
        yield number if len(mails) > 1 else 0, mail.read_bytes()


def _read_mail(path: Path, message: int, mail: bytes, scratch: Path) -> Patch | None:
    name = f"{path.name}, message {message}" if message else path.name
    # -k: the subject keeps its [PATCH n/m], which is read below.
    ran = git("mailinfo", "-k", "--encoding=UTF-8", "message", "diff", cwd=scratch, stdin=mail, outside=True)
    if ran.returncode != 0:
        raise UsageError(f"{name} of {path.parent} cannot be read as a mail: git said: {said(ran.stderr)}")
    headers = _headers(ran.stdout.decode("utf-8", "replace"))
    subject = headers.get("Subject", "")
    diff = (scratch / "diff").read_bytes()
    files = touched_files(diff.decode("utf-8", "surrogateescape"), where=f"the patch {name}")
    if not files or _REPLY.match(subject):
        return None
    number = _NUMBER.search(subject)
    author = f"{headers.get('Author', '')} <{headers.get('Email', '')}>"
    return Patch(
        name=name,
        subject=_TAGS.sub("", subject, count=1).strip() or name,
        author="" if author == " <>" else author,
        body=(scratch / "message").read_text(encoding="utf-8", errors="replace").strip(),
        diff=diff,
        files=files,
        number=int(number[1]) if number else None,
        total=int(number[2]) if number else None,
    )


def _headers(text: str) -> dict[str, str]:
    """What mailinfo prints: `Name: value`, the name repeated where a value has several lines."""
    headers: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            headers[name] = f"{headers[name]} {value}" if name in headers else value
    return headers
