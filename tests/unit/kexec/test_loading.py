"""Tests of harness.kexec.loading: what it means when a kernel does not load another."""

from __future__ import annotations

import pytest

from harness.kexec.loading import refusal
from harness.verdict import Verdict


@pytest.mark.parametrize(
    ("said", "verdict", "why"),
    [
        ("kexec: kexec_load: ENOSYS: Function not implemented", Verdict.SKIP, "without CONFIG_KEXEC"),
        ("kexec: kexec_file_load: EPERM: Operation not permitted", Verdict.SKIP, "lockdown"),
        ("kexec: kexec_load: EPERM: Operation not permitted", Verdict.SKIP, "kexec_load_disabled"),
        ("kexec: kexec_file_load: ENODATA: No data available", Verdict.SKIP, "signature"),
        ("kexec: kexec_file_load: EKEYREJECTED: Key was rejected", Verdict.SKIP, "signature"),
        ("kexec: kexec_file_load: ENOMEM: Cannot allocate memory", Verdict.FAIL, "ENOMEM"),
        ("kexec: kexec_file_load: EINVAL: Invalid argument", Verdict.FAIL, "EINVAL"),
        ("kexec: /proc/iomem: EPERM: Operation not permitted", Verdict.FAIL, "/proc/iomem"),
        ("head: /dev/vdb: No such file or directory", Verdict.FAIL, "/dev/vdb"),
        ("", Verdict.FAIL, "not loaded"),
    ],
)
def test_what_a_refusal_means(said: str, verdict: Verdict, why: str) -> None:
    """What a kernel does not allow is a SKIP with its reason; anything else fails, in its own words."""
    found = refusal(f"a line before\n{said}\n")
    assert found.verdict is verdict
    assert why in found.reason


def test_a_page_size_that_the_cpu_lacks() -> None:
    """EINVAL is a kernel's word for a granule that the CPU lacks, if it does, and from that call only."""
    said = "kexec: kexec_file_load: EINVAL: Invalid argument\n"
    assert refusal(said, has_granule=False).verdict is Verdict.SKIP
    assert "this CPU does not have" in refusal(said, has_granule=False).reason
    other = said.replace("kexec_file_load", "kexec_load")
    assert refusal(other, has_granule=False).verdict is Verdict.FAIL
