"""One kbuild makefile: what it adds to which variable, and under which conditions.

This reads and does not run: no $(shell), no recipe. What it cannot know (a variable of the toolchain's) is
taken as possible both ways.

Source: Linux Documentation/kbuild/makefiles.rst; GNU make manual, "Conditionals".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Addition", "Condition", "read_makefile"]

MAX_BYTES = 1 << 20
_MAX_INCLUDES = 64
_MAX_DEPTH = 40
_MAX_SIDE = 1000
_MAX_LINE = 1 << 16

_CONFIG = re.compile(r"\$[({]CONFIG_(\w+)(?::m=y)?[)}]")
_SUBST = re.compile(r"\$[({]subst\s+m,\s*y,\s*(\$[({]CONFIG_\w+[)}])\s*[)}]")
_OPERATORS = ("+=", "::=", ":=", "?=", "=")
_CONDITIONAL = re.compile(r"\s*(ifdef|ifndef|ifeq|ifneq|else|endif)\b\s*(.*)")
_PAIR = re.compile(r"\((.*),\s*([^,]*)\)|\"([^\"]*)\"\s+\"([^\"]*)\"|'([^']*)'\s+'([^']*)'")
_INCLUDE = re.compile(r"\s*-?s?include\s+(\S+)\s*")
_SUFFIXED = re.compile(r"([\w.+-]+?)-(y|m|objs|\$.*)")
_KNOWN = (("$(SRCARCH)", "arm64"), ("$(ARCH)", "arm64"), ("$(BITS)", "64"))
_MODIFIERS = re.compile(r"^\s*(?:(?:override|export)\s+)*")
_FUNCTION = re.compile(r"([a-z]+)\s+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Condition:
    """`left` is equal to `right`, or is not; both as the makefile has them."""

    left: str
    right: str
    is_equal: bool = True

    @property
    def options(self) -> frozenset[str]:
        """The options in it, `CONFIG_` left out."""
        return frozenset(_CONFIG.findall(self.left) + _CONFIG.findall(self.right))

    def holds(self, config: Mapping[str, str]) -> bool | None:
        """Whether it is so with that configuration; None where it turns on something else."""
        left, right = (_expanded(side, config) for side in (self.left, self.right))
        return None if left is None or right is None else (left == right) is self.is_equal

    def negated(self) -> Condition:
        """The `else` of it."""
        return Condition(self.left, self.right, not self.is_equal)

    def switches(self, config: Mapping[str, str]) -> frozenset[str]:
        """The options that are on and without which it would not hold; empty when that does not help."""
        on = frozenset(option for option in self.options if config.get(option, "n") in ("y", "m"))
        without = {option: value for option, value in config.items() if option not in on}
        return on if on and self.holds(without) is False else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Words that a makefile adds to a variable."""

    variable: str
    """As assigned to: `obj-$(CONFIG_FOO)`."""
    words: frozenset[str]
    conditions: tuple[Condition, ...]
    """All that must hold, the innermost first."""

    @property
    def stem(self) -> str:
        """`foo` of foo-y, foo-objs and foo-$(CONFIG_BAR); empty for a variable of another kind."""
        return _stem(self.variable)

    @property
    def names(self) -> frozenset[str]:
        """What refers to it: itself, and for foo-$(CONFIG_BAR) also foo-y and foo-m."""
        stem = self.stem
        suffixed = {f"{stem}-y", f"{stem}-m"} if stem and "$" in self.variable else set()
        return frozenset({self.variable, *suffixed})


@dataclass(slots=True)
class _Frame:
    """An `if…` that is open: the condition now, and the negations of its branches so far."""

    now: tuple[Condition, ...]
    before: tuple[Condition, ...]


def read_makefile(tree: Path, directory: str) -> tuple[Addition, ...]:
    """What the Kbuild or Makefile of a directory adds, included files read with it; empty without either."""
    for name in ("Kbuild", "Makefile"):
        if (tree / directory / name).is_file():
            return tuple(_Reader(tree, directory).read(tree / directory / name, ()))
    return ()


@dataclass
class _Reader:
    tree: Path
    directory: str
    includes: int = 0

    @cached_property
    def root(self) -> Path:
        """The tree, links followed: what is included must lie in it."""
        return self.tree.resolve()

    def read(self, path: Path, outer: tuple[Condition, ...]) -> Iterator[Addition]:
        """The additions of a file that is included under `outer`."""
        frames: list[_Frame] = []
        for line in _lines(path):
            if conditional := _CONDITIONAL.fullmatch(line):
                _conditional(frames, conditional[1], conditional[2].strip())
                continue
            held = tuple(condition for frame in reversed(frames) for condition in frame.now) + outer
            if included := _INCLUDE.fullmatch(line):
                yield from self._include(included[1], held)
            elif assigned := _assignment(line):
                variable = _SUBST.sub(r"\1", assigned[0])
                words = frozenset(words_of(assigned[1]))
                own = _suffix_conditions(variable)
                yield Addition(variable=variable, words=words, conditions=own + held)

    def _include(self, name: str, held: tuple[Condition, ...]) -> Iterator[Addition]:
        for variable, value in (
            ("$(srctree)/$(src)", self.directory),
            ("$(srctree)/", ""),
            ("$(src)", self.directory),
            ("$(obj)", self.directory),
            *_KNOWN,
        ):
            name = name.replace(variable, value)
        path = (self.tree / name).resolve()
        self.includes += 1
        if "$" in name or self.includes > _MAX_INCLUDES or not path.is_relative_to(self.root):
            return
        if path.is_file():
            yield from self.read(path, held)


