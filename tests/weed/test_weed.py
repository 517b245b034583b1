"""Weeding a real tree: what is planted is found, nothing else is lost, and what is left boots.

The tree is a copy of Debian's kernel source, broken in seven places, and the configuration is Debian's own,
without what `cut.config` takes from it. Tree and builds stay in the cache's working directories,
so that a second run compiles little.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.kernels.catalogue import Catalogue
from harness.kernels.kbuild.build import Build, Fragment, jobs_here
from harness.kernels.kbuild.configs import Base
from harness.kernels.longrun import quiet
from harness.kernels.store import KernelStore
from harness.linux.kconfig import read_config

KERNEL = "trimmed-64k"
"""Whose source it is."""
PACKAGED = "debian-4k"
"""Whose configuration it is."""
MISSING = "\nvoid granule_planted(void);\nvoid {name}(void);\nvoid {name}(void) {{ granule_planted(); }}\n"
BROKEN = '\n_Static_assert(PAGE_SIZE == 4096, "planted: written for 4K pages");\n'
PLANTED = {
    "fs/minix/inode.c": BROKEN,
    "drivers/net/hyperv/netvsc_drv.c": '\n#error "planted"\n',
    "drivers/md/dm-flakey.c": "\n#include <linux/granule_planted.h>\n",
    "fs/squashfs/xattr.c": BROKEN,
    "lib/crc-itu-t.c": BROKEN,
    "drivers/tty/serial/xilinx_uartps.c": MISSING.format(name="granule_uart"),
    "drivers/block/brd.c": MISSING.format(name="granule_brd"),
}
"""What is added to each file."""
EXPECTED = {
    "MINIX_FS": ("fs/minix/inode.c", "compile"),
    "HYPERV_NET": ("drivers/net/hyperv/netvsc_drv.c", "compile"),
    "DM_FLAKEY": ("drivers/md/dm-flakey.c", "compile"),
    "SQUASHFS_XATTR": ("fs/squashfs/xattr.c", "compile"),
    "CRC_ITU_T": ("lib/crc-itu-t.c", "compile"),
    "AQUANTIA_PHY": ("lib/crc-itu-t.c", "compile"),
    "OMFS_FS": ("lib/crc-itu-t.c", "compile"),
    "UDF_FS": ("lib/crc-itu-t.c", "compile"),
    "SERIAL_XILINX_PS_UART": ("drivers/tty/serial/xilinx_uartps.o", "link"),
    "BLK_DEV_RAM": ("drivers/block/brd.o", "modpost"),
}
"""What has to be off, for which file; AQUANTIA_PHY, OMFS_FS and UDF_FS hold CRC_ITU_T on."""


@pytest.fixture(scope="module")
def broken_tree(granule_kernels: KernelStore) -> Iterator[Path]:
    """The copy, with its breakage."""
    cache = Cache()
    keys = [key for key in cache.keys("sources") if key.startswith("linux-source-6.12_")]
    entry = cache.find("sources", keys[0]) if keys else None
    if entry is None:
        pytest.skip(f"the source of {KERNEL} is not in the cache: granule kernels fetch {KERNEL}")
    with cache.workdir("weed-smoke") as directory:
        tree = directory / entry.name
        if not (tree / "complete").exists():
            shutil.rmtree(directory)
            shutil.copytree(entry / "tree", tree, symlinks=True)
            (tree / "complete").touch()
        for name, added in PLANTED.items():
            broken = (entry / "tree" / name).read_text() + added
            if (tree / name).read_text() != broken:  # else its time would have it compiled again
                (tree / name).write_text(broken)
        yield tree
    cache.close()


@pytest.fixture(scope="module")
def given(broken_tree: Path, granule_kernels: KernelStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution's configuration, cut down."""
    packaged = granule_kernels.get(PACKAGED).config
    assert packaged is not None
    output = tmp_path_factory.mktemp("configured")
    fragments = (Path(__file__).with_name("cut.config"), Catalogue.load().fragment("page-64k"))
    build = Build(
        source=broken_tree,
        output=output,
        toolchain=Toolchain.find(),
        ccache_dir=output,
        jobs=jobs_here(),
        expected_steps=0,
        progress=quiet,
    )
    build.configure(
        [Fragment(path.stem, path.read_text()) for path in fragments], Base(PACKAGED, packaged.read_text())
    )
    return output / ".config"


@pytest.fixture(scope="module")
def weeded(broken_tree: Path, given: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What the command says, and its fragment."""
    fragment = tmp_path_factory.mktemp("weeded") / "weed.config"
    argv = ["kernels", "weed", "--tree", str(broken_tree), "--config", str(given), "--page-size", "64k"]
    ran = granule(*argv, "--json", "-o", str(fragment))
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout), fragment


def granule(*argv: str) -> subprocess.CompletedProcess[str]:
    """The program, in a process of its own."""
    command = [sys.executable, "-c", "from harness.entry import main; main()", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_was_planted_is_found(weeded: tuple[Any, Path]) -> None:
    """Exactly the broken options are off, each for its file and kind, and each is proven."""
    said, _fragment = weeded
    found = {
        each["option"]: (first["source"] or first["object"], first["kind"])
        for each in said["dropped"]
        for first in each["failures"][:1]
    }
    assert found == EXPECTED
    assert said["turned_back_on"] == []
    assert not [each["option"] for each in said["dropped"] if each["proof"] == "not tried"]


def test_nothing_else_is_lost(weeded: tuple[Any, Path], given: Path) -> None:
    """Of the configuration given, only what was dropped is off, and what each is said to take with it."""
    said, fragment = weeded
    before, after = read_config(given), read_config(Path(said["image"]).with_name("config"))
    lost = {option for option in before if before.enabled(option) and not after.enabled(option)}
    explained = set(EXPECTED).union(*(each["takes"] for each in said["dropped"]), said["together"])
    assert lost - explained == set()
    assert (after["SQUASHFS"], after["HYPERV"], after["BLK_DEV_DM"]) == ("m", "m", "m")
    assert set(EXPECTED) <= set(read_config(fragment))


def test_what_is_left_boots(weeded: tuple[Any, Path], tmp_path: Path) -> None:
    """The weeded kernel, with its modules, has 64K pages and passes the cross-check of its tables."""
    said, _fragment = weeded
    (modules,) = Path(said["image"]).parent.glob("lib/modules/*")
    checks = ["--check", "page-size,kernel-tables", "--report", str(tmp_path / "report")]
    ran = granule(
        "smoke", "--kernel", said["image"], "--modules", str(modules), "--page-size", "64k", *checks
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
