"""Tests of harness.check.ledger: versions, what explains what, what is stale, bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from harness.check.disagreement import Disagreement, Mapped, Oracle
from harness.check.divergence import PREDICATES
from harness.check.ledger import Divergence, Ledger, Version, VersionRange
from harness.errors import InfraError
from harness.vmsa import Access, AccessKind, Fault, FaultKind, Registers

CASE: Final = Disagreement(
    va=0x1000,
    access=Access(kind=AccessKind.READ, el=1),
    registers=Registers(),
    regime=Fault(kind=FaultKind.TRANSLATION, level=0, reason="TxSZ"),
    outcome=Fault(kind=FaultKind.TRANSLATION, level=0, reason="TxSZ", va=0x1000),
    answer=Mapped(pa=0x1000),
    oracle=Oracle.MMU,
)
ENTRY = """[[divergence]]
id = "a"
qemu = ">=7.2"
predicate = "access_flag_ignored"
reason = "because"
source = "there"
"""


def _entry(name: str, qemu: str, predicate: str) -> Divergence:
    return Divergence(
        id=name, qemu=VersionRange.parse(qemu), predicate=predicate, reason="because", source="there"
    )


@pytest.mark.parametrize(
    ("text", "version", "within"),
    [
        (">=7.2", (7, 2, 0), True),
        (">=7.2", (7, 1, 99), False),
        (">=7.2, <8.2", (8, 1, 5), True),
        (">=7.2, <8.2", (8, 2, 0), False),
        ("<8.2", (10, 0, 0), False),
        (">7.2.22", (7, 2, 22), False),
        ("<=7.2.22", (7, 2, 22), True),
        ("==10.0.2", (10, 0, 2), True),
        ("==10.0", (10, 0, 2), False),
    ],
)
def test_versions(text: str, version: Version, within: bool) -> None:
    """A range holds the versions of which every comparator is true, as numbers and not as text."""
    assert (version in VersionRange.parse(text)) is within


@pytest.mark.parametrize("text", ["", "7.2", ">=7", "~=7.2", ">=7.2,", ">=7.2 <8"])
def test_what_is_no_range(text: str) -> None:
    """Anything else is refused, so that a slip cannot make an entry apply to nothing."""
    with pytest.raises(ValueError, match="not a range of versions"):
        VersionRange.parse(text)


def test_the_first_that_explains() -> None:
    """An entry explains what its predicate holds for, with its versions; the first in order counts."""
    predicates = {"yes": lambda _: True, "no": lambda _: False}
    ledger = Ledger(
        [_entry("never", ">=7.2", "no"), _entry("old", "<8.0", "yes"), _entry("new", ">=7.2", "yes")],
        predicates,
    )

    def explained(version: Version) -> str | None:
        entry = ledger.explain(CASE, version)
        return None if entry is None else entry.id

    assert explained((7, 2, 22)) == "old"
    assert explained((8, 0, 0)) == "new"
    assert explained((7, 0, 0)) == "old"
    assert Ledger([_entry("new", ">=7.2", "yes")], predicates).explain(CASE, (7, 0, 0)) is None


def test_stale() -> None:
    """Stale is what speaks of the version and matched nothing; what speaks of others is not."""
    predicates = {"yes": lambda _: True}
    ledger = Ledger(
        [_entry("a", "<8.2", "yes"), _entry("b", "<8.2", "yes"), _entry("c", ">=8.2", "yes")], predicates
    )
    assert [entry.id for entry in ledger.stale((7, 2, 22), {"a"})] == ["b"]
    assert [entry.id for entry in ledger.stale((9, 0, 0), ())] == ["c"]
    assert not ledger.stale((7, 2, 22), ["b", "a"])


def test_covers() -> None:
    """Whether an entry with a predicate speaks of a version."""
    ledger = Ledger([_entry("a", "<8.2", "yes")], {"yes": lambda _: True})
    assert ledger.covers("yes", (7, 2, 0))
    assert not ledger.covers("yes", (8, 2, 0))
    assert not ledger.covers("no", (7, 2, 0))


def test_entries_that_contradict_each_other() -> None:
    """One id twice, and a predicate that does not exist, are refused."""
    with pytest.raises(ValueError, match="twice"):
        Ledger([_entry("a", ">=7.2", "access_flag_ignored")] * 2)
    with pytest.raises(ValueError, match="'nonsense'"):
        Ledger([_entry("a", ">=7.2", "nonsense")])


def test_the_projects_ledger() -> None:
    """It loads; every predicate there is has an entry, for otherwise it is dead code."""
    assert {entry.predicate for entry in Ledger.load().entries} == set(PREDICATES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('reason = "because"\n', ""),
        ('"because"', '""'),
        ('"because"', "3"),
        (">=7.2", "7.2"),
        ("access_flag_ignored", "nonsense"),
        ("[[divergence]]", "[[divergence]]\nmore = 'x'"),
        ("[[divergence]]", "[divergence]"),
        ("[[divergence]]", "[[divergence"),
        ("[[divergence]]", "divergence = [3]\n[x]"),
    ],
)
def test_files_that_are_no_ledger(tmp_path: Path, old: str, new: str) -> None:
    """A malformed file is an error that names it; the same file unharmed is read."""
    path = tmp_path / "ledger.toml"
    path.write_text(ENTRY.replace(old, new) if old else ENTRY)
    if not old:
        assert [entry.id for entry in Ledger.load(path).entries] == ["a"]
        return
    with pytest.raises(InfraError, match=r"ledger\.toml"):
        Ledger.load(path)


def test_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is an error that names it."""
    with pytest.raises(InfraError, match="absent"):
        Ledger.load(tmp_path / "absent")
