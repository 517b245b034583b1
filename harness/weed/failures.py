"""What failed in a run of make, from its log: compiling, linking, modpost.

The log is text from the user's tree: lines are cut and cleaned, and what is kept of them is bounded.
Sources: GNU make (`*** [FILE:LINE: TARGET] Error N`, job.c child_error; `No rule to make target`, remake.c),
GCC's diagnostics ("In file included from"), Linux scripts/mod/modpost.c.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from harness.kernels.kbuild.build import step_of
from harness.weed.ld import LinkReader

__all__ = ["Failure", "FailureReader", "Kind", "Row", "clean", "read_log", "summary"]

MAX_FAILURES = 20_000
MAX_TEXT = 300
_MAX_PENDING = 64
_MAX_LINE = 8192
_MAX_SYMBOLS = 2000

_CHAIN = re.compile(r"(?:In file included|\s+) ?from (\S+?):\d+(?::\d+)?[,:]")
_ERROR = re.compile(r"(?P<file>[^\s:]+):\d+(?::\d+)?: (?:fatal )?[Ee]rror: .*|.*?: (?:fatal )?error: .*")
_TARGET = re.compile(r"make(?:\[\d+\])?: \*\*\* \[(?:[^\]\s]+:\d+: )?([^\]\s]+)\] Error \d+.*")
_NO_RULE = re.compile(r"make(?:\[\d+\])?: \*\*\* No rule to make target '([^']+)', needed by '([^']+)'\..*")
_NO_TARGET = re.compile(r"make(?:\[\d+\])?: \*\*\* No rule to make target '([^']+)'\.(?:\s+Stop\.)?")
_MODPOST = re.compile(r"(ERROR|WARNING): modpost: (.*)")
_MODULE = re.compile(
    r".*\[(?P<bracket>[^\]\s]+)\.ko\].*|module (?P<user>\S+?)(?:\.ko)? uses symbol .*"
    r"|GPL-incompatible module (?P<gpl>\S+?)\.ko uses .*"
    r"|missing MODULE_LICENSE\(\) in (?P<licence>\S+?)(?:\.o)?"
    r"|(?P<first>[^\s:]+): .*"
)
_QUOTED = re.compile(r"\"([\w.$]+)\" \[|uses symbol ([\w.$]+) from")
_WARNED = re.compile(r'"[\w.$]+" \[\S+\.ko\] undefined!|module \S+ uses symbol .* does not import it\.')
_MISMATCH = re.compile(r"\S+: section mismatch in reference: .*")
# Not the option's fault: turning anything off would hide that this machine is short of something.
_MACHINE = re.compile(
    r".*(?:No space left on device|Killed signal terminated program|[Cc]annot allocate memory"
    r"|virtual memory exhausted|out of memory allocating|Too many open files|Disk quota exceeded"
    r"|Read-only file system).*"
)
_WHOLE = re.compile(r"(?:.*/)?(?:vmlinux.*|\.tmp_vmlinux.*|Module\.symvers|modules-only\.symvers)")


class Kind(Enum):
    """Where in a build something fails."""

    COMPILE = "compile"
    LINK = "link"
    MODPOST = "modpost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One object that failed."""

    object: str
    """As kbuild names it, from the top of the tree: `drivers/net/foo.o`; of a module its `.o`. A module
    that modpost names without its directory has no '/'."""
    kind: Kind
    error: str
    """The first line that says why; cleaned."""
    source: str = ""
    """The file that was being compiled, from the top of the tree; empty where the log does not say."""
    symbols: tuple[str, ...] = ()
    """Link and modpost: the symbols without a definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a summary of failures."""

    file: str
    option: str
    """What has the file built, `CONFIG_` left out; empty where no option does."""
    error: str
    kind: Kind
    objects: int
    """How many objects of that file failed."""


@dataclass(frozen=True, slots=True)
class _Said:
    origin: str
    text: str


