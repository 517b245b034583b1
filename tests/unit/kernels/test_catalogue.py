"""The catalogue: ours is right, and mistakes in one are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfraError, UsageError
from harness.kernels.catalogue import Catalogue, SourceKind
from harness.linux.kconfig import page_size_of, read_config
from harness.spec import PageSize

BUILT = """\
[[kernel]]
name = "small-4k"
page_size = "4k"
family = "small"
source = "build"
package = "linux-source-6.12"
suite = "trixie"
fragments = ["tiny"]
steps = 10
purpose = "testing"
"""
PACKAGED = """\
[[kernel]]
name = "big-16k"
page_size = "16k"
source = "debian"
package = "linux-image-arm64-16k"
suite = "trixie"
purpose = "testing"
"""


COMBINED = """\
[[kernel]]
name = "both"
page_size = "boot-time"
source = "combine"
members = ["small-4k", "big-16k"]
purpose = "testing"
"""


def load(tmp_path: Path, text: str) -> Catalogue:
    (tmp_path / "tiny.config").write_text("CONFIG_ARM64=y\n")
    (tmp_path / "catalogue.toml").write_text(text)
    return Catalogue.load(tmp_path / "catalogue.toml")


def test_our_catalogue_has_every_page_size() -> None:
    """The trimmed family has all three sizes; Debian's has two, since it packages no 64K kernel."""
    ours = Catalogue.load()
    assert {kernel.page_size for kernel in ours.family("trimmed")} == set(PageSize)
    assert {kernel.page_size for kernel in ours.family("debian")} == {PageSize.K4, PageSize.K16}


def test_our_fragments_agree_with_the_page_size() -> None:
    """Exactly one fragment of each built kernel chooses a page size, and it is the one it is listed with."""
    ours = Catalogue.load()
    for kernel in ours.kernels:
        if kernel.source.is_built:
            sizes = [page_size_of(read_config(ours.fragment(name))) for name in kernel.fragments]
            assert [size for size in sizes if size] == [kernel.page_size], kernel.name


def test_entries_are_read(tmp_path: Path) -> None:
    """Every field arrives in the value, and families expand."""
    catalogue = load(tmp_path, f"schema = 1\n{BUILT}\n{PACKAGED}")
    small, big = catalogue.kernels
    assert (small.source, small.page_size, small.fragments, small.steps) == (
        SourceKind.BUILD,
        PageSize.K4,
        ("tiny",),
        10,
    )
    assert (big.source, big.page_size, big.family) == (SourceKind.DEBIAN, PageSize.K16, "")
    assert catalogue.expand("small") == (small,)
    assert catalogue.expand("big-16k") == (big,)
    assert catalogue.fragment("tiny") == tmp_path / "tiny.config"


def test_boot_time_kernels_have_no_page_size(tmp_path: Path) -> None:
    """`boot-time` stands for one Image of all sizes."""
    text = BUILT.replace('"4k"', '"boot-time"')
    assert load(tmp_path, f"schema = 1\n{text}").kernels[0].page_size is None


def test_combined_kernels_name_their_members(tmp_path: Path) -> None:
    """A kernel made of others has their names and no package."""
    both = load(tmp_path, f"schema = 1\n{COMBINED}\n{BUILT}\n{PACKAGED}").find("both")
    assert both.source.is_combined
    assert (both.members, both.page_size, both.package) == (("small-4k", "big-16k"), None, "")


def test_unknown_name_gets_the_near_miss(tmp_path: Path) -> None:
    """An unknown name lists those there are and the nearest; a family's name lists its kernels."""
    catalogue = load(tmp_path, f"schema = 1\n{BUILT}\n{PACKAGED}")
    with pytest.raises(UsageError, match=r"Did you mean big-16k\?.*small-4k, big-16k"):
        catalogue.find("big16k")
    with pytest.raises(UsageError, match="several kernels; one is wanted here: small-4k"):
        catalogue.find("small")
    with pytest.raises(UsageError) as caught:
        catalogue.expand("zzz")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = ", "cannot read the kernel catalogue"),
        (BUILT, "wants 'schema = 1'"),
        ("schema = 2\n" + BUILT, "wants 'schema = 1'"),
        ("schema = 1", "entries"),
        ("schema = 1\nkernel = [3]", "number 1 in .*: is not a table"),
        ("schema = 1\n" + BUILT.replace("suite", "sweet"), "small-4k in .*: lacks suite, has unknown sweet"),
        ("schema = 1\n" + BUILT.replace('"4k"', '"8k"'), "'8k' is not a page size.*or 'boot-time'"),
        ("schema = 1\n" + BUILT.replace('"4k"', "4"), "page_size must be one line of text"),
        (
            "schema = 1\n" + BUILT.replace('"build"', '"magic"'),
            "source is 'magic', wanted 'debian' or 'build' or 'combine'",
        ),
        ("schema = 1\n" + BUILT.replace("tiny", "none"), "its fragment none.config does not exist"),
        ("schema = 1\n" + BUILT.replace('"tiny"', '"../x"'), "fragments must be a list of names"),
        ("schema = 1\n" + BUILT.replace('["tiny"]', "[]"), "names its fragments"),
        ("schema = 1\n" + BUILT.replace('"build"', '"debian"'), "only a kernel that is built has fragments"),
        ("schema = 1\n" + BUILT.replace("10", '"ten"'), "steps must be a number"),
        ("schema = 1\n" + BUILT.replace("small-4k", "Small 4K"), "'Small 4K' is no name"),
        ("schema = 1\n" + BUILT + BUILT, "has small-4k twice"),
        ("schema = 1\n" + BUILT + BUILT.replace("small-4k", "other"), "small-4k and other"),
        ("schema = 1\n" + BUILT.replace('"small"', '"small-4k"'), "both as a kernel and as a family"),
        (
            "schema = 1\n" + BUILT.replace("steps = 10", "members = ['x']"),
            "only a combined kernel has members",
        ),
        ("schema = 1\n" + COMBINED.replace(', "big-16k"', ""), "both in .*names two or three members"),
        ("schema = 1\n" + COMBINED.replace("boot-time", "4k"), "page_size is 'boot-time'"),
        (
            "schema = 1\n" + COMBINED.replace('["small-4k", "big-16k"]', '"x"'),
            "members must be a list of names",
        ),
        ("schema = 1\n" + COMBINED + 'suite = "trixie"\n', "has unknown suite"),
        ("schema = 1\n" + COMBINED + BUILT, "its members must be kernels of the catalogue"),
        (
            "schema = 1\n" + COMBINED + BUILT + PACKAGED.replace('"16k"', '"4k"'),
            "with different page sizes",
        ),
        (
            "schema = 1\n" + COMBINED.replace("big-16k", "both") + BUILT,
            "its members must be kernels of the catalogue",
        ),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is an InfraError that names the kernel and what is wrong with it."""
    with pytest.raises(InfraError, match=said):
        load(tmp_path, text)


def test_absent_catalogue_is_said(tmp_path: Path) -> None:
    """A missing file is an InfraError."""
    with pytest.raises(InfraError, match="cannot read"):
        Catalogue.load(tmp_path / "none.toml")
