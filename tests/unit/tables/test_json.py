"""Tests of harness.tables.json and text: both say what the values say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console

from harness.tables.difference import compare
from harness.tables.explain import explain
from harness.tables.half import view_of
from harness.tables.json import difference_json, explanation_json, survey_json
from harness.tables.survey import Survey, survey
from harness.tables.text import print_difference, print_explanation, print_survey

MakeGuest = Callable[..., Any]


def _survey(guest: Any, origin: str = "built") -> Survey:
    return survey(guest.builder.regime, guest.builder.read, origin=origin, half="kernel")


def _printed(show: Callable[..., None], *values: Any, colour: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=80, markup=False, highlight=False, force_terminal=colour, no_color=not colour
    )
    show(values[0], console, *values[1:])
    return stream.getvalue()


def test_a_survey(make_guest: MakeGuest) -> None:
    """Rows, regions and totals are there, addresses as hexadecimal strings, and it is JSON."""
    guest = make_guest()
    found = json.loads(json.dumps(survey_json(_survey(guest))))
    text = next(row for row in found["rows"] if row["va"] == hex(guest.image_va))
    assert (text["el1"], text["el0"], text["region"]) == ("r-x", "---", "kernel image")
    assert found["totals"]["leaves"] == sum(row["leaves"] for row in found["rows"])
    assert found["rows_left_out"] == 0
    assert survey_json(_survey(guest), 1)["rows_left_out"] == len(found["rows"]) - 1


def test_a_printed_survey(make_guest: MakeGuest) -> None:
    """A row is one line however narrow the terminal is, below its region."""
    guest = make_guest()
    lines = _printed(print_survey, _survey(guest)).splitlines()
    row = next(line for line in lines if f"{guest.image_va:#018x}-" in line and "r-x ---" in line)
    assert "4 x 4K page" in row
    region = lines.index(next(line for line in lines if line.startswith("kernel image")))
    assert lines.index(row) == region + 1
    assert any("leaves map" in line for line in lines)


def test_what_is_left_out_is_said(make_guest: MakeGuest) -> None:
    """With a limit the number of rows that were left out is there."""
    found = _survey(make_guest())
    assert f"and {len(found.found) - 1} more rows" in _printed(print_survey, found, 1)
    assert "more row" not in _printed(print_survey, found, None)


def test_colour_is_for_terminals(make_guest: MakeGuest) -> None:
    """There are no escape sequences but on a terminal, and the words are the same."""
    found = _survey(make_guest())
    assert "\x1b" not in _printed(print_survey, found)
    assert "\x1b[" in _printed(print_survey, found, colour=True)


def test_hostile_names(make_guest: MakeGuest) -> None:
    """A file's name does not reach the terminal as it is."""
    found = replace(_survey(make_guest(), "a\x1b[2J\nb"), notes=("\x1b]0;x\x07",))
    assert "\x1b" not in _printed(print_survey, found)
    assert "\x1b" not in json.dumps(survey_json(found))


def test_an_explanation(make_guest: MakeGuest) -> None:
    """The steps and who may do what are there, for programs and people."""
    guest = make_guest()
    explained = explain(view_of(guest.snapshot()), guest.image_va + 8, "_text+0x8")
    found = json.loads(json.dumps(explanation_json(explained)))
    assert found["pa"] == hex(0x4800_0000 - 8 * 4096 + 8)
    assert [step["level"] for step in found["steps"]] == [0, 1, 2, 3]
    assert {"el": 1, "pan": False, "kind": "write", "allowed": False, "fsc": 0x0F,
            "refused_by": "AP[2] = 1 (read-only)"} in found["accesses"]  # fmt: skip
    text = _printed(print_explanation, explained)
    assert text.startswith(f"{guest.image_va + 8:#018x}  _text+0x8 -> {found['pa']}\n")
    assert "EL1 may not write (permission fault, level 3, FSC 0x0f): AP[2] = 1 (read-only)" in text


def test_an_explained_fault(make_guest: MakeGuest) -> None:
    """A fault has its kind, level, code and reason."""
    guest = make_guest()
    explained = explain(view_of(guest.snapshot()), guest.linear_va + (1 << 30))
    found = explanation_json(explained)
    assert (found["mapped"], found["pa"]) == (False, None)
    assert (found["fault"]["kind"], found["fault"]["fsc"]) == ("translation fault", 0x05)
    assert "not mapped" in _printed(print_explanation, explained)


def test_a_difference(make_guest: MakeGuest) -> None:
    """What differs is told with both sides, and nothing is told where nothing does."""
    before, after = make_guest(), make_guest()
    after.builder.map(after.linear_va + (1 << 30), 0x6000_0000, 4096, level=3)
    found = compare(_survey(before, "one"), _survey(after, "two"))
    said = json.loads(json.dumps(difference_json(found)))
    assert said["same"] is False
    assert said["changes"][0]["before"] is None
    assert said["changes"][0]["after"]["pa"] == "0x60000000"
    text = _printed(print_difference, found)
    assert "mapped only in the second: 1 range, 4 KiB" in text
    assert "the kernel halves are the same" in _printed(
        print_difference, compare(_survey(before), _survey(before))
    )