def words_of(value: str, depth: int = 0) -> Iterator[str]:
    """The words of a value. Functions give those of their arguments; addprefix and addsuffix are done."""
    value = _SUBST.sub(r"\1", value)
    for known, meant in _KNOWN:
        value = value.replace(known, meant)
    start = value.find("$(")
    while start >= 0:
        end = _reference_end(value, start)
        if end is None:
            break
        called = _FUNCTION.fullmatch(value[start + 2 : end - 1])
        is_alone = not value[:start][-1:].strip() and not value[end : end + 1].strip()
        if is_alone and called is not None and depth < _MAX_DEPTH:
            yield from value[:start].split()
            yield from _called(called[1], called[2], depth + 1)
            value, end = value[end:], 0
        start = value.find("$(", end)
    yield from value.split()


def _called(function: str, arguments: str, depth: int) -> Iterator[str]:
    if function in ("addprefix", "addsuffix"):
        fix, _, rest = arguments.partition(",")
        for word in words_of(rest, depth):
            yield fix.strip() + word if function == "addprefix" else word + fix.strip()
    else:
        yield from words_of(arguments.replace(",", " "), depth)


def _assignment(line: str) -> tuple[str, str] | None:
    """The variable and the value of a line that assigns; None for another one."""
    line = _MODIFIERS.sub("", line)
    at = 0
    while at < len(line):
        if line[at] == "$":
            end = _reference_end(line, at)
            if end is None:
                return None
            at = end
            continue
        rest = line[at:].lstrip() if line[at].isspace() else line[at:]
        operator = next((operator for operator in _OPERATORS if rest.startswith(operator)), None)
        if operator is not None:
            return line[:at], rest.removeprefix(operator).strip()
        if line[at] in ":#!" or line[at].isspace():
            return None
        at += 1
    return None


def _reference_end(text: str, start: int) -> int | None:
    """Where a `$(…)` or `${…}` that starts there ends; None where it does not."""
    opening = text[start + 1 : start + 2]
    closing = {"(": ")", "{": "}"}.get(opening)
    if closing is None:
        return start + 1
    depth = 0
    for at in range(start + 1, len(text)):
        if text[at] == opening:
            depth += 1
        elif text[at] == closing:
            depth -= 1
            if depth == 0:
                return at + 1
    return None


def _lines(path: Path) -> Iterator[str]:
    """Lines without comments, continuations joined, `define` blocks left out."""
    with path.open("rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8", "replace")
    in_define = False
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(?<!\\)#.*", "", line[:_MAX_LINE]).rstrip()
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if word == "define":
            in_define = True
        if line and not in_define:
            yield line
        if word == "endef":
            in_define = False


def _conditional(frames: list[_Frame], word: str, rest: str) -> None:
    if word == "endif":
        if frames:
            frames.pop()
    elif word == "else":
        if not frames:
            return
        before = frames[-1].before
        further = _CONDITIONAL.fullmatch(rest)
        condition = _parsed(further[1], further[2].strip()) if further else None
        frames[-1].now = (*((condition,) if condition else ()), *before)
        frames[-1].before = (*((condition.negated(),) if condition else ()), *before)
    else:
        condition = _parsed(word, rest)
        frames.append(_Frame((condition,) if condition else (), (condition.negated(),) if condition else ()))


def _parsed(word: str, rest: str) -> Condition | None:
    if word in ("ifdef", "ifndef"):
        return Condition(f"$({rest})", "", word == "ifndef")
    pair = _PAIR.fullmatch(rest)
    if pair is None:
        return None
    left, right = (side.strip() for side in pair.groups() if side is not None)
    return Condition(left, right, word == "ifeq")


def _suffix_conditions(variable: str) -> tuple[Condition, ...]:
    """What must hold for foo-$(CONFIG_BAR) to be foo-y or foo-m."""
    suffix = variable[len(_stem(variable)) + 1 :] if _stem(variable) else ""
    return tuple(Condition(f"$(CONFIG_{option})", "", False) for option in _CONFIG.findall(suffix))


def _stem(variable: str) -> str:
    found = _SUFFIXED.fullmatch(variable)
    return found[1] if found else ""


def _expanded(text: str, config: Mapping[str, str]) -> str | None:
    """A side of a condition with that configuration; None where something else than options is in it."""
    text = _SUBST.sub(r"\1", text[:_MAX_SIDE])
    text = re.sub(r"\$[({]strip\s+([^()]*(?:\([^()]*\)[^()]*)*)[)}]", r"\1", text)
    text = _CONFIG.sub(lambda found: "" if config.get(found[1], "n") == "n" else config[found[1]], text)
    return None if "$" in text else text.strip()
