"""The check of a process's tables, in live cells: what it looks at, and that it leaves nothing behind."""

from __future__ import annotations

import re

import pytest

from harness.check.user_tables import Backing, capture
from harness.linux.hugepages import cont_pmd_bytes, cont_pte_bytes, pmd_bytes
from harness.smoke import CHECKS
from harness.smoke.subject import Subject
from harness.smoke.user_tables import Caught, catch, holding, look, observe
from harness.spec import PageSize
from harness.verdict import CheckResult
from harness.vmsa import Translation, walk

ALWAYS = {
    *("inaccessible", "zero", "private", "write", "shared", "executable", "execute-only", "read"),
    *("before-guard", "guard", "after-guard", "locked", "memfd", "memfd-private", "memfd-read", "file"),
    *("stack", "nonce"),
}


@pytest.fixture
def result(subject: Subject) -> CheckResult:
    """The check in a cell."""
    (check,) = (one for one in CHECKS if one.name == "user-tables")
    return check.result(subject)


def _pools(subject: Subject) -> str:
    return subject.sh(
        "cat /sys/kernel/mm/hugepages/*/nr_hugepages /sys/kernel/mm/transparent_hugepage/enabled"
    ).text


def test_a_cell_has_no_finding(result: CheckResult) -> None:
    """The process of a clean guest is mapped as its kernel says, and as QEMU walks it."""
    assert result.findings == ()
    assert result.verdict.is_pass
    assert result.expectations > 300


def test_every_kind_is_held_or_has_a_reason(subject: Subject) -> None:
    """What a page size always allows is there, and each kind that is not says why."""
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        names = {one.name for one in held.mappings}
        assert names >= ALWAYS
        optional = {"high", "guarded", "tagged", "folio-small", "folio-cont-pte", "folio-pmd"}
        optional |= {"hugetlb-cont-pte", "hugetlb-pmd", "hugetlb-cont-pmd"}
        absent = dict(held.absent)
        assert names | absent.keys() == ALWAYS | optional
        assert not names & absent.keys()
        assert all(len(reason) > 10 for reason in absent.values())
        if subject.page_size is not PageSize.K64:
            assert names >= {"folio-pmd", "hugetlb-pmd", "hugetlb-cont-pte", "folio-cont-pte"}


def test_sizes_of_what_is_held(subject: Subject) -> None:
    """Each kind of large mapping has the size that the page size gives it."""
    sizes = {
        Backing.CONT_PTE: cont_pte_bytes(subject.page_size),
        Backing.PMD: pmd_bytes(subject.page_size),
        Backing.CONT_PMD: cont_pmd_bytes(subject.page_size),
    }
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        large = [one for one in held.mappings if one.backing in sizes]
        assert large
        assert all(one.size_bytes == sizes[one.backing] for one in large)


def test_nothing_stays_behind(subject: Subject) -> None:
    """The process is gone after the check, its huge pages are back, and switches are as they were."""
    before = _pools(subject)
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        assert subject.sh(f"kill -0 {held.pid}").ok
        assert _pools(subject) != before
    assert not subject.sh(f"kill -0 {held.pid} 2>/dev/null").ok
    assert _pools(subject) == before
    assert re.search(r"HugePages_Surp: +0\n", subject.sh("cat /proc/meminfo").text)


def test_the_process_ends_by_itself(subject: Subject) -> None:
    """A process that nobody ends is gone when its time is over."""
    done = subject.sh(
        "probe hold 00112233445566778899aabbccddeeff 1 >/dev/null; pid=$(pidof probe); "
        "while kill -0 $pid 2>/dev/null; do usleep 50000; done; echo gone"
    )
    assert done.text == "gone\n"


@pytest.mark.parametrize("words", ["12 5", f"{'g' * 32} 5", f"{'0' * 32} 0", f"{'0' * 32} x", f"{'0' * 32}"])
def test_wrong_arguments(subject: Subject, words: str) -> None:
    """A nonce that is none, and no time, are refused."""
    done = subject.sh(f"probe hold {words}")
    assert done.status == 2
    assert "NONCE is 32 digits" in done.text


def test_another_nonce_is_another_process(subject: Subject) -> None:
    """An address space without the nonce is not taken for the process's."""
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        with catch(subject, held, "f" * 32) as caught:
            assert isinstance(caught, str)


def test_two_walkers_agree_on_the_process(subject: Subject) -> None:
    """QEMU's walk and the model's are the same on user addresses, execute-only ones included."""
    if subject.machine.accelerator != "tcg":
        pytest.skip("under KVM QEMU has no walker of its own: use --granule-accel tcg")
    with holding(subject) as (held, nonce):
        assert held is not None, nonce
        with catch(subject, held, nonce) as caught:
            assert isinstance(caught, Caught), caught
            captured, answers = look(caught)
            again = capture(caught.regime, caught.frozen.memory.read)
            only = held.named("execute-only")
            assert only is not None
            with caught.frozen.privileged(caught.vcpu):
                (theirs,) = caught.frozen.debug_walk((only.start_va,), caught.vcpu)
        pages = observe(subject, held).pages
    assert captured.tables == again.tables
    assert len(answers) > 100
    found = walk(captured.regime, captured.read, only.start_va)
    assert isinstance(found, Translation)
    assert found.pa == theirs
    (word,) = pages.pfn[pages.va == only.start_va].tolist()
    assert word == found.pa >> subject.page_size.value
