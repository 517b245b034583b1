"""From what failed to options that may be turned off, and did go off.

Each proposal is asked of the tree's own kconfig before anything is built with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.linux.kconfig import Kconfig
from harness.weed.failures import Failure, Kind
from harness.weed.holders import substitutes
from harness.weed.kconfig_file import Options
from harness.weed.makefiles import Makefiles
from harness.weed.verdicts import Stuck, Why
from harness.weed.workbench import Workbench

__all__ = ["Blame", "Blamed"]

_MAX_OUTWARD = 8


@dataclass(slots=True)
class Blamed:
    """An option to be turned off, and why."""

    failures: list[Failure] = field(default_factory=list)
    instead_of: str = ""


class Blame:
    """Finds what to turn off.

    Arguments: `keep`, options that must stay as they are.
    """

    def __init__(
        self, bench: Workbench, makefiles: Makefiles, options: Options, keep: frozenset[str]
    ) -> None:
        self._bench = bench
        self._makefiles = makefiles
        self._options = options
        self._keep = keep
        self._original = bench.configure(())

    def of(
        self, failures: Iterable[Failure], off: frozenset[str]
    ) -> tuple[dict[str, Blamed], tuple[Stuck, ...]]:
        """The options to turn off besides `off` for these failures, and the failures that none will mend."""
        config = self._bench.configure(off)
        wanted: dict[frozenset[str], list[Failure]] = {}
        stuck: list[Stuck] = []
        for failure in failures:
            found = self._makefiles.options_of(self._object_of(failure), config)
            if not found:
                stuck.append(Stuck(failure=failure, why=Why.NO_OPTION))
            else:
                wanted.setdefault(found, []).append(failure)
        easy = self._easy(wanted, off)
        blamed: dict[str, Blamed] = {}
        for some, theirs in wanted.items():
            why, option = Why.KEPT, ", ".join(sorted(some & self._keep))
            gone: dict[str, str] = {}
            if some in easy:
                gone = dict.fromkeys(some, "")
            elif not option:
                gone, why, option = self._turned_off(some, theirs[0], off | frozenset().union(*easy))
            if not gone:
                stuck += [Stuck(failure=each, why=why, option=option) for each in theirs]
            for name, instead_of in gone.items():
                blamed.setdefault(name, Blamed(instead_of=instead_of)).failures.extend(theirs)
        return blamed, tuple(stuck)

    def _easy(self, wanted: Iterable[frozenset[str]], off: frozenset[str]) -> tuple[frozenset[str], ...]:
        """Of those sets, the ones that simply go off, asked of kconfig all at once."""
        free = tuple(some for some in wanted if not some & self._keep)
        after = self._bench.configure(off.union(*free))
        if self._lost(after):
            return ()
        return tuple(some for some in free if not any(after.enabled(option) for option in some))

    def _turned_off(
        self, some: frozenset[str], failure: Failure, off: frozenset[str]
    ) -> tuple[dict[str, str], Why, str]:
        """Options that turn off `some`, or what stands further out; each with what it is off instead of."""
        given_up: frozenset[str] = frozenset()
        config = self._bench.configure(off)
        named = ", ".join(sorted(some))
        why = Why.HELD
        for _ in range(_MAX_OUTWARD):
            found, keeps = self._cheapest(some, off)
            if found:
                return found, why, named
            if keeps:
                return {}, Why.KEPT, ", ".join(sorted(keeps))
            given_up |= some
            some = self._makefiles.outward(self._object_of(failure), config, given_up)
            if not some:
                break
            if some & self._keep:
                return {}, Why.KEPT, ", ".join(sorted(some & self._keep))
        return {}, why, named

    def _cheapest(self, some: frozenset[str], off: frozenset[str]) -> tuple[dict[str, str], frozenset[str]]:
        """The way to turn `some` off that loses the fewest options; and what is to be kept but would be lost.

        Turning them off themselves comes first; where they are held on, what holds them.
        """
        config = self._bench.configure(off)
        plain = self._bench.configure(off | some)
        held = sorted(option for option in some if plain.enabled(option))
        if not held:
            lost = self._lost(plain)
            return ({}, lost) if lost else (dict.fromkeys(some, ""), lost)
        ways: list[frozenset[str]] = [frozenset()]
        for option in held:
            further = substitutes(option, self._options, plain)
            ways = [way | more for way in ways for more in further][:16]
        best: dict[str, str] = {}
        fewest: int | None = None
        keeps: frozenset[str] = frozenset()
        for way in ways:
            after = self._bench.configure(off | some | way)
            if any(after.enabled(option) for option in some):
                continue
            if lost := self._lost(after):
                keeps |= lost
                continue
            count = sum(1 for option in config if config.enabled(option) and not after.enabled(option))
            if fewest is None or count < fewest:
                fewest = count
                # Itself too: once nothing selects it, it would be on as the configuration has it.
                best = dict.fromkeys(some, "") | dict.fromkeys(way, ", ".join(held))
        return best, keeps

    def _lost(self, config: Kconfig) -> frozenset[str]:
        """Options to be kept that this configuration no longer has as they were."""
        return frozenset(
            option for option in self._keep if config.get(option, "n") != self._original.get(option, "n")
        )

    def _object_of(self, failure: Failure) -> str:
        """The object's place, looked up where modpost named a module without its directory."""
        if failure.kind is not Kind.MODPOST or "/" in failure.object:
            return failure.object
        order = self._bench.build.output / "modules.order"
        if order.is_file():
            with order.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    path = Path(line.strip()).with_suffix(".o")
                    if path.name.replace("-", "_") == failure.object.replace("-", "_"):
                        return str(path)
        return failure.object
