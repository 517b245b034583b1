"""A cell that fails leaves its guest behind, and granule and gdb can be asked what it was doing."""

from __future__ import annotations

import json
import shlex
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"
KERNELS = ("debian-16k", "trimmed-64k")
BOTTOMS = ("start_kernel", "secondary_start_kernel", "__secondary_switched", "el0t_64_sync", "el0t_64_irq",
           "ret_from_fork")  # fmt: skip
"""Where the stack of an idle vCPU begins, of one that a process or an interrupt made busy, of a thread."""
GDB = shutil.which("gdb-multiarch")


def _granule(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", MAIN, *map(str, words)),
        capture_output=True, text=True, check=False, timeout=600, stdin=subprocess.DEVNULL, cwd=cwd,
    )  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """What a failed cell left, and a core that was made of it."""

    directory: Path
    told: str
    """What the run printed."""
    gdb: str
    """The command that `tables core` printed."""


@pytest.fixture(scope="module", params=KERNELS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a cell whose command exits with 3."""
    home = tmp_path_factory.mktemp("post mortem")
    done = _granule("run", "--snapshot", "--kernel", request.param, "--", "exit 3", cwd=home)
    assert done.returncode == 1, done.stdout + done.stderr
    (directory,) = (home / "granule-report" / "failed").iterdir()
    made = _granule("tables", "core", "guest.snapshot", "guest.core", cwd=directory)
    assert made.returncode == 0, made.stderr
    return Bundle(directory, done.stdout, made.stdout)


def test_the_report_points_to_it(bundle: Bundle) -> None:
    """Terminal, report.json and page name the snapshot, and the bundle's README.txt what to do with it."""
    assert "snapshot:  guest.snapshot" in bundle.told
    report = json.loads((bundle.directory.parents[1] / "report.json").read_text())
    assert report["cells"][0]["provenance"]["snapshot"] == "guest.snapshot"
    assert "README.txt" in (bundle.directory.parents[1] / "report.html").read_text()
    assert "tables core guest.snapshot guest.core" in (bundle.directory / "README.txt").read_text()


def test_its_tables_can_be_read(bundle: Bundle) -> None:
    """`tables dump` lists what the kernel maps, and `tables walk` finds a symbol by memory alone."""
    dump = _granule("tables", "dump", "guest.snapshot", "--json", cwd=bundle.directory)
    assert dump.returncode == 0, dump.stderr
    (half,) = json.loads(dump.stdout)
    assert {row["region"] for row in half["rows"]} >= {"linear map", "kernel image"}
    walk = _granule("tables", "walk", "guest.snapshot", "swapper_pg_dir", "--json", cwd=bundle.directory)
    assert walk.returncode == 0, walk.stderr
    # The first table of the walk is in swapper_pg_dir, wherever KASLR put it: at its end in a kernel of 52
    # bits on a CPU without them.
    (found,) = json.loads(walk.stdout)
    assert 0 <= int(found["steps"][0]["table"], 16) - int(found["pa"], 16) < 1 << 16


def _at(elf: ELFFile, va: int, size_bytes: int) -> bytes:
    for one in elf.iter_segments():
        if one["p_type"] == "PT_LOAD" and one["p_vaddr"] <= va < one["p_vaddr"] + one["p_filesz"]:
            elf.stream.seek(one["p_offset"] + va - one["p_vaddr"])
            return bytes(elf.stream.read(size_bytes))
    raise AssertionError(f"{va:#x} is in no segment")


def _symbols(path: Path, *names: str) -> list[int]:
    with path.open("rb") as file:
        section: Any = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(section, SymbolTableSection)
        values = {one.name: int(one["st_value"]) for one in section.iter_symbols()}
        return [values[name] for name in names]


def test_a_kernel_pointer_can_be_followed(bundle: Bundle) -> None:
    """By pyelftools: linux_banner is its text, and lists in init_task lead to others that point back."""
    banner_va, task_va, first_va = _symbols(
        bundle.directory / "guest.core.symbols", "linux_banner", "init_task", "init_nsproxy"
    )
    with (bundle.directory / "guest.core").open("rb") as file:
        elf = ELFFile(file)
        assert _at(elf, banner_va, 14) == b"Linux version "
        task = _at(elf, task_va, 8192)
        assert struct.pack("<Q", first_va) in task
        # list_head: some pair of pointers of init_task is a ring whose next one points back at it.
        words = struct.unpack("<1024Q", task)
        places = [task_va + 8 * at for at in range(1023)]
        heap = [
            (va, following)
            for va, following in zip(places, words, strict=False)
            if following >> 48 == 0xFFFF and not task_va <= following < task_va + 8192
        ]
        rings = 0
        for va, following in heap:
            try:
                rings += struct.unpack("<Q", _at(elf, following + 8, 8))[0] == va
            except (AssertionError, struct.error):
                continue
    assert rings


@pytest.mark.skipif(GDB is None, reason="there is no gdb-multiarch: `apt-get install gdb-multiarch`")
def test_gdb_understands_it(bundle: Bundle) -> None:
    """The printed command, pasted: each vCPU is a thread, its frames reach the bottom, strings are read."""
    words = shlex.split(bundle.gdb)
    done = subprocess.run(
        (*words, "-batch", "-nx"), capture_output=True, text=True, check=False, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout
    assert "LWP 1" in said, done.stderr
    assert "LWP 2" in said
    assert 'linux_banner>:\t"Linux version ' in said
    stacks = said.partition("Thread 2 (LWP 2):")[2].split("Thread 1 (LWP 1):")
    # A process, and the trampoline to it, have no symbols here.
    named = [stack for stack in stacks if " in ?? ()" not in stack.partition("#1")[0]]
    assert named, said
    assert all(any(f"in {name} (" in stack for name in BOTTOMS) for stack in named), said
