"""Tests of harness.snapshot.open, and of what docs/snapshots.md says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.snapshot import open_snapshot, save

DOC = Path(__file__).parents[3] / "docs" / "snapshots.md"


def test_the_documented_lines(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The five lines of the docs walk a core: run as they stand, they print a translation of the pc."""
    (code,) = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 4
    make.core()
    monkeypatch.chdir(make.directory)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102 - our own documentation
    assert printed.getvalue().startswith("Translation(")
    assert f"pa={0x4006_1234}" in printed.getvalue()


def test_the_documented_format() -> None:
    """The docs name the format that is written."""
    from harness.snapshot.saved import FORMAT_VERSION

    assert f"Format {FORMAT_VERSION} is described" in DOC.read_text()


def test_each_kind_is_told_apart(make: Any, guest: Any) -> None:
    """A core, a flat dump and a saved snapshot of one guest open to the same memory."""
    with open_snapshot(make.core()) as core:
        save(core, make.directory / "guest.snapshot")
        paths = (str(make.core()), make.flat(), make.directory / "guest.snapshot")
        for path in paths:
            with open_snapshot(path) as snapshot:
                assert snapshot.read(0x4000_0000, len(guest.memory)) == guest.memory


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"KDUMP   ", "kdump-compressed"),
        (b"makedumpfile\0\0\0\0", "makedumpfile"),
        (b"PAGEDU64", "Windows"),
    ],
)
def test_other_dumps_are_named(make: Any, head: bytes, kind: str) -> None:
    """A dump of a kind that is not read is named, with the command that makes one that is."""
    with pytest.raises(UsageError, match=rf"{kind}.*dump-guest-memory guest\.core"):
        open_snapshot(make.file("other", head.ljust(8192, b"\0")))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"hello", "no saved snapshot and no ELF core"),
        (b"\xfd7zXZ\0" + bytes(9000), "a bare xz file"),
        (bytes(1 << 20), "no VMCOREINFO is in this memory"),
    ],
)
def test_what_is_no_snapshot(make: Any, content: bytes, why: str) -> None:
    """A file that is nothing of the kind is refused, and named where it is known."""
    with pytest.raises(UsageError, match=why):
        open_snapshot(make.file("what", content))


def test_contradictions(make: Any, tmp_path: Path) -> None:
    """A base address for a core, registers for a saved snapshot, and no file at all, are errors of use."""
    with pytest.raises(UsageError, match="for flat dumps"):
        open_snapshot(make.core(), base_pa=0x4000_0000)
    with open_snapshot(make.core()) as core:
        save(core, tmp_path / "guest.snapshot")
    with pytest.raises(UsageError, match="registers of its own"):
        open_snapshot(tmp_path / "guest.snapshot", registers={"pc": 1})
    with pytest.raises(UsageError, match="cannot open"):
        open_snapshot(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot open"):
        open_snapshot(tmp_path)
