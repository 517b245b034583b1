"""From the cells of a suite to the outcome of each check, over one run or several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.series.affected import Suite
from harness.series.values import Outcome
from harness.spec import Platform
from harness.verdict import CellResult, CheckResult, MatrixResult, Verdict

__all__ = ["BOOT", "check_name", "outcomes_of"]

BOOT: Final = "boot"
"""The guest came to its shell."""
_PAGE_SIZE: Final = "page-size"
_LOG: Final = "kernel-log"
_PC: Final = re.compile(r"\bpc : (\S+?\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?)")
_AT: Final = re.compile(r"(\S+) is at (\S+)")
_SAID_CHARS: Final = 300
_OWN: Final = frozenset({"vmbus", "storvsc", "netvsc", "hv-utils", "wire"})


@dataclass(slots=True)
class _Tally:
    """One check in one run."""

    ran: bool = False
    said: str = ""
    """Of the first failure; empty where it passed."""
    reason: str = ""
    """Why it did not run."""
    place: str = ""
    cells: tuple[str, ...] = ()


def check_name(name: str, platform: Platform) -> str:
    """A check's name in the table: those that run on either platform are told apart."""
    return name if platform is Platform.VIRT or name in _OWN else f"{platform.value}:{name}"


def outcomes_of(suite: Suite, runs: Sequence[MatrixResult]) -> dict[str, Outcome]:
    """The outcome of each check of a suite over its runs."""
    tallies = [_tally(suite, run) for run in runs]
    names = list(dict.fromkeys(name for tally in tallies for name in tally))
    return {
        check_name(name, suite.platform): _over_runs([tally[name] for tally in tallies if name in tally])
        for name in names
    }


def _over_runs(tallies: Sequence[_Tally]) -> Outcome:
    ran = [tally for tally in tallies if tally.ran]
    failed = [tally for tally in ran if tally.said]
    reasons = [tally.reason for tally in tallies if tally.reason]
    return Outcome(
        runs=len(ran),
        failed=len(failed),
        said=failed[0].said if failed else "" if ran else next(iter(reasons), ""),
        place=next((tally.place for tally in failed if tally.place), ""),
        cells=tuple(dict.fromkeys(cell for tally in failed for cell in tally.cells)),
    )


def _tally(suite: Suite, run: MatrixResult) -> dict[str, _Tally]:
    cells = run.cells
    tallies: dict[str, _Tally] = {BOOT: _Tally()} | {name: _Tally() for name in suite.names}
    for cell in cells:
        place = _place(cell) if cell.verdict.is_failure else ""
        _booted(cell, place, tallies[BOOT])
        for check in cell.checks:
            _checked(cell, check, place, tallies.setdefault(check.name, _Tally()))
        if cell.verdict is Verdict.WRONG_PAGE_SIZE:
            _fail(tallies[_PAGE_SIZE], cell, cell.reason, "")
        elif cell.verdict.is_failure and cell.boot_s is not None:
            _ended_early(suite, cell, place, tallies)
    for name in suite.names:
        if not tallies[name].ran and not tallies[name].reason:
            tallies[name].reason = _why_not(run)
    return tallies


def _place(cell: CellResult) -> str:
    """Where the kernel was when it complained: the function, with its file and line where they are known."""
    functions = _PC.findall(cell.console)
    known = [found for line in cell.diagnosis if (found := _AT.fullmatch(line))]
    if known:
        return f"{known[0][2]} ({known[0][1]})"
    return str(functions[0]) if functions else ""


def _why_not(run: MatrixResult) -> str:
    """Why a check has no result."""
    for cell in run.cells:
        if cell.reason:
            return f"the guest did not get so far: {cell.reason}"
    return next((skipped.reason for skipped in run.skipped), "no guest was asked")


def _booted(cell: CellResult, place: str, tally: _Tally) -> None:
    if cell.boot_s is not None:
        tally.ran = True
    elif cell.verdict.is_failure:
        _fail(tally, cell, f"{cell.verdict.value}: {cell.reason}", place)
    else:
        tally.reason = cell.reason


def _checked(cell: CellResult, check: CheckResult, place: str, tally: _Tally) -> None:
    if check.verdict is Verdict.SKIP or check.verdict is Verdict.INFRA:
        tally.reason = check.skip_reason or cell.reason
    elif check.verdict.is_pass:
        tally.ran = True
    else:
        said = str(check.findings[0]) if check.findings else check.verdict.value
        _fail(tally, cell, said, place if check.name == _LOG else "")


def _ended_early(suite: Suite, cell: CellResult, place: str, tallies: dict[str, _Tally]) -> None:
    """Blame the check that a guest did not outlive: the first of the cell's own without a result."""
    if any(check.verdict.is_failure and check.name in suite.names for check in cell.checks):
        return
    if cell.verdict in (Verdict.FAIL, Verdict.PASS):
        return
    done = {check.name for check in cell.checks}
    last = max((suite.names.index(name) for name in done if name in suite.names), default=-1)
    left = [name for name in suite.names[last + 1 :] if name not in done and not tallies[name].ran]
    if left:
        _fail(tallies[left[0]], cell, f"{cell.verdict.value}: {cell.reason}", place)


def _fail(tally: _Tally, cell: CellResult, said: str, place: str) -> None:
    tally.ran = True
    tally.said = tally.said or " ".join(said.split())[:_SAID_CHARS] or "it failed"
    tally.place = tally.place or place
    tally.cells = (*tally.cells, cell.id)
