"""Options and markers to cells: a test that asks for a guest has an instance for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cache import Cache
from harness.errors import GranuleError
from harness.kernels.store import KernelStore
from harness.matrix.cell import Cell, Request
from harness.matrix.plan import plan
from harness.qemu.probe import Qemu
from harness.spec import Accel, GuestKind, PageSize, Platform
from harness.verdict import Skipped

__all__ = ["pytest_addoption", "pytest_configure", "pytest_configure_node", "pytest_generate_tests"]

# The first is shared by the tests of a cell in one worker.
SHARED, FRESH = "subject", "fresh_subject"
GROUPING = "granule_loadgroup"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose cells."""
    group = parser.getgroup("granule", "real arm64 kernels at 4K, 16K and 64K pages")
    group.addoption("--granule-page-size", default="", metavar="SIZE,…", help="4k, 16k, 64k; default: all")
    group.addoption("--granule-kernel", default="", metavar="NAME|PATH,…", help="as `granule smoke --kernel`")
    group.addoption("--granule-cpu", default="", metavar="MODEL,…", help="as `granule smoke --cpu`")
    group.addoption("--granule-accel", default="auto", choices=[accel.value for accel in Accel])
    group.addoption("--granule-platform", default="virt", metavar="PLATFORM,…", help="virt, hyperv")
    kinds = [guest.value for guest in GuestKind]
    group.addoption("--granule-guest", default="micro", choices=kinds, help="the guest to boot")
    group.addoption("--granule-timeout", type=float, metavar="SECONDS", help="as `granule smoke --timeout`")
    group.addoption("--granule-cold", action="store_true", help="boot every guest instead of cloning it")
    group.addoption(
        "--granule-snapshots",
        metavar="DIR",
        help="save the guest of every test that fails, for `granule tables`",
    )
    group.addoption("--granule-offline", action="store_true", help="take only kernels that are in the cache")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and keep the tests of a cell in one xdist worker."""
    config.addinivalue_line("markers", "page_size(*sizes): run only at these page sizes, such as '16k'")
    config.addinivalue_line("markers", "requires_config(*options): skip on kernels built without them")
    config.addinivalue_line("markers", "memory(mib): guest RAM that the test needs")
    # pytest-xdist registers it too, where it is not switched off.
    config.addinivalue_line("markers", "xdist_group(name): tests that go to one worker")
    if getattr(config.option, "dist", None) in ("load", "worksteal"):
        config.option.dist = "loadgroup"
    # A worker of pytest-xdist knows of the command line only: see pytest_configure_node.
    if getattr(config, "workerinput", {}).get(GROUPING):
        config.option.loadgroup = True


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist that tests have groups, as its remote.py does from the command line."""
    node.workerinput[GROUPING] = node.config.option.dist == "loadgroup"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that uses a guest one instance per cell."""
    if not {SHARED, FRESH} & set(metafunc.fixturenames):
        return
    try:
        cells, skipped = _cells(metafunc)
    except GranuleError as error:
        raise pytest.UsageError(str(error)) from error
    shared = SHARED in metafunc.fixturenames
    parameters = [
        pytest.param(cell, id=cell.id, marks=pytest.mark.xdist_group(cell.id) if shared else ())
        for cell in cells
    ]
    parameters += [pytest.param(None, id=entry.id, marks=pytest.mark.skip(entry.reason)) for entry in skipped]
    metafunc.parametrize("granule_cell", parameters, scope="session", indirect=True)


def _cells(metafunc: pytest.Metafunc) -> tuple[tuple[Cell, ...], tuple[Skipped, ...]]:
    """The cells a test runs in, and those it would run in but cannot."""
    option = metafunc.config.getoption
    request = Request(
        kernels=_words(option("--granule-kernel")),
        page_sizes=tuple(map(PageSize.parse, _words(option("--granule-page-size")))),
        cpus=tuple(cpu.replace("+", ",") for cpu in _words(option("--granule-cpu"))),
        accel=Accel(option("--granule-accel")),
        guests=(GuestKind(option("--granule-guest")),),
        platforms=tuple(map(Platform.parse, _words(option("--granule-platform")))),
        checks=(),
        timeout_s=option("--granule-timeout"),
    )
    with Cache() as cache:
        store = KernelStore(cache, offline=option("--granule-offline"))
        planned = plan(request, store, Qemu.find())
    cells, skipped = planned.cells, planned.skipped
    for marker in metafunc.definition.iter_markers("page_size"):
        wanted = {PageSize.parse(size) for size in marker.args}
        if not any(cell.page_size in wanted for cell in cells):
            reason = (
                f"the test wants {', '.join(marker.args)}, and no kernel that was chosen has that page size"
            )
            skipped = (*skipped, Skipped(id="no-such-page-size", reason=reason))
        cells = tuple(cell for cell in cells if cell.page_size in wanted)
    memory = metafunc.definition.get_closest_marker("memory")
    return tuple(replace(cell, memory_mib=memory.args[0]) for cell in cells) if memory else cells, skipped
