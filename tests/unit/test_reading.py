"""Tests of harness.reading: files of somebody else's, whole and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.reading import read_bounded


def test_up_to_the_limit(tmp_path: Path) -> None:
    """A file of that many bytes is read whole; one more is refused, with what it cannot be."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    assert read_bounded(path, 1 << 20, too_long="no x is") == bytes(1 << 20)
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UsageError, match="is larger than 1 MiB: no x is"):
        read_bounded(path, 1 << 20, too_long="no x is")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """It is named with its kind, and the system's reason."""
    with pytest.raises(UsageError, match=r"cannot read the y .*none: No such file"):
        read_bounded(tmp_path / "none", 10, what="the y ", too_long="")
