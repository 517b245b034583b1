"""Who refers to a symbol, by nm."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ToolMissing
from harness.weed.ld import Linked, LinkReader, referrers


def test_every_referrer_is_found(tmp_path: Path) -> None:
    """All members that refer to the symbols asked for, whatever ld named; others are left out."""
    archive = tmp_path / "vmlinux.a"
    nm = tmp_path / "nm"
    listing = "".join(
        f"vmlinux.a:fs/{name}.o:                 U {name[0]}_sym\n" for name in ("a1", "a2", "b1")
    )
    nm.write_text(f"#!/bin/sh\n[ \"$*\" = '-A --undefined-only vmlinux.a' ] && printf '%s' '{listing}'\n")
    nm.chmod(0o755)
    assert referrers(str(nm), archive, {"a_sym"}) == {"a_sym": ("fs/a1.o", "fs/a2.o")}


def test_absent_nm_is_named(tmp_path: Path) -> None:
    """Without nm the package that has it is told."""
    with pytest.raises(ToolMissing, match="binutils"):
        referrers("no-such-nm", tmp_path / "vmlinux.a", {"x"})


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ld: fs/a.o: in function `f':", "fs/a.o"),
        ("aarch64-linux-gnu-ld: lib/lib.a(crc.o): in function `f':", "lib/crc.o"),
        ("ld: vmlinux.a(fs/a.o): in function `f':", "fs/a.o"),
    ],
)
def test_members_of_archives(line: str, name: str) -> None:
    """An object is named by its path, also as a member of its directory's archive or of the kernel's."""
    reader = LinkReader()
    assert reader.feed(line) is None
    assert reader.feed("a.c:(.text+0x4): undefined reference to `x'") == Linked(name, "x")


def test_a_complaint_without_an_object_blames_none() -> None:
    """After another step of the build, the object named before is not blamed."""
    reader = LinkReader()
    reader.feed("ld: fs/a.o: in function `f':")
    reader.end()
    assert reader.feed("a.c:(.text+0x4): undefined reference to `x'") is None
