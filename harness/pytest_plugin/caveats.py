"""What a reader of a pytest run has to know of its kernels: beside each test in JUnit, once at the end."""

from __future__ import annotations

import pytest

__all__ = ["note", "pytest_terminal_summary"]

PROPERTY = "granule caveat"


def note(item: pytest.Item, caveat: str) -> None:
    """Keep a caveat with a test; properties reach JUnit, and come back from workers of pytest-xdist."""
    if caveat and (PROPERTY, caveat) not in item.user_properties:
        item.user_properties.append((PROPERTY, caveat))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each caveat once, after the results."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    said = {
        value: None
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    }
    for caveat in said:
        terminalreporter.write_line(f"granule: {caveat}.")