class FailureReader:
    """Fed with the lines of a log; holds what failed.

    Arguments: `tree` and `output`, the directories that paths in the log are below.
    """

    def __init__(self, tree: Path, output: Path) -> None:
        self._roots = tuple(f"{path}/" for path in (tree.resolve(), tree, output.resolve(), output))
        self._found: dict[tuple[str, Kind], Failure] = {}
        self._pending: deque[_Said] = deque(maxlen=_MAX_PENDING)
        self._mismatches: deque[str] = deque(maxlen=_MAX_PENDING)
        self._chain = ""
        self._last = ""
        self._link = LinkReader()
        self._whole = ""
        self.not_built: set[str] = set()
        """Targets asked for that this configuration does not build."""
        self.machine_fault = ""
        """A line which says that this machine, and not the tree, is at fault; or empty."""

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What failed, in the order of the log."""
        return tuple(self._found.values())

    @property
    def unexplained(self) -> str:
        """The complaint about a final target where nothing else says why, or empty."""
        return "" if self._found else self._whole

    def feed(self, line: str) -> None:
        """Take a line of the log."""
        line = line[:_MAX_LINE]
        if not self.machine_fault and _MACHINE.fullmatch(line):
            self.machine_fault = clean(line)
        if step_of(line) is not None:
            self._link.end()
            return
        if failed := _TARGET.fullmatch(line):
            self._target(self._short(failed[1]), line)
        elif missing := _NO_RULE.fullmatch(line):
            self._no_rule(self._short(missing[1]), self._short(missing[2]), line)
        elif unknown := _NO_TARGET.fullmatch(line):
            self.not_built.add(self._short(unknown[1]))
        elif posted := _MODPOST.fullmatch(line):
            self._modpost(posted[1], posted[2], line)
        elif linked := self._link.feed(line):
            self._add(linked.object, Kind.LINK, line, source="", symbol=linked.symbol)
        elif chained := _CHAIN.match(line):
            self._chain = self._short(chained[1])
        elif error := _ERROR.fullmatch(line):
            file = self._short(error["file"] or "")
            is_unit = PurePosixPath(file).suffix in (".c", ".S", ".s", ".rs")
            self._pending.append(_Said(file if is_unit else self._chain, self._shorten(line)))
        elif line.strip():
            self._last = self._shorten(line)

    def _target(self, target: str, line: str) -> None:
        """A recipe failed: the object it was to make, unless it only passes on what failed below it."""
        if _WHOLE.fullmatch(target):
            self._whole = clean(line)
        elif PurePosixPath(target).suffix and not target.endswith((".a", ".order")):
            if self._link.named_since_step:
                return  # the linker has said which part of this composite object it is
            said = self._claim(target)
            self._add(target, Kind.COMPILE, said.text or self._last or line, source=said.origin)
        elif not self._whole and "/" not in target:
            self._whole = clean(line)

    def _claim(self, target: str) -> _Said:
        """The first error that belongs to an object: by its source's name, else of no known source."""
        stem = str(PurePosixPath(target).with_suffix(""))
        mine = [said for said in self._pending if _stem(said.origin) == stem]
        if not mine:
            mine = [said for said in self._pending if not said.origin] or list(self._pending)
        if not mine:
            return _Said("", "")
        first = mine[0]
        gone = {id(said) for said in self._pending if said.origin == first.origin}
        self._pending = deque((said for said in self._pending if id(said) not in gone), maxlen=_MAX_PENDING)
        return first

    def _no_rule(self, wanted: str, by: str, line: str) -> None:
        text = line.partition("*** ")[2]
        if wanted.endswith(".o"):
            self._add(wanted, Kind.COMPILE, text, source="")
        elif _WHOLE.fullmatch(by) or "/" not in by:
            self._whole = clean(line)
        else:
            self._add(by, Kind.COMPILE, text, source="")

    def _modpost(self, level: str, text: str, line: str) -> None:
        if _MISMATCH.fullmatch(text):
            self._mismatches.append(text)
        if text.startswith("Section mismatches detected") and level == "ERROR":
            for mismatch in self._mismatches:
                self._blame_module(mismatch, f"WARNING: modpost: {mismatch}")
            return
        if level == "ERROR" or _WARNED.fullmatch(text):
            self._blame_module(text, line)

    def _blame_module(self, text: str, line: str) -> None:
        found = _MODULE.fullmatch(text)
        name = next((name for name in found.groups() if name), "") if found else ""
        if not name or name.startswith("vmlinux"):
            self._whole = clean(line)
            return
        quoted = _QUOTED.search(text)
        symbol = next((group for group in quoted.groups() if group), "") if quoted else ""
        line = line.replace("WARNING: modpost: ", "ERROR: modpost: ", 1)
        self._add(f"{name.removesuffix('.o')}.o", Kind.MODPOST, line, source="", symbol=symbol)

    def _add(self, name: str, kind: Kind, text: str, *, source: str, symbol: str = "") -> None:
        key = (clean(name), kind)
        known = self._found.get(key)
        if known is None and len(self._found) < MAX_FAILURES:
            symbols: tuple[str, ...] = (symbol,) if symbol else ()
            self._found[key] = Failure(
                object=key[0], kind=kind, error=self._shorten(text), source=clean(source), symbols=symbols
            )
        elif known is not None and symbol and symbol not in known.symbols:
            symbols = (*known.symbols, symbol)[:_MAX_SYMBOLS]
            self._found[key] = Failure(
                object=key[0], kind=kind, error=known.error, source=known.source, symbols=symbols
            )

    def _short(self, path: str) -> str:
        """A path from the top of the tree."""
        for root in self._roots:
            path = path.removeprefix(root)
        while path.startswith(("./", "../")):
            path = path.partition("/")[2]
        return path

    def _shorten(self, line: str) -> str:
        for root in self._roots:
            line = line.replace(root, "")
        return clean(line)


def clean(text: str) -> str:
    """Untrusted text for a table: one line without control characters, cut to 300 characters."""
    text = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_TEXT]).strip()
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def read_log(log: Path, tree: Path, output: Path) -> tuple[Failure, ...]:
    """What failed, by the whole log of a run of make (with or without -k and -O)."""
    reader = FailureReader(tree, output)
    with log.open("rb") as file:
        while raw := file.readline(1 << 16):
            reader.feed(raw.decode("utf-8", "replace").rstrip())
    return reader.failures


def summary(failures: Iterable[Failure], options_of: Callable[[str], Iterable[str]]) -> tuple[Row, ...]:
    """One row for each file that failed, in order, with the option that pulled it in.

    Arguments: `options_of`, the options that have an object built, as `Makefiles.options_of` says.
    """
    rows: dict[tuple[str, Kind], Row] = {}
    for failure in failures:
        file = failure.source or failure.object
        known = rows.get((file, failure.kind))
        rows[file, failure.kind] = Row(
            file=file,
            option=known.option if known else ", ".join(sorted(options_of(failure.object))),
            error=known.error if known else failure.error,
            kind=failure.kind,
            objects=known.objects + 1 if known else 1,
        )
    return tuple(rows.values())


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")) if path else ""
