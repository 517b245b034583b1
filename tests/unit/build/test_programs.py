"""The guest programs compile without a warning, and are what every page size can load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.build import programs
from harness.build.programs import AGENT, PROBE, build_programs
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError, ToolMissing
from harness.paths import data_dir


@pytest.fixture
def toolchain() -> Toolchain:
    """The compiler for arm64, or a skip that says how to get it."""
    try:
        return Toolchain.find()
    except ToolMissing as error:
        pytest.skip(str(error))


def test_programs(tmp_path: Path, toolchain: Toolchain) -> None:
    """Both are static arm64 executables whose segments are aligned to 64K; a second call compiles nothing."""
    with Cache(tmp_path) as cache:
        built = build_programs(toolchain, cache)
        for name in (AGENT, PROBE):
            with (built / name).open("rb") as data:
                elf = ELFFile(data)
                segments = list(elf.iter_segments())
                assert elf["e_machine"] == "EM_AARCH64"
                assert not [
                    segment for segment in segments if segment["p_type"] in ("PT_INTERP", "PT_DYNAMIC")
                ]
                loads = [segment for segment in segments if segment["p_type"] == "PT_LOAD"]
                assert all(segment["p_align"] >= 1 << 16 for segment in loads)
        before = (built / PROBE).stat().st_mtime_ns
        assert build_programs(toolchain, cache) == built
        assert (built / PROBE).stat().st_mtime_ns == before


def test_failure_is_told(tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the compiler fails its words reach the user and nothing is left in the cache."""
    sources = tmp_path / "guests" / "programs"
    sources.mkdir(parents=True)
    (sources / "agent.c").write_text("int main(void) { return nonsense; }\n")
    monkeypatch.setattr(programs, "data_dir", lambda name: tmp_path / name)
    with Cache(tmp_path / "cache") as cache:
        with pytest.raises(InfraError, match="nonsense"):
            build_programs(toolchain, cache)
        assert cache.list() == ()


def test_missing_headers_have_a_hint(
    tmp_path: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the C library the message says which package has it."""
    sources = tmp_path / "guests" / "programs"
    sources.mkdir(parents=True)
    (sources / "agent.c").write_text("#include <no-such-libc.h>\nint main(void) { return 0; }\n")
    monkeypatch.setattr(programs, "data_dir", lambda name: tmp_path / name)
    with (
        Cache(tmp_path / "cache") as cache,
        pytest.raises(InfraError, match="apt-get install libc6-dev-arm64-cross"),
    ):
        build_programs(toolchain, cache)


def test_no_page_size_is_compiled_in() -> None:
    """The probe's sources take the page size from the kernel: no constant of the C library, no macro."""
    for path in (data_dir("guests") / "programs").rglob("*.[ch]"):
        text = re.sub(r'"[^"\n]*"|/\*.*?\*/', "", path.read_text(), flags=re.DOTALL)
        assert "PAGE_SIZE" not in text.replace("_SC_PAGESIZE", ""), path
