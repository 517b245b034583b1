"""Reading a file of somebody else's whole, and no more of it than it may have."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError

__all__ = ["read_bounded"]


def read_bounded(path: Path, limit_bytes: int, *, what: str = "", too_long: str) -> bytes:
    """All of a file; raises UsageError where it cannot be read, or has more than `limit_bytes`.

    `what` names its kind before its path, with a blank; `too_long` says what a file that is longer is not.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read {what}{path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise UsageError(f"{path} is larger than {limit_bytes >> 20} MiB: {too_long}")
    return data
