"""How small an Image gets: compressed as the kernel's build does, by the same programs, once per Image.

Source: Linux v6.12 scripts/Makefile.lib, cmd_gzip and cmd_zstd, which make Image.gz and Image.zst.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from harness.cache import Cache
from harness.errors import InfraError, ToolMissing
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress

__all__ = ["Compressor", "compressed_bytes"]

KIND: Final = "sizes"
_BLOCK_BYTES: Final = 1 << 16
_FILE: Final = "bytes"


class Compressor(Enum):
    """A program with the level that kernels are compressed at; the value is its command line."""

    GZIP = ("gzip", "-n", "-9", "-c")
    ZSTD = ("zstd", "-q", "-19", "-c")

    @property
    def program(self) -> str:
        """Its name, which is that of its Debian package too."""
        return self.value[0]

    @property
    def title(self) -> str:
        """As people name it: `gzip -9`."""
        return f"{self.program} {self.value[2]}"


def compressed_bytes(kernel: Kernel, compressor: Compressor, cache: Cache, progress: Progress) -> int:
    """The size of a kernel's Image when compressed; kept in the cache by Image and version of the program.

    Raises ToolMissing where the program is not installed, InfraError where it fails.
    """
    how = f"{compressor.value} {_version(compressor)}"
    key = f"{compressor.program}-{kernel.sha256[:40]}-{hashlib.sha256(how.encode()).hexdigest()[:12]}"
    for _ in range(2):
        made = _compressing(kernel, compressor, progress)
        entry = cache.make(KIND, key, made, describe=f"{kernel.name}, {compressor.title}")
        try:
            return int((entry / _FILE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            cache.discard(KIND, key)
    raise InfraError(f"the cache entry {KIND}/{key} is damaged, and was again when made anew")


def _version(compressor: Compressor) -> str:
    if shutil.which(compressor.program) is None:
        raise ToolMissing(compressor.program, package=compressor.program)
    done = subprocess.run(
        (compressor.program, "--version"), capture_output=True, text=True, check=False, errors="replace"
    )
    return done.stdout.partition("\n")[0]


def _compressing(kernel: Kernel, compressor: Compressor, progress: Progress) -> Callable[[Path], None]:
    def build(directory: Path) -> None:
        size_bytes = 0
        # Standard input, as in a kernel's build: what is told of a file's length would change the result.
        with (
            kernel.image.open("rb") as image,
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                compressor.value, stdin=image, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            ) as process,
        ):
            try:
                assert process.stdout is not None  # noqa: S101 - asked for with PIPE
                progress(0, None, f"{kernel.name}: {compressor.title}")
                while block := process.stdout.read(_BLOCK_BYTES):
                    size_bytes += len(block)
                    progress(0, None, f"{kernel.name}: {compressor.title}, {size_bytes >> 10} KB so far")
            except BaseException:
                process.kill()
                raise
            if process.wait() != 0:
                errors.seek(0)
                said = errors.read(300).decode("utf-8", "replace").strip()
                raise InfraError(f"{compressor.title} of {kernel.image} failed: {said or process.returncode}")
        (directory / _FILE).write_text(f"{size_bytes}\n", encoding="ascii")

    return build
