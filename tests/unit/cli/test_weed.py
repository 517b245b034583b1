"""`granule kernels weed`: its table, its files and its exit statuses, with a fake make."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.build.toolchain import Toolchain
from harness.cli.kernels import kernels
from harness.errors import UsageError

SPEC = {
    "options": {
        "MODULES": {"prompt": True},
        "FOO": {},
        "EXTRA": {"depends": ["FOO"]},
        "BAR": {},
    },
    "objects": {
        "drivers/foo.o": {"needs": ["FOO"], "fails": "compile"},
        "drivers/bar.o": {"needs": ["BAR"]},
    },
}
Weed = Callable[..., Result]


@pytest.fixture
def weed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weed:
    """The command on a tree in which CONFIG_FOO is broken, and CONFIG_EXTRA depends on it."""
    fake_make = Path(__file__).parents[1] / "weed/fake_make.py"
    programs, fakes = tmp_path / "bin", tmp_path / "fakes"
    for name, text in {
        "linux/Kconfig": "".join(f'config {name}\n\tbool "x"\n' for name in SPEC["options"]),
        "linux/Kbuild": "obj-y += drivers/\n",
        "linux/drivers/Makefile": "obj-$(CONFIG_FOO) += foo.o\nobj-$(CONFIG_BAR) += bar.o\n",
        "linux/arch/arm64/Makefile": "",
        "given": "CONFIG_MODULES=y\nCONFIG_FOO=y\nCONFIG_EXTRA=y\nCONFIG_BAR=y\n",
        "fakes/tree.json": json.dumps(SPEC),
        "fakes/called": "",
        "bin/make": f'#!/bin/sh\nexec {sys.executable} -I -S {fake_make} "$@"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (programs / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKES", str(fakes))
    monkeypatch.setenv("GRANULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Toolchain, "find", lambda: Toolchain(cc=("cc",), prefix="", version="none"))
    command = sys.modules["harness.cli.kernels.weed"]  # the package has the command under that name
    monkeypatch.setattr(command, "require_programs", lambda: None)

    def run(*argv: str) -> Result:
        given = ["--tree", str(tmp_path / "linux"), "--config", str(tmp_path / "given")]
        return CliRunner().invoke(kernels, ["weed", *given, *argv], catch_exceptions=False)

    return run


def test_table_files_and_image(weed: Weed, tmp_path: Path) -> None:
    """Option, file, first error and what goes with it are shown; fragment, configuration and Image exist."""
    fragment, config = tmp_path / "fragment", tmp_path / "config"
    done = weed("-o", str(fragment), "--config-out", str(config))
    assert done.exit_code == 0, done.output
    row = next(line for line in done.stdout.splitlines() if line.startswith("FOO=y"))
    assert "drivers/foo.c" in row
    assert row.rstrip().endswith("EXTRA")
    assert "# CONFIG_FOO is not set" in fragment.read_text().splitlines()
    assert "CONFIG_BAR=y" in config.read_text().splitlines()
    image = Path(next(line for line in done.stdout.splitlines() if line.startswith("Image: ")).split()[1])
    assert image.read_text() == "image"
    assert (image.parent / "config").read_text() == config.read_text()
    assert (image.parent / "weed.config").read_text() == fragment.read_text()


def test_json(weed: Weed) -> None:
    """With --json stdout is one value with the same facts."""
    done = weed("--json")
    said = json.loads(done.stdout)
    (dropped,) = said["dropped"]
    assert (dropped["option"], dropped["takes"]) == ("FOO", ["EXTRA"])
    assert (dropped["failures"][0]["kind"], said["works"]) == ("compile", True)
    assert Path(said["image"]).is_file()
    assert said["spent"]["rounds"] == 2


def test_kept_and_broken_ends_with_1(weed: Weed) -> None:
    """An option that is to be kept and does not build fails the command, and the table says why."""
    done = weed("--keep", "CONFIG_FOO,BAR")
    assert done.exit_code == 1
    assert "kept and broken" in done.stdout
    assert "Image:" not in done.stdout


def test_page_size_goes_into_the_configuration(weed: Weed, tmp_path: Path) -> None:
    """--page-size puts the catalogue's fragment over the configuration, and into the fragment written."""
    fragment = tmp_path / "fragment"
    assert weed("--page-size", "64K", "-o", str(fragment)).exit_code == 0
    assert "CONFIG_ARM64_64K_PAGES=y" in fragment.read_text().splitlines()


def test_only_says_that_nothing_was_linked(weed: Weed) -> None:
    """Weeding some directories says what it did not do."""
    done = weed("--only", "drivers/")
    assert done.exit_code == 0
    assert "Only drivers was built" in done.stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "nowhere"], "--only names nowhere"),
        (["--only", "../linux/drivers/.."], "--only names"),
        (["--keep", "NOTHING"], "--keep names CONFIG_NOTHING"),
        (["-o", "/nowhere/fragment"], "its directory does not exist"),
        (["--page-size", "5k"], "not a page size"),
    ],
)
def test_bad_requests(weed: Weed, tmp_path: Path, argv: list[str], words: str) -> None:
    """What cannot be is refused before anything is built."""
    with pytest.raises(UsageError, match=words):
        weed(*argv)
    assert "Image" not in (tmp_path / "fakes/called").read_text()


def test_interrupt_prints_what_was_found(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while proving leaves the table of what is known, marked as unfinished."""

    def interrupt(*_arguments: object) -> frozenset[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.weed.weeding.prove", interrupt)
    done = weed()
    assert done.exit_code == 1  # click's own; harness.cli.main makes it 130
    assert "FOO=y" in done.output
    assert "Not finished." in done.output
