"""Tests of `granule tables`, on saved snapshots of tables that a builder wrote: no guest is booted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from harness.cli.tables import tables
from harness.errors import ChannelError, GranuleError
from harness.snapshot import Snapshot, Vcpu, save
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

ARENA_PA = 0x4000_0000
VA = 0xFFFF_0000_4000_0000
TEXT = leaf_attributes(ap=0b10, uxn=True)

Granule = Callable[..., "Done"]


@dataclass(frozen=True)
class Arena:
    """Memory that holds tables and nothing else."""

    data: bytes

    @property
    def ranges(self) -> tuple[range, ...]:
        """See PhysicalMemory."""
        return (range(ARENA_PA, ARENA_PA + len(self.data)),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        at = pa - ARENA_PA
        if at < 0 or at + size_bytes > len(self.data):
            raise ChannelError(f"there is nothing at {pa:#x}")
        return self.data[at : at + size_bytes]


def _saved(path: Path, *, text: int = TEXT, granule_log2: int = 12, **registers: int) -> Path:
    """A snapshot of a guest that maps four pages of text."""
    raw = registers_for(granule_log2=granule_log2, txsz=16)
    regime = derive(raw, VaRange.UPPER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, ARENA_PA)
    builder.map(VA, ARENA_PA, 4 << granule_log2, attributes=text, level=3)
    known = {
        "TCR_EL1": raw.el1.tcr, "TTBR0_EL1": 0, "TTBR1_EL1": builder.ttbr(), "MAIR_EL1": raw.el1.mair,
        "SCTLR_EL1": raw.el1.sctlr, "ID_AA64MMFR0_EL1": raw.id_aa64mmfr0_el1,
        "ID_AA64MMFR1_EL1": raw.id_aa64mmfr1_el1, "ID_AA64MMFR2_EL1": raw.id_aa64mmfr2_el1, "cpsr": 0x3C5,
    }  # fmt: skip
    values = {name: value for name, value in known.items() if value is not None}
    guest = Snapshot(
        vcpus=(Vcpu(registers={**values, **registers}),), memory=Arena(builder.arena), origin="built"
    )
    save(guest, path)
    return path


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def granule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Granule:
    """Runs `granule tables` in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str | Path) -> Done:
        done = CliRunner().invoke(tables, [str(word) for word in words])
        error = done.exception
        if isinstance(error, GranuleError):  # what `main` makes of it
            return Done(error.exit_status, done.stdout, str(error))
        assert error is None or isinstance(error, SystemExit), error
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("command", ["walk", "dump", "check", "diff", "map", "save"])
def test_help_teaches(granule: Granule, command: str) -> None:
    """Every command's help has an example of it, and SOURCE where --kernel would be."""
    done = granule(command, "--help")
    assert done.status == 0
    assert f"granule tables {command} " in done.stdout.partition("\n")[2]
    assert "--kernel" not in done.stdout
    assert "--page-size" in done.stdout


def test_walk(granule: Granule, tmp_path: Path) -> None:
    """A mapped address is explained with status 0, a hole with status 1, both with the last word first."""
    snapshot = _saved(tmp_path / "guest.snap")
    mapped = granule("walk", snapshot, f"{VA + 0x123:x}")
    assert (mapped.status, mapped.stderr) == (0, "")
    assert mapped.stdout.startswith(f"{VA + 0x123:#x} -> {ARENA_PA + 0x123:#x}\n")
    hole = granule("walk", snapshot, hex(VA), hex(VA + (1 << 30)))
    assert hole.status == 1
    assert "translation fault at level 1" in hole.stdout


def test_walk_for_programs(granule: Granule, tmp_path: Path) -> None:
    """`--json` is one list on stdout, with an entry for each address."""
    done = granule("walk", _saved(tmp_path / "guest.snap"), hex(VA), hex(VA + (1 << 30)), "--json")
    mapped, hole = json.loads(done.stdout)
    assert mapped["pa"] == hex(ARENA_PA)
    assert hole["fault"]["kind"] == "translation fault"


def test_dump(granule: Granule, tmp_path: Path) -> None:
    """A dump lists the rows of a half; with --json it says the same."""
    snapshot = _saved(tmp_path / "guest.snap")
    done = granule("dump", snapshot)
    assert (done.status, done.stderr) == (0, "")
    assert "4 x 4K page" in done.stdout
    assert "\x1b" not in done.stdout
    (half,) = json.loads(granule("dump", snapshot, "--json").stdout)
    assert [(row["va"], row["leaves"], row["el1"]) for row in half["rows"]] == [(hex(VA), 4, "r-x")]


def test_check(granule: Granule, tmp_path: Path) -> None:
    """Writable and executable memory is found, with status 1."""
    bad = _saved(tmp_path / "bad.snap", text=leaf_attributes(uxn=True))
    found = granule("check", bad)
    assert found.status == 1
    assert "writ" in found.stdout
    assert hex(VA) in found.stdout
    said = json.loads(granule("check", bad, "--json").stdout)
    assert said["leaves"] == 4
    assert any(hex(VA) in finding["seen"] for finding in said["findings"])


