"""Provenance beside a cached kernel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError
from harness.kernels.record import KIND, Record, describe_image, find_made, find_published
from harness.spec import PageSize


def record(recipe: str = "r", origin: str = "o") -> Record:
    return Record(origin=origin, release="6.1", image_sha256="00", page_size_bytes=65536, recipe=recipe)


def test_record_survives_the_disk(tmp_path: Path) -> None:
    """What is written is read back, equal."""
    written = record()
    written.write(tmp_path)
    assert Record.read(tmp_path) == written


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"origin": "x"}', '{"unknown": 1}'])
def test_nonsense_is_no_record(tmp_path: Path, text: str) -> None:
    """An unreadable record, or another version's, is None."""
    (tmp_path / "provenance.json").write_text(text)
    assert Record.read(tmp_path) is None


def test_kernel_has_what_is_there(tmp_path: Path) -> None:
    """Files that are absent are None in the Kernel."""
    kernel = record().kernel(tmp_path, "x")
    assert (kernel.page_size, kernel.config, kernel.modules, kernel.vmlinux) == (
        PageSize.K64,
        None,
        None,
        None,
    )
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    (tmp_path / "config").touch()
    kernel = record().kernel(tmp_path, "x")
    assert (kernel.config, kernel.modules) == (tmp_path / "config", tmp_path / "lib/modules/6.1")


def test_newest_of_a_recipe_is_found(cache: Cache) -> None:
    """Of several kernels made by a recipe the last made is found, and others' are not."""
    for key, one in (("b", record(origin="first")), ("a", record(origin="last")), ("c", record("other"))):
        cache.make(KIND, key, one.write)
    found = find_made(cache, "r")
    assert found is not None
    assert found[1].origin == "last"
    assert find_made(cache, "none") is None


def test_image_of_the_cache_is_the_whole_kernel(
    cache: Cache, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    """A cached Image stands for its whole record; the same bytes elsewhere, or without a name, do not."""
    named = replace(record(), details={"name": "linux-64k"})
    for key, one in (("named", named), ("nameless", record())):

        def build(directory: Path, one: Record = one) -> None:
            (directory / "Image").write_bytes(make_image())
            one.write(directory)

        cache.make(KIND, key, build)
    kernel = find_published(cache, cache.entry(KIND, "named") / "Image")
    assert kernel is not None
    assert (kernel.name, kernel.page_size) == ("linux-64k", PageSize.K64)
    assert find_published(cache, cache.entry(KIND, "nameless") / "Image") is None
    assert find_published(cache, cache.entry(KIND, "named") / "provenance.json") is None
    elsewhere = tmp_path / "named"
    shutil.copytree(cache.entry(KIND, "named"), elsewhere)
    assert find_published(cache, elsewhere / "Image") is None
    link = tmp_path / "link"
    link.symlink_to(cache.entry(KIND, "named") / "Image")
    assert find_published(cache, link) == kernel


def test_image_without_banner_is_refused(tmp_path: Path, make_image: Callable[..., bytes]) -> None:
    """A kernel that cannot say which it is is not described."""
    (tmp_path / "Image").write_bytes(make_image(release=""))
    with pytest.raises(InfraError, match="banner"):
        describe_image(tmp_path / "Image")
