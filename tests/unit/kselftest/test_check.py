"""Which tests run in a cell, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kselftest.build import Suite, kernel_version
from harness.kselftest.check import choose, suite_checks, why_not
from harness.kselftest.facts import Facts, Needs
from harness.kselftest.script import Listed
from harness.spec import PageSize

COW = Listed(category="cow", command="./cow")
MREMAP = Listed(category="mremap", command="./mremap_test -t 4")
POISON = Listed(category="hugetlb", command="./poison", is_destructive=True)
TESTS = (COW, MREMAP, POISON)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    for name in ("cow", "mremap_test", "poison"):
        (tmp_path / name).touch()
    (tmp_path / "build.log").write_text("khugepaged\tkhugepaged.c:3:1: error: no\n", encoding="utf-8")
    return Suite(collection="mm", directory=tmp_path, tests=TESTS, version="6.12.117", origin="somewhere")


def _why(suite: Suite, listed: Listed, needs: Needs, *, lacking: str = "", memory_mib: int = 1024) -> str:
    return why_not(listed, needs, suite, PageSize.K64, memory_mib, lambda option: option == lacking)


def test_choice_by_category_and_name() -> None:
    """Categories and names narrow the tests, by title or program; without either, all are chosen."""
    assert choose(TESTS, (), ()) == TESTS
    assert choose(TESTS, ("cow", "mremap"), ()) == (COW, MREMAP)
    assert choose(TESTS, (), ("mremap_test",)) == (MREMAP,)
    assert choose(TESTS, ("mremap",), ("mremap_test -t 4",)) == (MREMAP,)


def test_an_unknown_choice_is_refused() -> None:
    """A category or test that no test has is refused with those there are, and so is an empty choice."""
    with pytest.raises(UsageError, match=r"no category 'thp' .*cow, mremap, hugetlb"):
        choose(TESTS, ("thp",), ())
    with pytest.raises(UsageError, match="no test 'cows'"):
        choose(TESTS, (), ("cows",))
    with pytest.raises(UsageError, match="no test of cow is called poison"):
        choose(TESTS, ("cow",), ("poison",))


def test_what_fits_runs(suite: Suite) -> None:
    """A test whose needs are met runs."""
    assert _why(suite, COW, Needs(options=("HUGETLBFS",), memory_mib=dict.fromkeys(PageSize, 1024))) == ""


@pytest.mark.parametrize(
    ("listed", "needs", "said"),
    [
        (COW, Needs(memory_mib=dict.fromkeys(PageSize, 4096)), "4096 MiB at 64K, and --memory gives 1024"),
        (COW, Needs(options=("HUGETLBFS", "KSM")), "needs CONFIG_KSM, and the kernel was built without"),
        (COW, Needs(not_here=dict.fromkeys(PageSize, "it needs bash")), "it needs bash"),
        (COW, Needs(also=("khugepaged",)), "could not be built: khugepaged.c:3:1: error: no"),
        (Listed(category="thp", command="./nowhere"), Needs(), "builds no such program"),
        (POISON, Needs(), "destructive"),
    ],
)
def test_what_does_not_fit_says_why(suite: Suite, listed: Listed, needs: Needs, said: str) -> None:
    """Memory, a missing option, program or shell, and destruction are each a reason in words."""
    assert said in _why(suite, listed, needs, lacking="KSM")


def test_memory_is_that_of_the_page_size(suite: Suite) -> None:
    """A test that needs much at 64K only is left out there only."""
    needs = Needs(memory_mib={PageSize.K4: 512, PageSize.K16: 512, PageSize.K64: 4096})
    assert why_not(COW, needs, suite, PageSize.K4, 1024, lambda _: False) == ""
    assert why_not(COW, needs, suite, PageSize.K64, 1024, lambda _: False) != ""


def test_a_check_for_each_test(suite: Suite) -> None:
    """Each test is a check of its own, named by collection, category and command, after the source's."""
    checks = suite_checks(suite, Facts(), TESTS, 1024)
    assert [check.name for check in checks] == [
        "mm/source",
        "mm/cow/cow",
        "mm/mremap/mremap_test -t 4",
        "mm/hugetlb/poison",
    ]
    assert {check.needs_mib(size) for check in checks for size in PageSize} == {1024}


@pytest.mark.parametrize(
    ("makefile", "version"),
    [
        ("# x\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = x\n", "6.12.117"),
        ("VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n", "6.18.0-rc3"),
    ],
)
def test_kernel_version(tmp_path: Path, makefile: str, version: str) -> None:
    """A tree's version is what its top Makefile adds up to."""
    (tmp_path / "Makefile").write_text(makefile, encoding="utf-8")
    assert kernel_version(tmp_path) == version


def test_no_version(tmp_path: Path) -> None:
    """A Makefile that says no version is refused."""
    (tmp_path / "Makefile").write_text("all:\n", encoding="utf-8")
    with pytest.raises(UsageError, match="which version"):
        kernel_version(tmp_path)
