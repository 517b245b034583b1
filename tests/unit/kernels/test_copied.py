"""A file that changes while it is copied, and files that are none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels import copied as module
from harness.kernels.copied import copied, shown

MakeImage = Callable[..., bytes]


class Rewriting:
    """Stands for the hashing, with someone who writes the next of `contents` to the file after each look."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents = contents
        self.hashed = module._hashed

    def __call__(self, path: Path, into: Path | None = None) -> str:
        digest = self.hashed(path, into)
        if into is None and self.contents:
            path.write_bytes(self.contents.pop(0))
        return digest


def test_entry_holds_what_its_key_says(
    cache: Cache, tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file replaced between the hash and the copy gives its new content's entry, and none of the old."""
    path = tmp_path / "Image"
    path.write_bytes(make_image(0xA))
    monkeypatch.setattr(module, "_hashed", Rewriting([make_image(0xE)]))
    entry = copied(cache, path)
    assert entry.name == f"copy-{hashlib.sha256(make_image(0xE)).hexdigest()}"
    assert (entry / "Image").read_bytes() == make_image(0xE)
    assert len(cache.list()) == 1


def test_file_that_never_rests(
    cache: Cache, tmp_path: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is another at each look is refused, and nothing is published."""
    path = tmp_path / "Image"
    path.write_bytes(make_image())
    monkeypatch.setattr(module, "_hashed", Rewriting([make_image(release=f"6.{n}") for n in range(9)]))
    with pytest.raises(UsageError, match="changes while it is being read"):
        copied(cache, path)
    assert cache.list() == ()


def test_errors_name_the_users_file(cache: Cache, tmp_path: Path) -> None:
    """What is wrong with the copy is told of the file given."""
    (tmp_path / "x").write_bytes(b"hello world\n" * 20)
    with pytest.raises(UsageError, match="text file") as caught:
        copied(cache, tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
    assert str(cache.root) not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, "gone", "fifo", "directory", "loop"])
def test_no_file_to_read(cache: Cache, tmp_path: Path, name: str) -> None:
    """A name too long, an absent file, a FIFO, a directory, a loop of links: each is refused."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=name):
        copied(cache, tmp_path / name)


def test_too_long_a_file(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the length that no Image has."""
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 1000)
    (tmp_path / "x").write_bytes(bytes(1001))
    with pytest.raises(UsageError, match="no kernel Image is"):
        copied(cache, tmp_path / "x")


def test_name_that_is_not_utf8(cache: Cache, tmp_path: Path, make_image: MakeImage) -> None:
    """Such a name is shown with its bytes as numbers: its label can be printed and encoded."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Ima\xffge"))
    path.write_bytes(make_image())
    copied(cache, path)
    (entry,) = cache.list()
    assert entry.label == r"copied from Ima\xffge"
    assert shown(path).encode().endswith(rb"Ima\xffge")
