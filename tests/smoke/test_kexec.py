"""Real kernels start each other by kexec, at every pair of page sizes, and leave crash dumps to be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from harness.snapshot import kernel_regime, open_snapshot
from harness.spec import PageSize
from harness.vmsa import Translation, walk
from harness.vmsa.descriptor import Leaf

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"
SIZES = {"4k": PageSize.K4, "16k": PageSize.K16, "64k": PageSize.K64}
RUN_S = 1500

CHAINS = (
    # By kexec_load: Debian's kernels have no kexec_file_load.
    ("debian-4k", "debian-16k", "debian-4k"),
    ("trimmed-64k", "trimmed-64k"),
    # Each of the six ways between three sizes, once.
    ("trimmed-4k", "trimmed-16k", "trimmed-64k", "trimmed-4k", "trimmed-64k", "trimmed-16k", "trimmed-4k"),
    ("trimmed-64k", "debian-4k", "trimmed-64k", "debian-16k", "trimmed-64k"),
)
CRASHES = (
    ("debian-4k", "debian-16k"), ("debian-16k", "debian-4k"), ("trimmed-64k", "trimmed-64k"),
    ("trimmed-64k", "trimmed-4k"), ("trimmed-4k", "trimmed-16k"), ("trimmed-16k", "trimmed-64k"),
    ("trimmed-64k", "debian-4k"),
)  # fmt: skip


def _granule(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", MAIN, *map(str, words)),
        capture_output=True, text=True, check=False, timeout=RUN_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _report(*words: str | Path, directory: Path) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    done = _granule("kexec", "--report", directory, *words)
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return report, done


def _size(kernel: str) -> PageSize:
    return SIZES[kernel.rpartition("-")[2]]


def _checks(cell: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in cell["check_results"]}


@pytest.mark.parametrize("kernels", CHAINS, ids=">".join)
def test_each_starts_the_next(kernels: tuple[str, ...], tmp_path: Path) -> None:
    """Every kernel of a chain comes up at its own page size by every witness, with sound tables and log."""
    report, done = _report(*kernels, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(report["cells"]) == len(kernels)
    for number, (kernel, cell) in enumerate(zip(kernels, report["cells"], strict=True)):
        assert cell["page_size_in_force_bytes"] == _size(kernel).bytes, kernel
        wanted = {"page-size", "kernel-log"}
        wanted |= {"kexec", "user-tables", "kernel-tables"} if number else set()
        checks = _checks(cell)
        assert checks.items() >= dict.fromkeys(wanted, "PASS").items()
    assert "power-off" in _checks(report["cells"][-1])
    releases = [(tmp_path / "consoles" / f"{cell['id']}.log").read_text() for cell in report["cells"]]
    assert all(log.count("Linux version ") == 1 for log in releases)


@pytest.mark.parametrize("kernels", CRASHES, ids=">".join)
def test_a_crash_dump_is_read(kernels: tuple[str, ...], tmp_path: Path) -> None:
    """The memory of a kernel that panicked, captured at another page size or the same, has sound tables.

    They are of the page size of the kernel that crashed, and the rules have teeth there: one bit changed in
    the file is found.
    """
    vmcore = tmp_path / "vmcore"
    report, done = _report("--crash", *kernels, "-o", vmcore, directory=tmp_path / "report")
    assert done.returncode == 0, done.stdout + done.stderr
    crashed, capture = report["cells"]
    wanted = {"page-size": "PASS", "crash": "PASS", "vmcore": "PASS", "kernel-log": "PASS"}
    assert _checks(crashed).items() >= wanted.items()
    assert (
        _checks(capture).items() >= dict.fromkeys(("page-size", "kernel-tables", "power-off"), "PASS").items()
    )
    checked = _granule("tables", "check", "--json", vmcore)
    assert checked.returncode == 0, checked.stdout
    found = json.loads(checked.stdout)
    assert found["findings"] == []
    assert found["leaves"] > 1000
    with open_snapshot(vmcore) as snapshot:
        regime = kernel_regime(snapshot)
        assert regime.geometry.granule_log2 == _size(kernels[0]).value
        assert len(snapshot.vcpus) == 2
        pc = next(pc for one in snapshot.vcpus if (pc := one.registers["pc"]) >> 63)
        translation = walk(regime, snapshot.read, pc)
    assert isinstance(translation, Translation)
    walked = _granule("tables", "walk", "--json", vmcore, f"{pc:x}")
    assert walked.returncode == 0, walked.stderr
    (value,) = json.loads(walked.stdout)
    assert int(value["pa"], 16) == translation.pa
    core = _granule("tables", "core", vmcore, tmp_path / "gdb.core")
    assert core.returncode == 0, core.stderr
    assert "symbols in" in core.stderr
    _without_uxn(vmcore, int(value["steps"][-1]["pa"], 16))
    broken = _granule("tables", "check", vmcore)
    assert broken.returncode == 1
    assert "without UXN" in broken.stdout


def _without_uxn(vmcore: Path, pa: int) -> None:
    """Clear UXN in the descriptor at a physical address, wherever the file has that."""
    with vmcore.open("r+b") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            offset = pa - segment["p_paddr"]
            if 0 <= offset < segment["p_filesz"]:
                file.seek(segment["p_offset"] + offset)
                word = int.from_bytes(file.read(8), "little")
                assert word & Leaf.uxn.mask
                file.seek(segment["p_offset"] + offset)
                file.write((word & ~Leaf.uxn.mask).to_bytes(8, "little"))


@pytest.mark.parametrize(
    "kernels", [("debian-4k", "debian-16k"), ("trimmed-64k", "trimmed-64k")], ids=">".join
)
def test_a_kernel_that_may_not(kernels: tuple[str, str], tmp_path: Path) -> None:
    """A kernel that is not allowed to start another makes that one a SKIP with its reason, and goes on."""
    words = ("--cmdline", "sysctl.kernel.kexec_load_disabled=1")
    report, done = _report(*kernels, *words, directory=tmp_path)
    assert done.returncode == 1, done.stderr
    first, second = report["cells"]
    assert (first["verdict"], second["verdict"]) == ("PASS", "SKIP")
    assert "kexec_load_disabled" in second["reason"]
    assert "EPERM" in second["reason"]
    assert _checks(first)["power-off"] == "PASS"


@pytest.mark.parametrize(
    "kernels", [("debian-4k", "debian-16k"), ("trimmed-64k", "trimmed-64k")], ids=">".join
)
def test_no_memory_for_a_crash_kernel(kernels: tuple[str, str], tmp_path: Path) -> None:
    """A kernel that could not reserve what it was to is a failure that says so, and there is no dump."""
    words = ("--crash", *kernels, "-o", tmp_path / "vmcore", "--crash-kernel", "4096")
    report, done = _report(*words, directory=tmp_path / "report")
    assert done.returncode == 1, done.stderr
    assert report["cells"][1]["verdict"] == "FAIL"
    assert "EADDRNOTAVAIL" in report["cells"][1]["reason"]
    assert not (tmp_path / "vmcore").exists()


@pytest.mark.parametrize("kernels", [("debian-4k", "debian-16k")], ids=">".join)
def test_lockdown(kernels: tuple[str, str], tmp_path: Path) -> None:
    """Debian's kernel in lockdown starts no other, and says so."""
    report, done = _report(*kernels, "--cmdline", "lockdown=integrity", directory=tmp_path)
    assert done.returncode == 1, done.stderr
    assert report["cells"][1]["verdict"] == "SKIP"
    assert "lockdown" in report["cells"][1]["reason"]


@pytest.mark.parametrize("kernels", [("trimmed-64k", "debian-16k")], ids=">".join)
def test_a_cpu_without_the_page_size(kernels: tuple[str, str], tmp_path: Path) -> None:
    """The kernel itself refuses an Image whose granule the CPU lacks, where it is given the file."""
    report, done = _report(*kernels, "--cpu", "cortex-a57", "--force", directory=tmp_path)
    assert done.returncode == 1, done.stderr
    assert report["cells"][1]["verdict"] == "SKIP"
    assert "page size this CPU does not have" in report["cells"][1]["reason"]
