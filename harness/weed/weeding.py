"""The rounds of a weeding: build, see what failed, turn its options off, build what that leaves.

The first round builds everything and goes on after failures; linking and modpost show theirs only once all
compiles, and ld and modpost stop listing at some point, so that it takes a few rounds, each of which reuses
the objects of the last. Then each option is proven, and everything is built once more without leniency.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.errors import InfraError, UsageError
from harness.linux.kconfig import Kconfig
from harness.weed.blame import Blame, Blamed
from harness.weed.definitions import defined_in
from harness.weed.failures import Failure
from harness.weed.kconfig_file import read_options
from harness.weed.makefiles import Makefiles
from harness.weed.proof import Proven, prove
from harness.weed.verdicts import Dropped, Outcome, Proof, Spent, Stuck
from harness.weed.workbench import Workbench

__all__ = ["MAX_ROUNDS", "Weeding"]

MAX_ROUNDS = 24


class Weeding:
    """One weeding; `run` does it, and `outcome` tells what is known at any time, also after an interrupt.

    Arguments: `keep`, options that stay; `only`, directories to build instead of everything; `changes` and
    `notes`, what `prepared` said. Raises UsageError for an option to be kept that the configuration lacks.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        keep: frozenset[str] = frozenset(),
        only: Sequence[str] = (),
        changes: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self._bench = bench
        self._only = tuple(only)
        self._changes, self._notes = changes, notes
        self._original = bench.configure(())
        absent = sorted(option for option in keep if not self._original.enabled(option))
        if absent:
            raise UsageError(
                f"--keep names {', '.join(f'CONFIG_{option}' for option in absent)}, which this tree does "
                "not have on with the configuration given. Leave it out, or turn it on there."
            )
        tree = bench.build.source
        self._blame = Blame(bench, Makefiles(tree), read_options(tree), keep)
        self._blamed: dict[str, Blamed] = {}
        self._off: frozenset[str] = frozenset()
        self._settled: frozenset[str] = frozenset()
        self._stuck: tuple[Stuck, ...] = ()
        self._proven = Proven()
        self._spent = Spent()
        self._is_complete = False
        self._defined: dict[str, str] = {}
        self._final: Kconfig | None = None

    def run(self) -> Outcome:
        """Weed; raises InfraError where a build fails for another reason than the tree's."""
        while self._spent.rounds < MAX_ROUNDS:
            self._rounds()
            with self._timed("proof_s"):
                self._bench.round = "looking at what goes with what"
                self._off = prove(self._bench, self._blamed, self._off, self._settled, self._proven)
            self._final = self._bench.configure(self._off)
            if self._stuck or self._only:
                self._is_complete = self._spent.rounds < MAX_ROUNDS
                break
            with self._timed("last_s"):
                self._bench.round = "everything, once more"
                failures = self._bench.attempt(self._targets(), lenient=False)
            if not failures:
                self._is_complete = True
                break
            self._settled |= frozenset(self._proven.turned_back_on)
            self._take(failures)
        return self.outcome()

    def outcome(self) -> Outcome:
        """What is known now."""
        off = self._off
        found = list(self._blamed)
        dropped = tuple(self._dropped(option) for option in sorted(off, key=found.index))
        explained = off.union(*(each.takes for each in dropped))
        together: tuple[str, ...] = ()
        if self._final is not None:
            gone = {name for name in self._original if self._original.enabled(name)}
            gone -= {name for name in self._final if self._final.enabled(name)}
            together = tuple(sorted(gone - explained))
        return Outcome(
            dropped=dropped,
            stuck=self._stuck,
            turned_back_on=tuple(option for option in self._proven.turned_back_on if option not in off),
            together=together,
            changes=self._changes,
            notes=self._notes,
            only=self._only,
            spent=self._spent,
            is_complete=self._is_complete,
            config=self._text() if self._final is not None else "",
            image=self._image(),
        )

    def _rounds(self) -> None:
        """Build until nothing fails, or nothing more can be turned off."""
        while self._spent.rounds < MAX_ROUNDS:
            number = self._spent.rounds + 1
            self._bench.configure(self._off)
            if number == 1:
                self._bench.expect_first()
            self._bench.round = f"round {number}, {len(self._off)} off"
            with self._timed("keep_going_s" if number == 1 else "rounds_s"):
                self._spent = replace(self._spent, rounds=number)
                failures = self._bench.attempt(self._targets())
                if not self._take(failures):
                    return

    def _take(self, failures: Sequence[Failure]) -> bool:
        """Turn off what these failures ask for; False when that is nothing new."""
        blamed, self._stuck = self._blame.of(failures, self._off)
        for option, theirs in blamed.items():
            known = self._blamed.setdefault(option, Blamed(instead_of=theirs.instead_of))
            known.failures += [failure for failure in theirs.failures if failure not in known.failures]
        symbols = {symbol for failure in failures for symbol in failure.symbols} - self._defined.keys()
        objects = {each.object for theirs in self._blamed.values() for each in theirs.failures}
        self._defined.update(defined_in(self._bench.build.source, symbols, objects))
        before = self._off
        self._off |= frozenset(blamed)
        return self._off != before

    def _targets(self) -> tuple[str, ...]:
        if self._only:
            return tuple(f"{directory.rstrip('/')}/" for directory in self._only)
        return ("Image", "modules") if self._bench.build.has_modules else ("Image",)

    def _dropped(self, option: str) -> Dropped:
        blamed = self._blamed[option]
        takes = self._proven.takes.get(option, ())
        symbols = {symbol for failure in blamed.failures for symbol in failure.symbols}
        return Dropped(
            option=option,
            value=self._original.get(option, "n"),
            failures=tuple(blamed.failures),
            instead_of=blamed.instead_of,
            takes=takes,
            broken_too=tuple(name for name in takes if name in self._blamed),
            proof=self._proven.proofs.get(option, Proof.NONE),
            defined_in={name: self._defined[name] for name in sorted(symbols) if name in self._defined},
        )

    def _text(self) -> str:
        return self._bench.known.get(self._off, "")

    def _image(self) -> Path | None:
        image = self._bench.build.output / "arch/arm64/boot/Image"
        if not self._is_complete or self._stuck or self._only:
            return None
        if not image.is_file():
            raise InfraError(f"everything was built, but there is no {image}: see {self._bench.build.log}")
        return image

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            spent_s = getattr(self._spent, what) + time.monotonic() - start_s
            self._spent = replace(self._spent, **{what: spent_s})
