"""Tests of harness.rig.query: operations, and what results say."""

from __future__ import annotations

import re

import pytest

from harness.check.disagreement import Answer, Faulted, Mapped
from harness.paths import data_dir
from harness.rig.query import Operation, answer_of

TAKEN = 1 << 63
FETCH, LOAD = Operation.FETCH_EL1, Operation.S1E0R


@pytest.mark.parametrize(
    ("operation", "value", "syndrome", "answer"),
    [
        # PAR_EL1 of a success: ATTR 63:56, PA 51:12, bit 11 RES1, NS 9, SH 8:7.
        (LOAD, 0xFF0F_1234_5678_9B80, 0, Mapped(pa=0xF_1234_5678_9000, attr=0xFF, sh=3)),
        (LOAD, 0x801 | 0x2B << 1, 0, Faulted(fsc=0x2B)),
        (LOAD, 0, TAKEN | 0x25 << 26 | 1 << 8 | 0x15, Faulted(fsc=0x15, taken=True)),
        (FETCH, 0, TAKEN | 0x15 << 26, Mapped(pa=None)),
        (FETCH, 0, TAKEN | 0x00 << 26, Mapped(pa=None)),
        (FETCH, 0, TAKEN | 0x21 << 26 | 0x0F, Faulted(fsc=0x0F, taken=True)),
        (Operation.FETCH_EL0, 0, TAKEN | 0x20 << 26 | 0x07, Faulted(fsc=0x07, taken=True)),
        (FETCH, 0, TAKEN | 0x21 << 26 | 0x10, Mapped(pa=None)),
    ],
)
def test_answers(operation: Operation, value: int, syndrome: int, answer: Answer) -> None:
    """PAR_EL1 and ESR_EL1 are read as the manual lays them out (Arm ARM DDI 0487, D24.2)."""
    assert answer_of(operation, value, syndrome) == answer


def test_an_exception_that_makes_no_sense() -> None:
    """An AT instruction that is undefined on this CPU is an error of the rig, not an answer."""
    with pytest.raises(ValueError, match="S1E0R ended in an exception of class 0x0"):
        answer_of(LOAD, 0, TAKEN)


def test_operations_are_the_payloads() -> None:
    """The payload's table has four instructions for each operation, in the order of the enumeration."""
    source = (data_dir("guests") / "rig" / "rig.S").read_text()
    table = source.split("\noperations:\n")[1].split("/*")[0].split()
    lines = re.findall(r"^\t? {8}(\w.*)$", source.split("\noperations:\n")[1].split("/*")[0], re.MULTILINE)
    assert table
    assert len(lines) == 4 * len(Operation)
    for operation in Operation:
        mine = " ".join(lines[4 * operation.value : 4 * operation.value + 4])
        word = f"AS_{operation.name[-3:]}" if "FETCH" in operation.name else f"{operation.name.lower()},"
        assert word in mine
        assert ("pan" in mine) is operation.access.pan
