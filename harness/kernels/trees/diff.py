"""What a unified diff touches, read without applying it.

Sources: git-diff(1), "Generating patch text with -p"; POSIX diff -u. git and patch(1) are left to apply it:
this knows enough to say which files they will write to, and that nothing is cut off.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from harness.errors import UsageError

__all__ = ["Part", "parts_of", "touched_files"]

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_MOVED = re.compile(r"(?:rename|copy) (?:from|to) (.*)")
_MODE = re.compile(r"(?:new file|new|deleted file|old) mode (\d{6})")
_SUBMODULE = "160000"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_MAX_PATH_CHARS = 1024
_NOTHING = "/dev/null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a diff says of one file, which is a diff by itself."""

    files: tuple[str, ...]
    """As `touched_files` has them: two where the file is renamed or copied."""
    text: str


def parts_of(diff: str, *, where: str) -> tuple[Part, ...]:
    """A diff taken apart by files, in order; what stands before the first is left out.

    Raises as `touched_files` does.
    """
    reader = _Reader(where)
    lines = diff.removesuffix("\n").split("\n")
    starts: list[int] = []
    in_git_header = False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if not reader.in_hunk:
            plain = line.startswith("--- ") and following.startswith("+++ ")
            if line.startswith("diff --git ") or (plain and not in_git_header):
                starts.append(number)
            in_git_header = line.startswith("diff --git ") or (in_git_header and not plain)
        reader.take(line, following)
    reader.end()
    bounds = itertools.pairwise((*starts, len(lines)))
    texts = ("\n".join(lines[start:end]) + "\n" for start, end in bounds)
    return tuple(Part(files=touched_files(text, where=where), text=text) for text in texts)


def touched_files(diff: str, *, where: str) -> tuple[str, ...]:
    """The paths that a diff reads or writes, without their first component, in order and each once.

    Empty where the text has no diff in it. Raises UsageError, naming `where`, for a hunk that is cut short
    and for a path that would leave the tree.
    """
    reader = _Reader(where)
    lines = diff.removesuffix("\n").split("\n")  # and not at form feeds, which old kernel files have
    for number, line in enumerate(lines):
        reader.take(line, lines[number + 1] if number + 1 < len(lines) else "")
    reader.end()
    return tuple(dict.fromkeys(reader.paths))


@dataclass(slots=True)
class _Reader:
    where: str
    paths: list[str] = field(default_factory=list)
    hunk: str = ""
    old_left: int = 0
    new_left: int = 0
    after_old: bool = False

    @property
    def in_hunk(self) -> bool:
        """True where the next line is one of a hunk's."""
        return self.old_left > 0 or self.new_left > 0

    def take(self, line: str, following: str) -> None:
        """One line, and the one after it."""
        if self.in_hunk:
            self._in_hunk(line)
        elif line.startswith("diff --git "):
            for name in _git_names(line.removeprefix("diff --git ")):
                self._touch(name, strip=True)
        elif line.startswith("--- ") and following.startswith("+++ "):
            self._touch(_named(line[4:]), strip=True)
            self.after_old = True
        elif self.after_old and line.startswith("+++ "):
            self._touch(_named(line[4:]), strip=True)
            self.after_old = False
        elif moved := _MOVED.fullmatch(line):
            self._touch(_named(moved[1]), strip=False)
        elif found := _HUNK.match(line):
            self.hunk = found[0]
            self.old_left, self.new_left = (1 if count is None else int(count) for count in found.groups())
        elif (mode := _MODE.fullmatch(line)) and mode[1] == _SUBMODULE:
            raise UsageError(f"{self.where} changes a git submodule, which a kernel tree does not have")

    def end(self) -> None:
        """Raises UsageError where the text ended within a hunk."""
        if self.in_hunk:
            self._cut_short("the text ends")

    def _in_hunk(self, line: str) -> None:
        kind = line[:1] or " "  # mailers strip the blank of an empty context line; git allows for that
        if kind not in " +-\\":
            self._cut_short(f"then comes '{line[:60]}'")
        self.old_left -= kind in " -"
        self.new_left -= kind in " +"

    def _cut_short(self, instead: str) -> None:
        raise UsageError(
            f"{self.where} is damaged or cut short: the hunk '{self.hunk}' wants {max(self.old_left, 0)} "
            f"more old and {max(self.new_left, 0)} more new lines, but {instead}"
        )

    def _touch(self, name: str, *, strip: bool) -> None:
        if name == _NOTHING:
            return
        path = name.partition("/")[2] if strip and not name.startswith("/") else name
        parts = path.split("/")
        if (
            path.startswith("/")
            or not set(parts).isdisjoint({"", ".", "..", ".git"})
            or "\0" in path
            or len(path) > _MAX_PATH_CHARS
        ):
            raise UsageError(
                f"{self.where} touches '{name[:100]}', which is not a path inside a source tree as "
                "`patch -p1` takes it; nothing was applied"
            )
        self.paths.append(path)


def _named(text: str) -> str:
    """The name after `---`, `+++`, `rename from`: quoted as C strings are, or up to a tab."""
    if text.startswith('"'):
        return _unquoted(text)[0]
    return text.split("\t", 1)[0].rstrip()


def _git_names(text: str) -> tuple[str, ...]:
    """Both names of a `diff --git` line, or none where that line alone does not tell.

    It is all there is for a change of mode, an empty file or a binary; both names are then the same.
    """
    if text.startswith('"'):
        first, rest = _unquoted(text)
        second = rest.strip()
        return first, _unquoted(second)[0] if second.startswith('"') else second
    middle = len(text) // 2
    first, second = text[:middle], text[middle + 1 :]
    same = text[middle : middle + 1] == " " and first.partition("/")[2] == second.partition("/")[2]
    return (first, second) if same else ()


def _unquoted(text: str) -> tuple[str, str]:
    """A C string at the start of the text, and what follows it (git's quote.c, unquote_c_style)."""
    out = bytearray()
    at = 1
    while at < len(text) and text[at] != '"':
        if text[at] != "\\":
            out += text[at].encode("utf-8", "surrogateescape")
            at += 1
        elif octal := re.match(r"[0-3][0-7]{2}", text[at + 1 :]):
            out.append(int(octal[0], 8))
            at += 4
        else:
            escaped = text[at + 1 : at + 2]
            out += _ESCAPES.get(escaped, escaped).encode("utf-8", "surrogateescape")
            at += 2
    return out.decode("utf-8", "surrogateescape"), text[at + 1 :]
