"""Tests of `granule tables core`, on a saved snapshot of tables that a builder wrote."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from elftools.elf.elffile import ELFFile

from harness.cli.tables import tables
from harness.snapshot import Snapshot, Vcpu, save
from harness.vmsa import Regime, TableBuilder, VaRange, derive, leaf_attributes, registers_for

ARENA_PA = 0x4000_0000
VA = 0xFFFF_0000_4000_0000


class Arena:
    """Memory that holds tables and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.ranges = (range(ARENA_PA, ARENA_PA + len(data)),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        return self._data[pa - ARENA_PA : pa - ARENA_PA + size_bytes]


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved guest that maps its own tables, in a directory with a blank and a quote in its name."""
    raw = registers_for(granule_log2=12, txsz=16)
    regime = derive(raw, VaRange.UPPER)
    assert isinstance(regime, Regime)
    builder = TableBuilder(regime, ARENA_PA)
    # Fewer leaves would be a trampoline, and no kernel.
    builder.map(VA, ARENA_PA, 32 << 12, attributes=leaf_attributes(ap=0b10, uxn=True), level=3)
    known = {
        "TCR_EL1": raw.el1.tcr, "TTBR0_EL1": 0, "TTBR1_EL1": builder.ttbr(), "MAIR_EL1": raw.el1.mair,
        "SCTLR_EL1": raw.el1.sctlr, "ID_AA64MMFR0_EL1": raw.id_aa64mmfr0_el1, "cpsr": 0x3C5,
        "ID_AA64MMFR1_EL1": raw.id_aa64mmfr1_el1, "ID_AA64MMFR2_EL1": raw.id_aa64mmfr2_el1,
    }  # fmt: skip
    values = {name: value for name, value in known.items() if value is not None}
    directory = tmp_path / "it's here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    save(Snapshot(vcpus=(Vcpu(registers=values),), memory=Arena(builder.arena), origin="built"), "guest.snap")
    return directory


def _core(*words: str) -> Result:
    return CliRunner().invoke(tables, ["core", *words])


def test_the_command_names_the_core(guest: Path) -> None:
    """One line on stdout: a shell reads it as gdb with the core by its whole path, and what to show."""
    done = _core("guest.snap", "guest.core")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    words = shlex.split(line)
    assert f"--core={guest / 'guest.core'}" in words
    assert "info threads" in words
    with (guest / "guest.core").open("rb") as file:
        assert [one["p_vaddr"] for one in ELFFile(file).iter_segments()][1:] == [VA]


def test_without_symbols_it_says_so(guest: Path) -> None:
    """Memory without a kernel's symbols gives a core all the same, a file of symbols not, and says so."""
    done = _core("guest.snap", "guest.core")
    assert "no symbols: its memory has none, and no --vmlinux was given" in done.stderr
    assert "registers are not known" in done.stderr
    assert "linux_banner" not in done.stdout
    assert not (guest / "guest.core.symbols").exists()


def test_help_teaches() -> None:
    """The help has an example, and SOURCE where --kernel would be."""
    done = _core("--help")
    assert "granule tables core guest.snap guest.core" in done.stdout
    assert "--kernel" not in done.stdout
