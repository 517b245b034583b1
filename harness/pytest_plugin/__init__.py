"""The pytest plugin: page size, kernel, CPU and accelerator as dimensions of a test.

A test that asks for `subject` runs once per cell, in a guest that it shares with the other tests of that
cell in its xdist worker; one that asks for `fresh_subject` gets a guest of its own, a clone of one that was
booted once:

    def test_at_pagesz(subject):
        assert subject.sh("getconf PAGE_SIZE").text == f"{subject.page_size.bytes}\\n"

    def test_leaves_a_mess(fresh_subject):
        fresh_subject.sh("rm -rf /etc")

`machine` and `fresh_machine` are their machines. Options choose the cells (`--granule-page-size 16k,64k`, …);
markers narrow them for one test (`@pytest.mark.page_size("64k")`, `@pytest.mark.requires_config("ZRAM")`,
`@pytest.mark.memory(1536)`).

    cells    options and markers to cells, a test for each
    guests   the fixtures
    failure  what a failed test leaves to look at
    caveats  what a reader has to know of the kernels

Tests that share a guest go to one worker, under `--dist loadgroup`, which is the default with this plugin;
those with guests of their own go wherever a worker is free.
"""

from harness.pytest_plugin.caveats import pytest_terminal_summary
from harness.pytest_plugin.cells import (
    pytest_addoption,
    pytest_configure,
    pytest_configure_node,
    pytest_generate_tests,
)
from harness.pytest_plugin.failure import pytest_runtest_makereport, pytest_runtest_teardown
from harness.pytest_plugin.guests import (
    fresh_machine,
    fresh_subject,
    granule_bench,
    granule_cell,
    granule_guest,
    granule_kernels,
    machine,
    subject,
)

__all__ = [
    "fresh_machine",
    "fresh_subject",
    "granule_bench",
    "granule_cell",
    "granule_guest",
    "granule_kernels",
    "machine",
    "pytest_addoption",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_runtest_makereport",
    "pytest_runtest_teardown",
    "pytest_terminal_summary",
    "subject",
]
