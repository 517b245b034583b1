"""Warnings, object by object."""

from __future__ import annotations

from pathlib import Path

from harness.series.logs import Ledger, first_place, new_warnings
from harness.series.values import Warning_

UNUSED = "unused variable 'a' [-Wunused-variable]"


def log(directory: Path, *lines: str) -> Path:
    """A build's log."""
    path = directory / "log"
    path.write_text("\n".join(lines) + "\n")
    return path


def made(directory: Path, *names: str) -> None:
    """Objects, as a build leaves them."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_warnings_are_kept_until_the_object_is_made_again(tmp_path: Path) -> None:
    """A build that does not compile a file does not lose its warnings; one that does, decides."""
    source, output = tmp_path / "tree", tmp_path / "out"
    made(output, "mm/a.o", "mm/b.o")
    first = Ledger.read(output, source)
    said = f"{source}/mm/a.c:3:6: warning: {UNUSED}"
    assert first.absorb(log(tmp_path, "  CC      mm/a.o", said, "  CC      mm/b.o")) == ("mm/a.o", "mm/b.o")
    first.save()
    second = Ledger.read(output, source)
    second.absorb(log(tmp_path, "  CC      mm/b.o"))
    assert second.warnings() == (Warning_("mm/a.c", 3, UNUSED),)
    second.absorb(log(tmp_path, "  CC      mm/a.o"))
    assert second.warnings() == ()


def test_objects_that_are_gone_do_not_warn(tmp_path: Path) -> None:
    """A patch that removes a file removes its warnings."""
    ledger = Ledger(tmp_path, tmp_path)
    ledger.absorb(log(tmp_path, "  CC [M]  mm/a.o", f"mm/a.c:3: warning: {UNUSED}"))
    assert ledger.warnings() == ()


def test_linker_and_modpost(tmp_path: Path) -> None:
    """They have no line, and are warnings all the same."""
    ledger = Ledger(tmp_path, tmp_path)
    lines = ("WARNING: modpost: vmlinux: section mismatch in a", "aarch64-linux-gnu-ld: warning: b has RWX")
    ledger.absorb(log(tmp_path, *lines))
    assert [str(one) for one in ledger.warnings()] == [
        "ld: b has RWX",
        "modpost: modpost: vmlinux: section mismatch in a",
    ]


def test_a_damaged_ledger_is_empty(tmp_path: Path) -> None:
    """A file that was cut short is no reason to fail."""
    (tmp_path / "granule.warnings.json").write_text('{"mm/a.o": [["mm')
    assert Ledger.read(tmp_path, tmp_path).warnings() == ()


def test_new_warnings() -> None:
    """One that only moved is not new; a second one of the same text is."""
    base = (Warning_("a.c", 3, "x"),)
    now = (Warning_("a.c", 5, "x"), Warning_("a.c", 9, "x"), Warning_("b.c", 1, "x"))
    assert new_warnings(base, now) == now[1:]


def test_place_of_an_error_in_a_header(tmp_path: Path) -> None:
    """An assertion that a header makes is placed where it is used; one in a source file where it is."""
    source = tmp_path / "tree"
    said = log(
        tmp_path,
        "  CC      mm/a.o",
        f"{source}/mm/a.c:1:1: warning: {UNUSED}",
        "  CC      mm/b.o",
        "In file included from <command-line>:",
        "In function 'f',",
        f"    inlined from 'g' at {source}/mm/b.c:237:1:",
        f"{source}/include/linux/compiler_types.h:543:45: error: call to '__compiletime_assert_1' declared",
    )
    assert first_place(said, source, tmp_path) == "mm/b.c:237"
    said = log(tmp_path, "  CC      mm/a.o", f"{source}/mm/a.c:3:1: error: no")
    assert first_place(said, source, tmp_path) == "mm/a.c:3"
    said = log(tmp_path, "In file included from mm/c.c:7:", f"{source}/include/x.h:3:1: fatal error: no")
    assert first_place(said, source, tmp_path) == "mm/c.c:7"
    assert first_place(log(tmp_path, "make: *** [x] Error 2"), source, tmp_path) == ""
