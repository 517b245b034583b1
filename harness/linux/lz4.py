"""Packing with the lz4 program, for a reader that knows no more than the legacy frame."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness.errors import InfraError, ToolMissing

__all__ = ["pack_lz4"]

# Blocks of 8 MiB with a length in front and no checksums (lz4's doc/lz4_Frame_format.md, "Legacy frame").
_LEGACY = ("lz4", "-l", "-9", "-c", "--")


def pack_lz4(path: Path) -> bytes:
    """A file's content as a legacy frame; raises ToolMissing, and InfraError when the program fails."""
    if shutil.which("lz4") is None:
        raise ToolMissing("lz4", package="lz4")
    done = subprocess.run((*_LEGACY, str(path)), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise InfraError(f"lz4 could not pack {path}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout
