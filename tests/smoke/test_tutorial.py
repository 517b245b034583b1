"""A tutorial: tests of one's own, from the plainest to those that look into the guest from outside.

Copy this file into a project of yours that has granule installed, and run it:

    pytest -n auto test_tutorial.py --granule-kernel debian,trimmed-64k

docs/writing-tests.md has the tables of fixtures, markers and options.
"""

from __future__ import annotations

import pytest

from harness.bulk import walk_all
from harness.qemu.machine import Machine
from harness.smoke.subject import Subject
from harness.snapshot import kernel_regime


def test_one_guest_for_many_tests(subject: Subject) -> None:
    """A guest that the tests of its kernel and page size share: quick, and they see each other's traces."""
    assert subject.sh("getconf PAGE_SIZE").text == f"{subject.page_size.bytes}\n"


def test_a_guest_of_its_own(fresh_subject: Subject) -> None:
    """A clone that nobody else will see: the test may leave it in any state, or dead."""
    assert fresh_subject.sh("echo mine > /etc/granule-was-here && rm /etc/fstab").ok


def test_that_the_other_left_no_trace(fresh_subject: Subject) -> None:
    """The next clone comes from the same template, in which nothing of the above has happened."""
    assert fresh_subject.sh("test ! -e /etc/granule-was-here && test -e /etc/fstab").ok


@pytest.mark.page_size("16k", "64k")
def test_at_some_page_sizes(subject: Subject) -> None:
    """A marker chooses the page sizes; without a kernel of those the test is skipped, saying so."""
    assert subject.page_size.bytes > 4096


@pytest.mark.requires_config("HUGETLBFS")
def test_of_an_option(subject: Subject) -> None:
    """Where the kernel was built without the option the test is skipped, naming it."""
    assert "hugetlbfs" in subject.sh("cat /proc/filesystems").text


@pytest.mark.memory(512)
def test_in_a_larger_guest(fresh_subject: Subject) -> None:
    """Guest RAM in MiB, where the ordinary 384 will not do."""
    assert fresh_subject.machine.spec.memory_mib == 512


def test_from_outside(fresh_machine: Machine) -> None:
    """While the vCPUs are stopped registers and memory can be read: here, all of the kernel's page tables."""
    with fresh_machine.frozen() as frozen:
        snapshot = frozen.snapshot()
        leaves = walk_all(kernel_regime(snapshot), snapshot.tables())
    assert len(leaves) > 1000


def test_that_ends_its_guest(fresh_subject: Subject) -> None:
    """The console is there when the guest has gone; a guest that a test powers off is not judged."""
    fresh_subject.machine.power_off(fresh_subject.deadline.sooner(fresh_subject.command_s))
    assert b"Power down" in fresh_subject.machine.transcript.content()
