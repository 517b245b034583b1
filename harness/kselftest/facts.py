"""What is known of a collection's tests beyond their script: what each needs, and what fails and why.

Data: guests/kselftest/COLLECTION.toml, which says what its fields mean. A test that is not in it needs
nothing, and is not known to fail.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.kselftest.script import Listed
from harness.paths import data_dir
from harness.spec import PageSize

__all__ = ["Facts", "KnownFailure", "Needs", "collections"]

SCHEMA = 1
FILE_LIMIT_BYTES = 1 << 20
DEFAULT_LIMIT_S = 300
DEFAULT_MEMORY_MIB = 512
_ALL = "all"
_SYSCTL = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one test needs."""

    test: str = ""
    """The title it applies to, or the program's name."""
    options: tuple[str, ...] = ()
    """Kconfig options, without CONFIG_."""
    memory_mib: Mapping[PageSize, int] = field(
        default_factory=lambda: dict.fromkeys(PageSize, DEFAULT_MEMORY_MIB)
    )
    """Guest RAM that it takes to run at all."""
    huge_mib: int = 0
    """Of that, kept as huge pages of the default size."""
    sysctl: Mapping[str, str] = field(default_factory=dict)
    """Names below /proc/sys, and what they hold while it runs."""
    limit_s: int = DEFAULT_LIMIT_S
    """Seconds after which it hangs, under emulation."""
    run: str = ""
    """The command, where that of the script has a wrapper which the guest lacks."""
    also: tuple[str, ...] = ()
    """Other programs that it starts."""
    not_here: Mapping[PageSize, str] = field(default_factory=dict)
    """Why it is not run at a page size, whatever the guest has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """A failure that says nothing new."""

    test: str
    """The title, or the program's name."""
    point: re.Pattern[str] | None
    """What the failing point's name, or the output's problem, has to match in full; None: the whole test."""
    page_sizes: frozenset[PageSize]
    release: re.Pattern[str] | None
    """What the kernel's release begins with; None: any."""
    reason: str

    def covers(self, listed: Listed, size: PageSize, release: str) -> bool:
        """True where it speaks of that test, page size and kernel."""
        if size not in self.page_sizes or self.test not in (listed.title, listed.program):
            return False
        return self.release is None or self.release.match(release) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a collection's tests."""

    needs: tuple[Needs, ...] = ()
    known: tuple[KnownFailure, ...] = ()

    @classmethod
    def load(cls, collection: str, more: Iterable[Path] = ()) -> Facts:
        """Those of the project, and before them those of other files in the same form.

        Raises UsageError for an unknown collection, and naming what is wrong with a file.
        """
        known = collections()
        if collection not in known:
            raise UsageError(
                f"there is no collection '{collection}' of kselftest here; there is {', '.join(known)}"
            )
        own = _read(_directory() / f"{collection}.toml")
        others = [_read(path) for path in more]
        return cls(
            # The user's come first: the first that fits is taken.
            needs=(*(one for other in others for one in other.needs), *own.needs),
            known=(*(one for other in others for one in other.known), *own.known),
        )

    def needs_of(self, listed: Listed) -> Needs:
        """What a test needs: by its title, else by its program's name."""
        for wanted in (listed.title, listed.program):
            for one in self.needs:
                if one.test == wanted:
                    return one
        return Needs()

    def known_for(self, listed: Listed, size: PageSize, release: str) -> tuple[KnownFailure, ...]:
        """The known failures of a test at a page size."""
        return tuple(one for one in self.known if one.covers(listed, size, release))


def _directory() -> Path:
    return data_dir("guests") / "kselftest"


def collections() -> tuple[str, ...]:
    """The collections of tools/testing/selftests that there are facts of."""
    return tuple(sorted(path.stem for path in _directory().glob("*.toml")))