def test_check_of_sound_tables(granule: Granule, tmp_path: Path) -> None:
    """Tables that keep the rules are status 0, with how much was looked at."""
    rodata = leaf_attributes(ap=0b10, uxn=True, pxn=True)
    done = granule("check", _saved(tmp_path / "good.snap", text=rodata))
    assert (done.status, "4 leaves held against" in done.stdout) == (0, True), done.stdout
    assert "more rules need what a running guest says of itself" in done.stdout


def test_a_pipe_is_refused(granule: Granule, tmp_path: Path) -> None:
    """A file that is none is told, and nobody waits for what may never come."""
    os.mkfifo(tmp_path / "pipe.snap")
    done = granule("check", "./pipe.snap")
    assert done.status == 2
    assert "no regular file" in done.stderr


def test_diff(granule: Granule, tmp_path: Path) -> None:
    """A snapshot is the same as itself (0), and differs from another (1) in what is said."""
    one, other = (
        _saved(tmp_path / "one.snap"),
        _saved(tmp_path / "other.snap", text=leaf_attributes(uxn=True)),
    )
    same = granule("diff", one, one)
    assert (same.status, "the same" in same.stdout) == (0, True)
    differ = granule("diff", one, other)
    assert differ.status == 1
    assert "attributes (bits 7)" in differ.stdout
    assert json.loads(granule("diff", one, other, "--json").stdout)[0]["same"] is False


def test_map(granule: Granule, tmp_path: Path) -> None:
    """Several snapshots are drawn side by side, as SVG and as a page."""
    four, sixty_four = _saved(tmp_path / "4.snap"), _saved(tmp_path / "64.snap", granule_log2=16)
    done = granule("map", four, sixty_four, "-o", "out.svg")
    assert done.status == 0, done.stderr
    root = ET.parse(tmp_path / "out.svg").getroot()  # noqa: S314 - our own
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"4K pages", "64K pages"} <= set(words)
    assert granule("map", four, "-o", "out.html").status == 0
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")


def test_save(granule: Granule, tmp_path: Path) -> None:
    """What was saved of a snapshot is the same guest."""
    one = _saved(tmp_path / "one.snap")
    assert granule("save", one, "two.snap").status == 0
    assert granule("diff", one, "two.snap").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("walk", "guest.snap", "schedule"), "comes without symbols"),
        (("walk", "guest.snap", "0x12345678901234567"), "not an address"),
        (("walk", "guest.snap", "\x1b[2J"), "not an address"),
        (("dump", "guest.snap", "--table", "12345"), "cannot hold 0x12345"),
        (("dump", "guest.snap", "--table", "somewhere"), "not an address"),
        (("dump", "guest.snap", "--vcpu", "9"), "no vCPU 9"),
        (("dump", "off.snap"), "translation is off"),
        (("dump", "nonsense.snap"), "PARange"),
        (("dump", "short.snap"), "truncated"),
        (("dump", "noise.bin"), "noise.bin"),
        (("dump", "./gone.snap"), "there is no file"),
        (("dump", "debain-16k"), "debian-16k"),
        (("diff", "guest.snap", "64.snap"), "not comparable"),
        (("map", "guest.snap", "-o", "map.png"), "neither an .svg nor an .html"),
        (("map", "guest.snap", "-o", "gone/map.svg"), "no directory gone"),
        (("map", "guest.snap", "--half", "both"), "one half"),
        (("dump", "guest.snap", "--base", "0"), "base"),
    ],
)
def test_what_cannot_be(granule: Granule, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Bad names, files, registers and options are one paragraph on stderr and status 2."""
    _saved(tmp_path / "guest.snap")
    _saved(tmp_path / "off.snap", SCTLR_EL1=0)
    _saved(tmp_path / "64.snap", granule_log2=16)
    _saved(tmp_path / "nonsense.snap", ID_AA64MMFR0_EL1=0xF)
    whole = (tmp_path / "guest.snap").read_bytes()
    (tmp_path / "short.snap").write_bytes(whole[: len(whole) - 5000])
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 64)
    done = granule(*words)
    assert done.status == 2, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "\x1b" not in done.stderr


def test_tables_that_lead_nowhere(granule: Granule, tmp_path: Path) -> None:
    """A first table that is not in memory is told of, and is no failure of ours."""
    lost = _saved(tmp_path / "lost.snap", TTBR1_EL1=0x7000_0000)
    dump = granule("dump", lost)
    assert (dump.status, "the table is not in memory" in dump.stdout) == (0, True)
    walk = granule("walk", lost, hex(VA))
    assert (walk.status, "external abort" in walk.stdout) == (1, True)
    assert granule("check", lost).status == 1
    assert granule("map", lost, "-o", "lost.svg").status == 0
