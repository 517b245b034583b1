"""What goes into a guest that is measured, and the plugin that watches it: made once, kept in the cache."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.build.compiling import run_tool
from harness.build.ext4 import make_image
from harness.build.programs import BENCH, build_programs
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import ToolMissing
from harness.paths import data_dir

__all__ = ["GuestFiles", "build_plugin", "guest_files"]

KIND: Final = "bench"
EXT4_BYTES: Final = 16 << 20
EXT4_UUID: Final = "6772616e-756c-6500-0000-00000000be01"
EXT4_FORMAT: Final = 1  # raise it when the image is made otherwise
HOST_CC: Final = "gcc"
FLAGS: Final = ("-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFiles:
    """What a guest is given."""

    program: Path
    prepare: Path
    """The script that makes swap and an ext4 of it."""
    ext4: Path
    """An empty file system, compressed."""

    @property
    def sha256(self) -> str:
        """Of all three: other programs are another measurement."""
        digest = hashlib.sha256()
        for path in (self.program, self.prepare, self.ext4):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def guest_files(cache: Cache) -> GuestFiles:
    """Compile the program and make the file system, unless they are there; raises InfraError, ToolMissing."""

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            image = Path(scratch) / "ext4"
            make_image(image, EXT4_BYTES, uuid=EXT4_UUID)
            # No time of day in it: equal images are equal files.
            (directory / "ext4.gz").write_bytes(gzip.compress(image.read_bytes(), mtime=0))

    made = cache.make(KIND, f"ext4-{EXT4_FORMAT}", build, describe="an empty ext4 for benchmarks")
    return GuestFiles(
        program=build_programs(Toolchain.find(), cache) / BENCH,
        prepare=data_dir("guests") / "programs" / "bench" / "prepare.sh",
        ext4=made / "ext4.gz",
    )


def build_plugin(cache: Cache) -> Path:
    """The plugin, compiled for this machine; raises InfraError with the compiler's words, or ToolMissing."""
    sources = sorted((Path(__file__).parent / "plugin").glob("*.[ch]"))
    digest = hashlib.sha256(repr((HOST_CC, FLAGS, [path.read_bytes() for path in sources])).encode())

    def build(directory: Path) -> None:
        if shutil.which(HOST_CC) is None:
            raise ToolMissing(HOST_CC, package="gcc")
        programs = tuple(str(path) for path in sources if path.suffix == ".c")
        target = directory / "count.so"
        run_tool(
            (HOST_CC, *FLAGS, "-o", str(target), *programs), making="the plugin that counts instructions"
        )

    key = f"plugin-{digest.hexdigest()[:32]}"
    return cache.make(KIND, key, build, describe="plugin that counts instructions") / "count.so"
