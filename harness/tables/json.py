"""The values of this package for programs: plain dictionaries, which `json.dumps` takes.

Addresses and descriptors are strings of hexadecimal digits (`"0xffff800080000000"`), as many programs hold
numbers of 64 bits in 53; sizes are numbers of bytes. May import this package and `harness.vmsa`.
"""

from __future__ import annotations

from typing import Any, Final

from harness.tables.difference import Difference, Side
from harness.tables.explain import Explanation
from harness.tables.survey import Row, Survey
from harness.tables.words import safe
from harness.vmsa import Permissions, Regime, Translation

__all__ = ["SCHEMA", "difference_json", "explanation_json", "regime_json", "survey_json"]

SCHEMA: Final = 1
"""Grows when a name goes or changes its meaning; names may be added without."""


def regime_json(regime: Regime) -> dict[str, Any]:
    """What rules a half."""
    return {
        "regime": regime.name.value,
        "range": regime.va_range.name.lower(),
        "granule_bytes": 1 << regime.geometry.granule_log2,
        "va_bits": regime.iasize_bits,
        "pa_bits": regime.oasize_bits,
        "start_level": regime.start_level,
        "address_format": regime.address_format.value,
        "table": hex(regime.table_pa),
        "asid": regime.asid,
    }


def _rights(rights: Permissions) -> dict[str, str]:
    return {"el1": str(rights.privileged), "el0": str(rights.user)}


def survey_json(survey: Survey, limit: int | None = None) -> dict[str, Any]:
    """A half: regions, rows (at most `limit`), totals, what was odd."""
    totals = survey.totals
    rows = [_row(survey, row) for row in survey.rows(limit)]
    return {
        "schema": SCHEMA,
        "origin": safe(survey.origin),
        "half": survey.half,
        "regime": regime_json(survey.regime),
        "notes": list(survey.notes),
        "totals": {
            "leaves": totals.leaves,
            "mapped_bytes": totals.mapped_bytes,
            "tables": totals.tables,
            "table_bytes": totals.table_bytes,
            "by_leaf": [
                {
                    "leaf": share.leaf,
                    "leaf_bytes": share.leaf_bytes,
                    "group_bytes": share.group_bytes,
                    "leaves": share.leaves,
                    "mapped_bytes": share.mapped_bytes,
                }
                for share in totals.shares
            ],
        },
        "regions": [
            {"name": region.name, "start": hex(region.start_va), "end": hex(region.end_va)}
            for region in survey.regions
        ],
        "rows": rows,
        "rows_left_out": len(survey.found) - len(rows),
        "anomalies": [
            {"kind": odd.kind.value, "va": hex(odd.va), "size_bytes": odd.size_bytes, "level": odd.level,
             "pa": hex(odd.pa)}
            for odd in survey.anomalies[:limit]
        ],
    }  # fmt: skip


def _row(survey: Survey, row: Row) -> dict[str, Any]:
    return {
        "va": hex(row.va),
        "size_bytes": row.size_bytes,
        "pa": hex(row.pa),
        "region": survey.region_of(row.va).name,
        "level": row.level,
        "leaf_bytes": row.leaf_bytes,
        "group_bytes": row.group_bytes,
        "leaves": row.leaves,
        **_rights(row.rights),
        "memory": str(row.memory),
        "shareability": row.shareability,
        "word": hex(row.word),
    }


def difference_json(difference: Difference, limit: int | None = None) -> dict[str, Any]:
    """Two halves held against each other."""
    changes = [
        {
            "va": hex(change.va),
            "size_bytes": change.size_bytes,
            "kinds": list(change.kinds),
            "region": change.region,
            "before": _side(change.before),
            "after": _side(change.after),
        }
        for change in difference.changes(limit)
    ]
    return {
        "schema": SCHEMA,
        "before": safe(difference.before.origin),
        "after": safe(difference.after.origin),
        "half": difference.after.half,
        "same": not len(difference),
        "counts": {
            words: {"ranges": ranges, "bytes": size_bytes}
            for words, (ranges, size_bytes) in difference.counts().items()
        },
        "changes": changes,
        "changes_left_out": len(difference) - len(changes),
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {
        "pa": hex(side.pa),
        "word": hex(side.word),
        "level": side.level,
        **_rights(side.rights),
        "memory": side.memory,
    }


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """One translation."""
    outcome = explained.outcome
    fault = None
    if not isinstance(outcome, Translation):
        fault = {
            "kind": outcome.kind.value,
            "level": outcome.level,
            "fsc": outcome.fsc,
            "reason": outcome.reason,
        }
    return {
        "va": hex(explained.va),
        "symbol": explained.symbol or None,
        "mapped": explained.is_mapped,
        "pa": hex(outcome.pa) if isinstance(outcome, Translation) else None,
        "which": list(explained.which),
        "steps": [
            {
                "level": step.level,
                "table": hex(step.table_pa),
                "index": step.index,
                "va_bits": step.va_bits,
                "pa": hex(step.pa),
                "word": None if step.word is None else hex(step.word),
                "kind": step.kind,
                "fields": [
                    {"bits": field.place, "name": field.name, "value": field.value, "meaning": field.meaning}
                    for field in step.fields
                ],
                "hands_down": list(step.hands_down),
            }
            for step in explained.steps
        ],
        "result": list(explained.result),
        "accesses": [
            {
                "el": access.el,
                "pan": access.pan,
                "kind": access.kind,
                "allowed": access.fault is None,
                "fsc": access.fault.fsc if access.fault else None,
                "refused_by": access.refused_by,
            }
            for access in explained.accesses
        ],
        "fault": fault,
    }