def _read(path: Path) -> Facts:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
        if len(data) > FILE_LIMIT_BYTES:
            raise ValueError(f"it is larger than {FILE_LIMIT_BYTES >> 20} MiB")
        document = tomllib.loads(data.decode())
        if document.get("schema") != SCHEMA:
            raise ValueError(f"its `schema` has to be {SCHEMA}")
        _refuse_others(document, {"schema", "test", "known_failure"}, "the file")
        return Facts(
            needs=tuple(_needs(one) for one in _tables(document, "test")),
            known=tuple(_known(one) for one in _tables(document, "known_failure")),
        )
    except OSError as error:
        raise UsageError(f"cannot read the facts of kselftest, {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} does not say what kselftest needs and fails: {error}") from error


def _tables(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"`{name}` has to be tables: [[{name}]]")
    return found


def _needs(table: dict[str, Any]) -> Needs:
    test = _text(table, "test", "a [[test]]")
    _refuse_others(
        table,
        {"test", "options", "memory_mib", "huge_mib", "sysctl", "limit_s", "run", "also", "not_here"},
        test,
    )
    sysctl = table.get("sysctl", {})
    if not isinstance(sysctl, dict) or not all(_SYSCTL.fullmatch(name) for name in sysctl):
        raise ValueError(f"`sysctl` of {test} has to be a table of names such as vm.overcommit_memory")
    return Needs(
        test=test,
        options=_texts(table, "options", test),
        memory_mib=_memory(table.get("memory_mib", DEFAULT_MEMORY_MIB), test),
        huge_mib=_whole(table.get("huge_mib", 0), f"`huge_mib` of {test}"),
        sysctl={name: str(_whole(value, f"`sysctl` of {test}")) for name, value in sysctl.items()},
        limit_s=_whole(table.get("limit_s", DEFAULT_LIMIT_S), f"`limit_s` of {test}"),
        run=_text(table, "run", test) if "run" in table else "",
        also=_texts(table, "also", test),
        not_here=_by_size(table, "not_here", test) if "not_here" in table else {},
    )


def _known(table: dict[str, Any]) -> KnownFailure:
    test = _text(table, "test", "a [[known_failure]]")
    _refuse_others(table, {"test", "point", "page_sizes", "release", "reason"}, test)
    sizes = _texts(table, "page_sizes", test)
    if not sizes:
        raise ValueError(f"`page_sizes` of {test} has to name some, or be ['{_ALL}']")
    return KnownFailure(
        test=test,
        point=_pattern(table, "point", test),
        page_sizes=frozenset(PageSize) if sizes == (_ALL,) else frozenset(map(_size, sizes)),
        release=_pattern(table, "release", test),
        reason=_text(table, "reason", test),
    )


def _memory(value: Any, test: str) -> dict[PageSize, int]:
    where = f"`memory_mib` of {test}"
    if not isinstance(value, dict):
        return dict.fromkeys(PageSize, _whole(value, where))
    given = {_size(name): _whole(one, where) for name, one in value.items()}
    return {size: given.get(size, DEFAULT_MEMORY_MIB) for size in PageSize}


def _by_size(table: dict[str, Any], name: str, test: str) -> dict[PageSize, str]:
    value = table[name]
    if isinstance(value, dict):
        return {_size(size): _text(value, size, f"`{name}` of {test}") for size in value}
    return dict.fromkeys(PageSize, _text(table, name, test))


def _size(text: str) -> PageSize:
    try:
        return PageSize.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _pattern(table: dict[str, Any], name: str, test: str) -> re.Pattern[str] | None:
    if name not in table:
        return None
    try:
        return re.compile(_text(table, name, test))
    except re.error as error:
        raise ValueError(f"`{name}` of {test} is no regular expression: {error}") from error


def _text(table: dict[str, Any], name: str, where: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{name}` of {where} has to be a text")
    return value


def _texts(table: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"`{name}` of {where} has to be a list of texts")
    return tuple(value)


def _whole(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{where} has to be a whole number")
    return value


def _refuse_others(table: dict[str, Any], known: set[str], where: str) -> None:
    others = sorted(table.keys() - known)
    if others:
        raise ValueError(f"{where} has a field '{others[0]}', and there are {', '.join(sorted(known))}")
