"""`granule kernels build` from the command line, against a fake make."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.cli.kernels import kernels
from harness.errors import UsageError
from harness.kernels import source
from harness.kernels.kbuild.build import BuildFailed
from harness.kernels.store import KernelStore
from harness.spec import PageSize

FAKE_MAKE = Path(__file__).parents[1] / "kernels/fake-make.sh"


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A make that makes 4K kernels, a cache, and a compiler that is not asked."""
    programs, state = tmp_path / "bin", tmp_path / "fakes"
    programs.mkdir()
    state.mkdir()
    (programs / "make").symlink_to(FAKE_MAKE)
    header = struct.pack("<2I6Q4sI", 0, 0, 0, 1 << 20, 0xA, 0, 0, 0, b"ARM\x64", 0)
    (state / "image").write_bytes(
        header + b"Linux version 6.12.1-test (me@here) (gcc 12) # SMP\0" + bytes(4096)
    )
    (state / "unknown").touch()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKES", str(state))
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "_toolchain", lambda: Toolchain(cc=("gcc",), prefix="", version="12"))
    return state


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "arch/arm64").mkdir(parents=True)
    (path / "arch/arm64/Makefile").touch()
    (path / "Kconfig").touch()
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(kernels, ["build", *map(str, arguments)], catch_exceptions=False)


def test_paths_are_all_that_stdout_has(fakes: Path, tree: Path, tmp_path: Path) -> None:
    """One line a size, so that `granule smoke --kernel` can follow; words for people go to stderr."""
    done = run("--tree", tree, "--page-size", "4k")
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    assert Path(line).name == "Image"
    assert "linux-4k: 6.12.1-test, 4K pages by its header" in done.stderr


def test_image_brings_its_modules_and_origin(fakes: Path, tree: Path, tmp_path: Path) -> None:
    """The path that is printed stands for the whole kernel when it is run: modules, symbols, provenance."""
    image = run("--tree", tree, "--page-size", "4k").stdout.strip()
    with Cache(tmp_path / "cache") as cache:
        kernel = KernelStore(cache, offline=True).get(image)
    assert (kernel.name, kernel.page_size) == ("linux-4k", PageSize.K4)
    assert kernel.modules is not None
    assert kernel.vmlinux is not None
    assert str(tree) in kernel.origin


def test_json_has_the_facts(fakes: Path, tree: Path, tmp_path: Path) -> None:
    """--json instead of paths: header page size, release, files, and every dropped option."""
    full = tmp_path / "config"
    full.write_text("# Automatically generated file; DO NOT EDIT.\nCONFIG_MODULES=y\nCONFIG_GONE=y\n")
    (fakes / "unknown").write_text("GONE\n")
    done = run("--tree", tree, "--page-size", "4k", "--config", full, "--json")
    (facts,) = json.loads(done.stdout)
    assert (facts["page_size"], facts["release"], facts["boot_time"]) == ("4k", "6.12.1-test", False)
    assert facts["dropped_options"] == ["GONE"]
    assert Path(facts["image"]).is_file()
    assert f"over {full}" in facts["origin"] or str(full) in facts["origin"]
    assert "1 options of the configuration were dropped: CONFIG_GONE (all of them: " in done.stderr


def test_table_names_every_kernel(fakes: Path, tree: Path) -> None:
    """--table has a row for each, readable without a terminal."""
    done = run("--tree", tree, "--page-size", "4k", "--table")
    heading, row = done.stdout.splitlines()[:2]
    assert heading.split() == ["kernel", "pages", "release", "dropped", "image"]
    assert row.split()[:4] == ["linux-4k", "4K", "6.12.1-test", "0"]


def test_fragments_and_sizes_may_be_lists(fakes: Path, tree: Path, tmp_path: Path) -> None:
    """Commas and repetition mean the same; a size that is named twice is built once."""
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_MINE=y\n")
    done = run(
        "--tree", tree, "-p", "4k,4k", "-p", "4096", "--config", f"trimmed,{fragment}", "--config", "ptdump"
    )
    assert len(done.stdout.splitlines()) == 1
    config = (Path(done.stdout.strip()).parent / "config").read_text()
    assert all(f"CONFIG_{option}=y" in config for option in ("MINE", "PTDUMP_DEBUGFS", "VIRTIO_MMIO"))


def test_like_still_works(fakes: Path, tree: Path) -> None:
    """--like has the fragments, the page size and the name of a catalogue kernel."""
    done = run("--tree", tree, "--like", "trimmed-4k")
    assert "trimmed-4k: 6.12.1-test" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_every_size_is_the_default(fakes: Path, tree: Path) -> None:
    """Without --page-size there are three; what was built before one fails has been printed."""
    result = CliRunner().invoke(kernels, ["build", "--tree", str(tree)])
    assert len(result.stdout.splitlines()) == 1
    assert "linux-16k was built with 4K pages" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--page-size", "8k"), "'8k' is not a page size of arm64: use 4k, 16k or 64k, or boot"),
        (("--like", "trimmed-4k", "--page-size", "4k"), "leave out --config and --page-size"),
        (("--like", "trimmed-4k", "--config", "ptdump"), "leave out --config and --page-size"),
        (("--like", "debian-4k"), "is a packaged kernel"),
        (("--json", "--table"), "one of them"),
        (("--patches", "/no/such"), "does not exist"),
        (("--config", "nonsense"), "--config nonsense: no such file"),
        (("--page-size", "boot"), "has no ARM64_BOOT_TIME_PAGE_SIZE"),
    ],
)
def test_what_cannot_be_is_refused_before_make(
    fakes: Path, tree: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Each mistake on the command line is an error of usage, and nothing is compiled."""
    with pytest.raises(UsageError, match=said):
        run("--tree", tree, *arguments)
    assert not (fakes / "called").exists()


def test_help_teaches() -> None:
    """The help has examples, and says that the tree's makefiles are run."""
    said = run("--help").stdout
    assert "granule kernels build --tree ~/linux@v6.12 --patches series.mbox" in said
    assert "makefiles of the tree" in " ".join(said.split())


def test_failed_build_names_file_option_and_error(fakes: Path, tree: Path) -> None:
    """Each file that does not compile stands in a row with the option that pulled it in, before the error."""
    (tree / "Kbuild").write_text("obj-y += drivers/ mm/\n")
    for directory, makefile in (("drivers", "obj-$(CONFIG_SWAP) += foo.o\n"), ("mm", "obj-y += core.o\n")):
        (tree / directory).mkdir()
        (tree / directory / "Makefile").write_text(makefile)
    (fakes / "fails").write_text(
        "drivers/foo.c:1:1: error: planted\n"
        "make[3]: *** [scripts/Makefile.build:229: drivers/foo.o] Error 1\n"
        "mm/core.c:2:2: error: of the core\n"
        "make[3]: *** [scripts/Makefile.build:229: mm/core.o] Error 1\n"
    )
    runner = CliRunner()
    done = runner.invoke(kernels, ["build", "--tree", str(tree), "--page-size", "4k", "--keep-going"])
    assert isinstance(done.exception, BuildFailed)
    rows = [line.split() for line in done.stderr.splitlines() if line.startswith(("drivers/", "mm/"))]
    assert [row[0] for row in rows] == ["drivers/foo.c", "mm/core.c"]
    assert rows[0][1] == "SWAP"
    assert rows[1][1:4] == ["none:", "core", "code"]
    assert "planted" in rows[0]
