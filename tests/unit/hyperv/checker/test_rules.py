"""Tests of harness.hyperv.checker.rules, against the document that lists them."""

from __future__ import annotations

from pathlib import Path

from harness.hyperv.checker import RULES

DOCUMENT = Path(__file__).parents[4] / "docs/hyperv-checker.md"


def test_the_document_lists_them() -> None:
    """Each rule is in the document once, with its claim and the place in Linux, and no other is."""
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `") and "." in line]
    listed = {row.split("`")[1]: row for row in rows if "/" not in row.split("`")[1]}
    assert listed.keys() == {rule.name for rule in RULES}
    for rule in RULES:
        assert rule.claim in listed[rule.name]
        assert rule.source in listed[rule.name]
