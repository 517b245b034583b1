"""Memory management, asked by the probe programs (guests/programs) at the page size in force."""

from __future__ import annotations

from harness.linux.hugepages import cont_pte_bytes, pmd_bytes
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject

__all__ = [
    "file_mappings",
    "fork",
    "guard",
    "hugetlb_cont",
    "hugetlb_pmd",
    "mapping",
    "mthp",
    "swap",
    "thp",
]

# Larger folios than this cost an emulated guest seconds to zero, and are the business of `thp`.
MTHP_LIMIT_BYTES = 4 << 20
ZRAM_BYTES = 64 << 20


def mapping(subject: Subject, evidence: Evidence) -> None:
    """mmap, mprotect, munmap and mremap work by the page, and refuse what is not aligned to one."""
    evidence.tap("probe mapping", *subject.probe("mapping"))


def fork(subject: Subject, evidence: Evidence) -> None:
    """fork shares pages until one side writes, and then copies exactly that page."""
    evidence.tap("probe fork", *subject.probe("fork"))


def file_mappings(subject: Subject, evidence: Evidence) -> None:
    """Mappings of files on tmpfs agree with read and write, and fault past the last page."""
    evidence.tap("probe filemap", *subject.probe("filemap", "/tmp"))  # noqa: S108 - the guest's


def guard(subject: Subject, evidence: Evidence) -> None:
    """A touch of a guard page faults, at the exact address and for the right reason."""
    evidence.tap("probe guard", *subject.probe("guard"))


def mthp(subject: Subject, evidence: Evidence) -> None:
    """Multi-size folios up to 4 MiB, the contiguous-PTE size among them, are contiguous and aligned."""
    if subject.option("TRANSPARENT_HUGEPAGE") is None and subject.config is not None:
        evidence.not_here("the kernel has no TRANSPARENT_HUGEPAGE")
        return
    evidence.tap("probe mthp", *subject.probe("mthp", str(MTHP_LIMIT_BYTES)))


def hugetlb_cont(subject: Subject, evidence: Evidence) -> None:
    """hugetlb pages of the contiguous-PTE size can be had, and are what they claim to be."""
    _hugetlb(subject, evidence, cont_pte_bytes(subject.page_size))


def hugetlb_pmd(subject: Subject, evidence: Evidence) -> None:
    """hugetlb pages of one PMD entry can be had, and are what they claim to be."""
    _hugetlb(subject, evidence, pmd_bytes(subject.page_size))


def _hugetlb(subject: Subject, evidence: Evidence, size_bytes: int) -> None:
    if subject.option("HUGETLBFS") is None and subject.config is not None:
        evidence.not_here("the kernel has no HUGETLBFS")
        return
    evidence.tap("probe hugetlb", *subject.probe("hugetlb", str(size_bytes)))


def thp(subject: Subject, evidence: Evidence) -> None:
    """A PMD-size transparent huge page is mapped whole, and splits without loss."""
    if subject.option("TRANSPARENT_HUGEPAGE") is None and subject.config is not None:
        evidence.not_here("the kernel has no TRANSPARENT_HUGEPAGE")
        return
    evidence.tap("probe thp", *subject.probe("thp"))


def swap(subject: Subject, evidence: Evidence) -> None:
    """Pages go out to zram and come back as they were."""
    if not subject.has_driver(evidence, "ZRAM", "zram"):
        return
    set_up = subject.sh(
        f"echo {ZRAM_BYTES} > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0"
    )
    if not evidence.holds("swap on zram", set_up.ok, wanted="turned on", seen=set_up.text.strip()[-200:]):
        return
    evidence.tap("probe swap", *subject.probe("swap"))
    done = subject.sh("swapoff /dev/zram0 && echo 1 > /sys/block/zram0/reset")
    evidence.equal("exit status of swapoff", 0, done.status)
