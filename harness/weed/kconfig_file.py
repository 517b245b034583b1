"""A tree's Kconfig files: which options there are, what they depend on, and which select which.

What is read here only proposes; whether an option is off is always asked of the tree's own kconfig. Not
kconfiglib, whose last release (14.1, of 2020) stops at the `modules` keyword of Linux 5.16 and later.
Source: Linux Documentation/kbuild/kconfig-language.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.weed.expression import YES, Expression, parse

__all__ = ["Entry", "Options", "read_options"]

_MAX_FILES = 20_000
_MAX_BYTES = 4 << 20
_MAX_DEPTH = 64
_MAX_LINE = 4096
_TYPES = ("bool", "tristate", "string", "int", "hex", "prompt")
_SOURCES = ("source", "rsource", "osource", "orsource")
_OPTIONS = ("config", "menuconfig")
_OPENING = ("if", "menu", "choice")
_CLOSING = ("endif", "endmenu", "endchoice")
_BLOCKS = frozenset({*_SOURCES, *_OPTIONS, *_OPENING, *_CLOSING, "comment", "mainmenu"})
_KNOWN = (("$(SRCARCH)", "arm64"), ("$SRCARCH", "arm64"), ("$(HEADER_ARCH)", "arm64"))
_PROMPT = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'[^']*')\s*(?:if\s+(.*))?")


@dataclass(slots=True)
class Entry:
    """One `config` block; an option may have several."""

    name: str
    depends: list[Expression] = field(default_factory=list)
    """All must hold; those of menus and `if`s around it included."""
    prompts: list[Expression] = field(default_factory=list)
    """When the user may set it, besides `depends`; none: never."""
    defaults: list[tuple[Expression, Expression]] = field(default_factory=list)
    """Value and condition."""
    selects: list[tuple[str, Expression]] = field(default_factory=list)


@dataclass(slots=True)
class Options:
    """The options of a tree."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    selectors: dict[str, list[tuple[str, Expression]]] = field(default_factory=dict)
    """For an option, who selects it and when."""

    def add(self, entry: Entry) -> None:
        """Take a block that has been read to its end."""
        self.entries.setdefault(entry.name, []).append(entry)
        for target, condition in entry.selects:
            self.selectors.setdefault(target, []).append((entry.name, condition))

    def is_settable(self, name: str, config: Mapping[str, str]) -> bool:
        """True where it has a prompt that this configuration shows."""
        return any(
            prompt.value(config) and all(need.value(config) for need in entry.depends)
            for entry in self.entries.get(name, ())
            for prompt in entry.prompts
        )


def read_options(tree: Path) -> Options:
    """Read the Kconfig files of a tree, from its top one; those that are missing are passed over."""
    reader = _Reader(tree)
    reader.read("Kconfig", 0)
    return reader.options


class _Reader:
    def __init__(self, tree: Path) -> None:
        self.options = Options()
        self._root = tree.resolve()
        self._files = 0
        self._around: list[list[Expression]] = []
        """For each `if`, menu and choice that is open, what must hold in it."""
        self._entry: Entry | None = None
        self._depends: list[Expression] = []
        """Where a `depends on` goes: to the option, menu, choice or comment that it stands under."""

    def read(self, name: str, depth: int) -> None:
        """Read a file and those that it sources."""
        path = (self._root / name).resolve()
        self._files += 1
        if depth > _MAX_DEPTH or self._files > _MAX_FILES or not path.is_relative_to(self._root):
            return
        if not path.is_file():
            return
        for word, rest in _statements(path):
            if word in _BLOCKS:
                self._end()
            if word in _OPTIONS:
                around = [need for needs in self._around for need in needs]
                self._entry = Entry(rest, depends=around)
                self._depends = self._entry.depends
            elif word in _OPENING:
                self._depends = [parse(rest)] if word == "if" else []
                self._around.append(self._depends)
            elif word in _CLOSING:
                del self._around[-1:]
            elif word in _SOURCES:
                self.read(_sourced(rest, name if word.endswith("rsource") else ""), depth + 1)
            elif word == "depends":
                self._depends.append(parse(rest.removeprefix("on")))
            elif self._entry is not None:
                _attribute(self._entry, word, rest)
        self._end()

    def _end(self) -> None:
        """Take the option whose block has ended, if there is one."""
        if self._entry is not None:
            self.options.add(self._entry)
        self._entry, self._depends = None, []


def _attribute(entry: Entry, word: str, rest: str) -> None:
    if word in _TYPES:
        if prompt := _PROMPT.match(rest):
            entry.prompts.append(parse(prompt[2]) if prompt[2] else YES)
    elif word in ("default", "def_bool", "def_tristate"):
        value, condition = _conditional(rest)
        entry.defaults.append((parse(value), condition))
    elif word == "select":
        target, condition = _conditional(rest)
        entry.selects.append((target, condition))


def _conditional(rest: str) -> tuple[str, Expression]:
    """`VALUE if CONDITION`, apart."""
    value, _, condition = rest.partition(" if ")
    return value.strip(), parse(condition) if condition else YES


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    """First word and rest of each line; comments and help texts left out, continuations joined."""
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    help_indent: int | None = None
    in_help = False
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = line[:_MAX_LINE].expandtabs(8)
        if in_help:
            if not line.strip():
                continue
            indent = len(line) - len(line.lstrip())
            if help_indent is None and indent:
                help_indent = indent
            if help_indent is not None and indent >= help_indent:
                continue
            in_help = False
        line = re.sub(r"(?:^|\s)#(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$).*", "", line).strip()
        word, _, rest = line.replace("\t", " ").partition(" ")
        if word in ("help", "---help---"):
            in_help, help_indent = True, None
        elif word:
            yield word, rest.strip()


def _sourced(rest: str, relative_to: str) -> str:
    name = rest.strip().strip("\"'")
    for variable, value in _KNOWN:
        name = name.replace(variable, value)
    return str(Path(relative_to).parent / name) if relative_to else name
