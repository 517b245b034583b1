"""What a failed test leaves to look at: the guest's console, such a guest again, and the guest itself.

And which test fails: the one in which a guest died, the one after which its kernel was found to complain.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from pathlib import Path

import pytest

from harness.errors import GranuleError
from harness.pytest_plugin.guests import GUEST, GuestUnderTest, console_of, fail_for
from harness.snapshot import save

__all__ = ["pytest_runtest_makereport", "pytest_runtest_teardown"]

NAME_LIMIT = 150


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail the test in which a guest died, and attach the console to every failure."""
    report = yield
    guest = item.stash.get(GUEST, None)
    if guest is None or call.when != "call":
        return report
    guest.look()
    if guest.obituary and report.passed:
        report.outcome = "failed"
        report.longrepr = f"the guest died during this test: {guest.obituary}"
    if report.failed:
        report.sections.append(("guest console", console_of(guest.subject.machine)))
        report.sections.append(("such a guest again", f"granule boot {_again(guest)}"))
        directory = item.config.getoption("--granule-snapshots")
        if directory is not None:
            report.sections.append(("the guest as it was", _kept(guest, Path(directory), item.nodeid)))
    return report


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Judge a shared guest after the last of its tests: pytest ends it in the set-up of the next cell's."""
    guest = item.stash.get(GUEST, None)
    if guest is None or not guest.shared or nextitem is None:
        return
    callspec = getattr(nextitem, "callspec", None)
    if callspec is not None and callspec.params.get("granule_cell", guest.cell) != guest.cell:
        fail_for(guest.problems(end=True), guest, "after its tests")


def _again(guest: GuestUnderTest) -> str:
    cell = guest.cell
    where = ("--kernel", cell.kernel, "--page-size", cell.page_size.token, "--memory", str(cell.memory_mib))
    return shlex.join((*where, "--cpu", cell.cpu.replace(",", "+"), "--accel", cell.accel.value))


def _kept(guest: GuestUnderTest, directory: Path, test: str) -> str:
    """Save the guest's memory and registers; returns what to do with them, or why there are none."""
    name = re.sub(r"[^\w.=+-]+", "_", test.rpartition("/")[2])[:NAME_LIMIT]
    path = directory / f"{name}.snapshot"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with guest.subject.machine.frozen() as frozen:
            save(frozen.snapshot(test), path)
    except (GranuleError, OSError) as error:
        return f"it could not be saved: {error}"
    return f"granule tables dump {shlex.quote(str(path))}"
