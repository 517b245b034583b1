"""ext4 images of any size, made and checked by the host's e2fsprogs, without mounting anything."""

from __future__ import annotations

from pathlib import Path

from harness.build.disk_tools import failed, run_tool, text_of
from harness.errors import InfraError

__all__ = ["check_image", "make_image"]

BLOCK_BYTES = 4096
# Of a few GiB, with a slow disk below.
LARGE_S = 900.0
# Directory hashes are seeded; a seed of our own makes two images of the same files alike.
HASH_SEED = "6772616e-756c-6500-0000-0000000000ff"


def make_image(
    path: Path, size_bytes: int, *, source: Path | None = None, label: str = "", uuid: str = "random"
) -> None:
    """A sparse ext4 image with the files of `source`, all of them root's, or with none.

    The block size is one that every page size can mount. Raises InfraError with mke2fs' words, ToolMissing.
    """
    done = run_tool(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-m", "0", "-L", label, "-U", uuid),
        *("-O", "^orphan_file,^metadata_csum_seed"),
        *("-E", f"root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,hash_seed={HASH_SEED}"),
        *(("-d", str(source)) if source is not None else ()),
        *(str(path), str(size_bytes // BLOCK_BYTES)),
        limit_s=LARGE_S,
    )
    if done.returncode != 0:
        raise failed("mke2fs", done)


def check_image(path: Path) -> None:
    """Raise InfraError unless e2fsck has nothing to say against an image; it writes nothing."""
    done = run_tool("e2fsck", "-f", "-n", str(path), limit_s=LARGE_S)
    if done.returncode != 0:
        said = (text_of(done.stdout) + text_of(done.stderr)).strip()[-500:]
        raise InfraError(f"the image {path} is not clean after it was made: e2fsck: {said}")
