"""What `granule hyperv try` prints: each check before and after, and the rules that tell why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.wording import safe
from harness.trial import Change, Trial
from harness.trial.compare import ABSENT, CheckChange
from harness.verdict import Skipped

__all__ = ["print_trials", "trial_facts"]

SCHEMA: Final = 1
TEXT_LIMIT: Final = 400
_WORSE, _BETTER = "bold red", "green"


def print_trials(
    change: Change, trials: Sequence[Trial], skipped: Sequence[Skipped], console: Console
) -> None:
    """The table, then what changed on the wire and why, then what nothing here exercised, then one line."""
    console.print(Text(f"{safe(change.label)[:TEXT_LIMIT]}"))
    console.print(_table(trials))
    for trial in trials:
        where = f"{trial.cell.page_size.label} {trial.cell.kernel}"
        if trial.comparison is None:
            console.print(f"{where}: does not build: {safe(trial.not_built)}", soft_wrap=True)
            continue
        for moved in trial.comparison.rules:
            rule = moved.rule
            said = "broken with it" if moved.is_worse else "broken without it"
            console.print(
                f"{where}: {moved.name} {said}: {rule.driver}, {rule.claim} ({rule.source}): "
                f"{safe(rule.first)[:TEXT_LIMIT]}",
                soft_wrap=True,
            )
        if trial.not_exercised:
            names = ", ".join(trial.not_exercised)
            console.print(f"{where}: changed, and not exercised: {names}", soft_wrap=True)
    for one in skipped:
        console.print(f"not tried: {one.id}: {safe(one.reason)}", soft_wrap=True)
    console.print(_summary(trials))


def _table(trials: Sequence[Trial]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("check")
    columns: list[dict[str, CheckChange]] = []
    for trial in trials:
        table.add_column(f"{trial.cell.page_size.label} {trial.cell.kernel}", overflow="fold")
        columns.append({one.name: one for one in trial.comparison.checks} if trial.comparison else {})
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(_shown(column.get(name)) for column in columns))
    return table


def _shown(one: CheckChange | None) -> Text:
    if one is None:
        return Text(ABSENT)
    return Text(str(one), style=_WORSE if one.is_worse else _BETTER if one.is_better else "")


def _summary(trials: Sequence[Trial]) -> str:
    worse = [trial.cell.page_size.label for trial in trials if trial.is_worse]
    better = [
        trial.cell.page_size.label for trial in trials if trial.comparison and trial.comparison.is_better
    ]
    idle = {name for trial in trials for name in trial.not_exercised}
    parts = [f"worse at {', '.join(dict.fromkeys(worse))}"] if worse else []
    parts += [f"better at {', '.join(dict.fromkeys(better))}"] if better else []
    parts = parts or ["no difference"]
    bad = [
        trial.cell.page_size.label
        for trial in trials
        if trial.before is not None and trial.before.cell.verdict.is_failure
    ]
    parts += [f"fails without it too at {', '.join(dict.fromkeys(bad))}"] if bad else []
    return "; ".join([*parts, *([f"not exercised: {', '.join(sorted(idle))}"] if idle else [])])


def trial_facts(change: Change, trials: Sequence[Trial], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """The same for programs."""
    affected = change.affected
    return {
        "schema": SCHEMA,
        "change": change.label,
        "modules": list(affected.modules),
        "other_files": list(affected.beyond),
        "files_without_code": list(affected.idle),
        "trials": [_facts(trial) for trial in trials],
        "not_tried": [{"cell": one.id, "reason": one.reason} for one in skipped],
        "worse": any(trial.is_worse for trial in trials),
    }


def _facts(trial: Trial) -> dict[str, Any]:
    comparison = trial.comparison
    return {
        "kernel": trial.cell.kernel,
        "page_size": trial.cell.page_size.token,
        "built": trial.after is not None,
        "not_built": trial.not_built,
        "worse": trial.is_worse,
        "checks": [
            {
                "name": one.name,
                "before": one.before.value if one.before else None,
                "after": one.after.value if one.after else None,
                "worse": one.is_worse,
            }
            for one in (comparison.checks if comparison else ())
        ],
        "rules": [
            {
                "name": one.name,
                "driver": one.rule.driver,
                "source": one.rule.source,
                "claim": one.rule.claim,
                "worse": one.is_worse,
                "broken": one.rule.broken,
                "first": one.rule.first,
            }
            for one in (comparison.rules if comparison else ())
        ],
        "not_exercised": list(trial.not_exercised),
    }
