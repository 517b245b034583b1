"""The pytest plugin on live guests: what it makes of one that dies or complains under somebody's tests."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

KERNEL = "debian-4k"
TESTS = """
import pytest
from harness.errors import ChannelError


def test_good(subject):
    assert subject.sh("getconf PAGE_SIZE").text == f"{subject.page_size.bytes}\\n"


def test_panics(subject):
    with pytest.raises(ChannelError):
        subject.sh("echo c > /proc/sysrq-trigger")


def test_after(subject):
    pass


@pytest.mark.page_size("64k")
def test_elsewhere(subject):
    pass


@pytest.mark.memory(512)
def test_complains(subject):
    subject.sh("echo 'WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x0/0x10' > /dev/kmsg")


def test_complains_alone(fresh_subject):
    fresh_subject.sh("echo 'WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x0/0x10' > /dev/kmsg")
"""


def test_a_guest_is_judged_under_somebodys_tests(tmp_path: Path) -> None:
    """A guest's death fails its test, those after it say why, a warning fails its cell, a skip says why."""
    (tmp_path / "test_mine.py").write_text(TESTS)
    done = _pytest(tmp_path, "-p", "no:xdist", "-v", "-rs")
    said = done.stdout
    assert re.search(r"test_good\[4k-debian-4k-\S+\] PASSED", said), said + done.stderr
    assert re.search(r"test_panics\[\S+\] FAILED", said)
    assert "the guest died during this test: the kernel said: Kernel panic" in said
    assert re.search(r"test_after\[\S+\] ERROR", said)
    assert "the guest had died before this test: the kernel said: Kernel panic" in said
    assert "the test wants 64k, and no kernel that was chosen has that page size" in said
    assert re.search(r"test_complains\[\S+\] ERROR", said)
    # The warning is the last thing its kernel says: nothing after it ends the report.
    assert re.search(r"test_complains_alone\[\S+\] ERROR", said)
    assert "kernel log: warning: wanted none, saw WARNING: CPU: 0 PID: 1 at mm/x.c:1" in said
    assert done.returncode == 1


SHARING = """
import pytest


@pytest.mark.parametrize("number", range(6))
def test_in_one_guest(subject, number):
    assert subject.sh("echo x >> /tmp/count; wc -l < /tmp/count").text == f"{number + 1}\\n"
"""


def test_tests_that_share_a_guest_share_a_worker(tmp_path: Path) -> None:
    """With several workers the tests of a cell that ask for `subject` are all in one, in order."""
    (tmp_path / "test_mine.py").write_text(SHARING)
    done = _pytest(tmp_path, "-n", "2", "-v")
    assert done.returncode == 0, done.stdout
    assert len(set(re.findall(r"\[(gw\d)\] \[.*PASSED.*test_in_one_guest", done.stdout))) == 1, done.stdout


def _pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    installed = any(entry.value == "harness.pytest_plugin" for entry in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "harness.pytest_plugin")
    return subprocess.run(
        (sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", *options,
         "--granule-kernel", KERNEL, str(directory)),
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
