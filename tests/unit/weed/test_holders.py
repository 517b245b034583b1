"""Kconfig read, its expressions, and what holds an option on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.weed.expression import parse
from harness.weed.holders import selectors_of, substitutes
from harness.weed.kconfig_file import read_options

Write = Callable[[str, str], Path]
ON = {"A": "y", "B": "y", "C": "m", "D": "n", "N": "64", "S": "text"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 2), ("C", 1), ("D", 0), ("UNKNOWN", 0), ("y", 2), ("m", 1),
        ("A && C", 1), ("A || C", 2), ("!A", 0), ("!C", 1), ("!(A && D)", 2),
        ("A = y", 2), ("C != n", 2), ("A = n", 0), ("D = n", 2), ("N = 64", 2), ("UNKNOWN = n", 2),
        ("A && B || D", 2), ("D && A || D", 0), ("D && (A || D)", 0),
        ("$(cc-option,-fx) && A", 2), ("N > 10", 2), ('S = "text"', 2), ('S = "other"', 0),
    ],
)  # fmt: skip
def test_values(text: str, value: int) -> None:
    """Expressions have the values that kconfig-language.rst gives them; what scripts decide counts as y."""
    assert parse(text).value(ON) == value


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("A", [{"A"}]), ("D", []), ("A && B", [{"A"}, {"B"}]), ("A || B", [{"A", "B"}]), ("A || D", [{"A"}]),
        ("!D", []), ("A = y", [{"A"}]), ("A && (B || C)", [{"A"}, {"B", "C"}]), ("y", []), ("A || y", []),
    ],
)  # fmt: skip
def test_breakers(text: str, sets: list[set[str]]) -> None:
    """Sets of options that make an expression false are found, and each does."""
    expression = parse(text)
    found = expression.breakers(ON)
    assert [set(some) for some in found] == sets
    for some in found:
        assert expression.value({**ON, **dict.fromkeys(some, "n")}) == 0


KCONFIG = """\
mainmenu "Linux"
source "arch/$(SRCARCH)/Kconfig"

config HELPER
\ttristate "Helper"  # settable
\thelp
\t  select NOT_THIS
\t  config NOR_THIS

menu "Menu"
\tdepends on MENU

config USER
\ttristate "User"
\tdepends on A && \\
\t\tB
\tselect HELPER if A
\timply IMPLIED

if A
choice
\tprompt "One of"
config IN_CHOICE
\tbool "In it"
\tselect HELPER
endchoice
comment "Just words"
\tdepends on COMMENT
endif

endmenu

config AFTER
\tdef_bool y
\tdepends on USER
"""


def test_kconfig_is_read(write: Write, tree: Path) -> None:
    """Selects, prompts, defaults and dependencies of menus and ifs are found, and none in help texts."""
    write("Kconfig", KCONFIG)
    write("arch/arm64/Kconfig", "config ARM64\n\tdef_bool y\n\tselect HELPER if USER\n")
    options = read_options(tree)
    assert set(options.entries) == {"ARM64", "HELPER", "USER", "IN_CHOICE", "AFTER"}
    assert {name for name, _condition in options.selectors["HELPER"]} == {"ARM64", "USER", "IN_CHOICE"}
    (user,) = options.entries["USER"]
    on = {"MENU": "y", "A": "y", "B": "y", "USER": "y"}
    assert all(need.value(on) for need in user.depends)
    for missing in ("MENU", "A", "B"):
        assert not all(need.value({**on, missing: "n"}) for need in user.depends)
    (after,) = options.entries["AFTER"]
    assert [need.value({"USER": "y"}) for need in after.depends] == [2]
    assert options.is_settable("HELPER", on)
    assert not options.is_settable("AFTER", on)
    (in_choice,) = options.entries["IN_CHOICE"]
    assert not any("COMMENT" in str(need) for need in in_choice.depends)


def test_files_outside_the_tree_are_not_read(write: Write, tree: Path) -> None:
    """A source that leads out of the tree, or in circles, is passed over."""
    (tree.parent / "Kconfig.out").write_text("config OUTSIDE\n\tbool\n")
    write("Kconfig", 'source "../Kconfig.out"\nsource "Kconfig"\nconfig INSIDE\n\tbool "x"\n')
    assert set(read_options(tree).entries) == {"INSIDE"}


def test_selectors_that_are_on(write: Write, tree: Path) -> None:
    """Only options that are on, and whose condition holds, hold another on."""
    write(
        "Kconfig",
        'config T\n\tbool "t"\nconfig X\n\tbool "x"\n\tselect T\nconfig Y\n\tbool "y"\n\tselect T if COND\n'
        'config Z\n\tbool "z"\n\tselect T\n',
    )
    options = read_options(tree)
    assert selectors_of("T", options, {"T": "y", "X": "y", "Y": "y"}) == ("X",)
    assert selectors_of("T", options, {"T": "y", "X": "y", "Y": "y", "COND": "y"}) == ("X", "Y")


@pytest.mark.parametrize(
    ("kconfig", "expected"),
    [
        ('config T\n\tbool "t"\n', [{"T"}]),
        ('config T\n\tbool "t"\nconfig X\n\tbool "x"\n\tselect T\n', [{"X"}]),
        (
            'config T\n\tbool\nconfig M\n\tbool\n\tselect T\nconfig X\n\tbool "x"\n\tselect M\n'
            'config Y\n\tbool "y"\n\tselect M\n',
            [{"X", "Y"}],
        ),
        (
            'config T\n\tbool\nconfig X\n\tbool "x"\n\tselect T if Y\nconfig Y\n\tbool "y"\n',
            [{"X"}, {"Y"}],
        ),
        ('config T\n\tdef_bool y\n\tdepends on X\nconfig X\n\tbool "x"\n', [{"X"}]),
        ('config T\n\tbool\n\tdefault y if X\n\tdefault X\nconfig X\n\tbool "x"\n', []),
        ('config T\n\tdef_bool X\nconfig X\n\tbool "x"\n', [{"X"}]),
        ("config T\n\tdef_bool y\n", []),
        ("config T\n\tbool\n\tselect T\n", []),
        ('config T\n\tbool "t" if EXPERT\n\tdefault y\n\tdepends on X\nconfig X\n\tbool "x"\n', [{"X"}]),
    ],
)
def test_substitutes(write: Write, tree: Path, kconfig: str, expected: list[set[str]]) -> None:
    """What to turn off for an option: itself, those that select it, or what its default depends on."""
    write("Kconfig", kconfig)
    config = dict.fromkeys(("T", "M", "X", "Y"), "y")
    assert [set(some) for some in substitutes("T", read_options(tree), config)] == expected
