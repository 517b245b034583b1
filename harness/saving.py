"""Writing a file of the user's so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import InfraError, UsageError

__all__ = ["replacing", "saving_to"]


@contextlib.contextmanager
def saving_to(path: Path) -> Iterator[None]:
    """Turn errors of writing into ours: InfraError for a full disk, UsageError for another."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        raise (InfraError if full else UsageError)(f"cannot save to {path}: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` in the end, or goes without a trace.

    Readable by its owner only, as mkstemp(3) makes it: a guest's memory may hold secrets.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot save to {path}: it is no regular file")
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:200]}.", suffix=".partial", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
