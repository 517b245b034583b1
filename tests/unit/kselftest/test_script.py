"""read_script: the tests of a run_vmtests.sh, told from all else that is in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.kselftest.script import Listed, read_script

SCRIPT = """#!/bin/bash
# CATEGORY="none" run_test ./comment
run_gup_matrix() {
    CATEGORY="gup_test" run_test ./gup_test $huge
}
CATEGORY="hugetlb" run_test ./hugepage-mmap
stress_bin=./uffd-stress
CATEGORY="userfaultfd" run_test ${stress_bin} hugetlb "$half" 32
if $RUN_DESTRUCTIVE; then
old=$(cat /proc/sys/vm/nr_hugepages)
CATEGORY="hugetlb" run_test ./hugetlb-read-hwpoison
fi
if command -v sudo &> /dev/null;
then
\tCATEGORY="mlock" run_test sudo -u nobody ./on-fault-limit
fi
CATEGORY="hmm" run_test bash ./test_hmm.sh smoke
CATEGORY="hugetlb" run_test ./hugepage-mmap
"""


def test_tests_in_order() -> None:
    """Each run_test line outside functions is a test, with its category, in the script's order."""
    assert [(one.category, one.title) for one in read_script(SCRIPT)] == [
        ("hugetlb", "hugepage-mmap"),
        ("userfaultfd", 'uffd-stress hugetlb "$half" 32'),
        ("hugetlb", "hugetlb-read-hwpoison"),
        ("mlock", "on-fault-limit"),
        ("hmm", "test_hmm.sh smoke"),
        ("hugetlb", "hugepage-mmap (2)"),
    ]


def test_programs() -> None:
    """The program is the file that has to be there, whatever runs it; a variable for it is put in place."""
    assert [one.program for one in read_script(SCRIPT)] == [
        "hugepage-mmap",
        "uffd-stress",
        "hugetlb-read-hwpoison",
        "on-fault-limit",
        "test_hmm.sh",
        "hugepage-mmap",
    ]


def test_destructive_tests_are_told() -> None:
    """What stands in the destructive part is marked, and what follows that part is not."""
    assert [one.title for one in read_script(SCRIPT) if one.is_destructive] == ["hugetlb-read-hwpoison"]


def test_a_command_is_kept() -> None:
    """Arguments and quotes reach the guest's shell as the script has them."""
    assert read_script('CATEGORY="g" run_test ./gup_test -ct -F 0x1 0 19 0x1000\n') == (
        Listed(category="g", command="./gup_test -ct -F 0x1 0 19 0x1000"),
    )


@given(st.text(alphabet=st.sampled_from("CATEGORY=\"' run_test./$x{}\n()"), max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Nothing that a tree may hold in that file raises, and every test has a program."""
    assert all(one.program for one in read_script(text))
