"""Facts: the project's own file is sound, and a mistake in one of the user's is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kselftest.facts import DEFAULT_MEMORY_MIB, Facts, Needs, collections
from harness.kselftest.script import Listed
from harness.spec import PageSize

COW = Listed(category="cow", command="./cow")
STRESS = Listed(category="userfaultfd", command="./uffd-stress anon 20 16")

KNOWN = """schema = 1
[[known_failure]]
test = "cow"
point = "COW with .* \\\\(512 kB\\\\)"
page_sizes = ["64k"]
release = "6\\\\.12\\\\."
reason = "because"
"""


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "facts.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_our_own_files() -> None:
    """Every collection's file is read, and each known failure in it has a reason worth reading."""
    assert collections() == ("mm",)
    for name in collections():
        facts = Facts.load(name)
        assert facts.needs
        assert all(len(one.reason.split()) > 3 for one in facts.known)


def test_an_unknown_collection() -> None:
    """A collection of which nothing is known is refused, and the known ones are named."""
    with pytest.raises(UsageError, match=r"no collection 'net' .* there is mm"):
        Facts.load("net")


def test_needs_by_title_then_by_program() -> None:
    """What is said of a command comes before what is said of its program; of others nothing is needed."""
    facts = Facts(
        needs=(
            Needs(test="uffd-stress", limit_s=1),
            Needs(test="uffd-stress anon 20 16", limit_s=2),
        )
    )
    assert facts.needs_of(STRESS).limit_s == 2
    assert facts.needs_of(Listed(category="userfaultfd", command="./uffd-stress shmem")).limit_s == 1
    assert facts.needs_of(COW) == Needs()


@pytest.mark.parametrize(
    ("size", "release", "covered"),
    [
        (PageSize.K64, "6.12.117", True),
        (PageSize.K64, "6.18.0", False),
        (PageSize.K4, "6.12.117", False),
    ],
)
def test_a_known_failure_has_a_page_size_and_a_release(
    tmp_path: Path, size: PageSize, release: str, covered: bool
) -> None:
    """A known failure speaks of the page sizes and kernels that it names, and of no others."""
    facts = Facts.load("mm", (_written(tmp_path, KNOWN),))
    assert ("because" in [one.reason for one in facts.known_for(COW, size, release)]) is covered
    assert "because" not in [one.reason for one in facts.known_for(STRESS, size, release)]


def test_memory_by_page_size(tmp_path: Path) -> None:
    """Memory is one number, or a table in which sizes that are not named have the default."""
    text = 'schema = 1\n[[test]]\ntest = "cow"\nmemory_mib = { "64k" = 4096 }\n'
    needs = Facts.load("mm", (_written(tmp_path, text),)).needs_of(COW)
    assert needs.memory_mib[PageSize.K64] == 4096
    assert needs.memory_mib[PageSize.K4] == DEFAULT_MEMORY_MIB


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 2\n", "`schema` has to be 1"),
        ("schema = 1\nextra = 1\n", "a field 'extra'"),
        ("schema = [\n", "facts.toml does not say"),
        ("schema = 1\ntest = 3\n", "`test` has to be tables"),
        ('schema = 1\n[[test]]\noptions = ["A"]\n', "`test` of a [[test]] has to be a text"),
        ('schema = 1\n[[test]]\ntest = "x"\nlimit_s = "1"\n', "`limit_s` of x has to be a whole number"),
        ('schema = 1\n[[test]]\ntest = "x"\nmemory_mib = { "8k" = 1 }\n', "not a page size"),
        ('schema = 1\n[[test]]\ntest = "x"\nsysctl = { "../x" = 1 }\n', "`sysctl` of x"),
        ('schema = 1\n[[test]]\ntest = "x"\noption = []\n', "a field 'option'"),
        (KNOWN.replace('reason = "because"', ""), "`reason` of cow has to be a text"),
        (KNOWN.replace('["64k"]', "[]"), "`page_sizes` of cow has to name some"),
        (KNOWN.replace('"COW with', '"(COW with'), "no regular expression"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    """A file that is wrong is refused with its place and what was wanted."""
    with pytest.raises(UsageError, match=re.escape(said)):
        Facts.load("mm", (_written(tmp_path, text),))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and one that is no text are refused too."""
    with pytest.raises(UsageError, match="cannot read"):
        Facts.load("mm", (tmp_path / "none",))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="does not say"):
        Facts.load("mm", (tmp_path / "binary",))
