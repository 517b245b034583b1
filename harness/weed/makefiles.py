"""From an object to the options that have it built, through the makefiles of a kernel tree.

An object stands in `obj-$(CONFIG_FOO)`, or in a composite (`foo-y`, `foo-objs`, `foo-$(CONFIG_BAR)`) whose
object does; its directory stands in the makefile above it in the same way, up to the top. Each way from an
object to the top is a chain of conditions, all of which must hold; turning off one breaks the chain.

Source: Linux Documentation/kbuild/makefiles.rst, scripts/Makefile.lib, the top Kbuild.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from pathlib import Path, PurePosixPath

from harness.weed.makefile import Addition, Condition, read_makefile

__all__ = ["Chain", "Makefiles"]

Chain = tuple[Condition, ...]
"""What must hold for an object to be built one way, nearest to the object first."""

_ROOTS = frozenset({"obj", "lib", "always", "extra", "subdir", "core", "drivers", "libs", "hostprogs"})
_MAX_CHAINS = 64
_MAX_DEPTH = 16
_MAX_LOOKS = 20_000


class Makefiles:
    """The makefiles of a tree; each is read when first needed, and none is run."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._read: dict[str, dict[str, list[Addition]]] = {}
        self._looks_left = 0

    def options_of(self, name: str, config: Mapping[str, str]) -> frozenset[str]:
        """The options to turn off so that an object is no longer built, nearest first; empty if none will do.

        Arguments: `name`, from the top of the tree: `drivers/net/foo.o`.
        """
        wanted: set[str] = set()
        for chain in self._active(name, config):
            switches = next((found for link in chain if (found := link.switches(config))), None)
            if switches is None:
                return frozenset()  # one way to build it has no option at all
            wanted |= switches
        return frozenset(wanted)

    def outward(self, name: str, config: Mapping[str, str], given_up: frozenset[str]) -> frozenset[str]:
        """The same without options that turned out not to go: the next ones on the way to the top."""
        wanted: set[str] = set()
        for chain in self._active(name, config):
            found = (link.switches(config) for link in chain)
            switches = next((some for some in found if some and not some & given_up), None)
            if switches is None:
                return frozenset()
            wanted |= switches
        return frozenset(wanted)

    def chains(self, name: str) -> tuple[Chain, ...]:
        """Every way to build an object, whatever the configuration."""
        self._looks_left = _MAX_LOOKS
        directory, _, beyond = name.partition("/../")  # kbuild keeps foo/../bar/x.o as it was written
        for parent in _above(name):
            relative = name.removeprefix(f"{parent}/") if parent else name
            if found := list(islice(self._reaching(parent, relative), _MAX_CHAINS)):
                return _joined(found, self._directory(parent))
        return self._directory(directory if beyond else str(PurePosixPath(name).parent))

    def _active(self, name: str, config: Mapping[str, str]) -> tuple[Chain, ...]:
        """The ways that this configuration takes; all of them where it seems to take none."""
        chains = self.chains(name)
        active = tuple(chain for chain in chains if all(link.holds(config) is not False for link in chain))
        return active or chains

    def _directory(self, directory: str, depth: int = 0) -> tuple[Chain, ...]:
        """Every way to enter a directory; the way to the one above it where no makefile names it."""
        if directory in ("", ".") or depth > _MAX_DEPTH:
            return ((),)
        for parent in _above(directory):
            relative = directory.removeprefix(f"{parent}/") if parent else directory
            if found := list(islice(self._reaching(parent, f"{relative}/"), _MAX_CHAINS)):
                return _joined(found, self._directory(parent, depth + 1))
        return self._directory(_parent(directory), depth + 1)

    def _reaching(self, directory: str, word: str, passed: frozenset[str] = frozenset()) -> Iterator[Chain]:
        """The ways from a word to obj-y and its like, within one makefile; no word is passed twice."""
        for addition in self._additions(directory, word):
            self._looks_left -= 1
            if self._looks_left < 0 or len(passed) > _MAX_DEPTH:
                return
            if addition.stem in _ROOTS:
                yield addition.conditions
                continue
            further = {f"$({name})" for name in addition.names}
            if addition.stem:
                further.add(f"{addition.stem}.o")
            for name in sorted(further - passed - {word}):
                for chain in self._reaching(directory, name, passed | {word}):
                    yield addition.conditions + chain

    def _additions(self, directory: str, word: str) -> tuple[Addition, ...]:
        """The additions of a directory's makefile that have that word."""
        if directory not in self._read:
            by_word: dict[str, list[Addition]] = {}
            for addition in dict.fromkeys(read_makefile(self._tree, directory)):
                for each in addition.words:
                    by_word.setdefault(each, []).append(addition)
            self._read[directory] = by_word
        return tuple(self._read[directory].get(word, ()))


def _joined(near: list[Chain], far: tuple[Chain, ...]) -> tuple[Chain, ...]:
    return tuple(islice((first + then for first, then in product(near, far)), _MAX_CHAINS))


def _parent(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent in (".", "/") else parent


def _above(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first; the top of the tree is the empty string."""
    while path:
        path = _parent(path)
        yield path
