"""The pytest plugin: page size, kernel, CPU and accelerator as dimensions of a test.

A test that asks for `subject` runs once per cell, in a guest that it shares with the other tests of that
cell in its xdist worker:

    def test_at_pagesz(subject):
        assert subject.sh("getconf PAGE_SIZE").text == f"{subject.page_size.bytes}\\n"

Options choose the cells (`--granule-page-size 16k,64k`, …); markers narrow them for one test
(`@pytest.mark.page_size("64k")`, `@pytest.mark.requires_config("ZRAM")`, `@pytest.mark.memory(1536)`).
All tests of a cell go to one worker under `--dist loadgroup`, which is the default with this plugin.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.errors import ChannelError, GranuleError
from harness.kernels.store import KernelStore
from harness.linux.kconfig import read_config
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell, Request
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import Bench, machine_spec, page_size_in_force
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.smoke.subject import Subject
from harness.spec import Accel, PageSize

__all__: list[str] = []

CONSOLE_SHOWN_BYTES = 8 << 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose cells."""
    group = parser.getgroup("granule", "real arm64 kernels at 4K, 16K and 64K pages")
    group.addoption("--granule-page-size", default="", metavar="SIZE,…", help="4k, 16k, 64k; default: all")
    group.addoption("--granule-kernel", default="", metavar="NAME|PATH,…", help="as `granule smoke --kernel`")
    group.addoption("--granule-cpu", default="", metavar="MODEL,…", help="as `granule smoke --cpu`")
    group.addoption("--granule-accel", default="auto", choices=[accel.value for accel in Accel])
    group.addoption("--granule-guest", default="micro", choices=["micro"], help="the guest to boot")
    group.addoption("--granule-offline", action="store_true", help="take only kernels that are in the cache")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and keep the tests of a cell in one xdist worker."""
    config.addinivalue_line("markers", "page_size(*sizes): run only at these page sizes, such as '16k'")
    config.addinivalue_line("markers", "requires_config(*options): skip on kernels built without them")
    config.addinivalue_line("markers", "memory(mib): guest RAM that the test needs")
    if getattr(config.option, "dist", None) in ("load", "worksteal"):
        config.option.dist = "loadgroup"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


@pytest.fixture(scope="session")
def granule_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """QEMU, the cache and the guest, as every cell uses them."""
    with Cache() as cache:
        offline = bool(request.config.getoption("--granule-offline"))
        yield Bench(qemu=Qemu.find(), cache=cache, guest=MicroGuest(cache, offline=offline))


@pytest.fixture(scope="session")
def granule_kernels(request: pytest.FixtureRequest, granule_bench: Bench) -> KernelStore:
    """The kernels that can be had."""
    return KernelStore(granule_bench.cache, offline=bool(request.config.getoption("--granule-offline")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that uses `subject` one instance per cell."""
    if "subject" not in metafunc.fixturenames:
        return
    try:
        cells = _cells(metafunc)
    except GranuleError as error:
        raise pytest.UsageError(str(error)) from error
    parameters = [pytest.param(cell, id=cell.id, marks=pytest.mark.xdist_group(cell.id)) for cell in cells]
    metafunc.parametrize("granule_cell", parameters, scope="session", indirect=True)


def _cells(metafunc: pytest.Metafunc) -> tuple[Cell, ...]:
    option = metafunc.config.getoption
    request = Request(
        kernels=_words(option("--granule-kernel")),
        page_sizes=tuple(map(PageSize.parse, _words(option("--granule-page-size")))),
        cpus=tuple(cpu.replace("+", ",") for cpu in _words(option("--granule-cpu"))),
        accel=Accel(option("--granule-accel")),
        checks=(),
    )
    with Cache() as cache:
        store = KernelStore(cache, offline=option("--granule-offline"))
        cells = plan(request, store, Qemu.find()).cells
    for marker in metafunc.definition.iter_markers("page_size"):
        wanted = {PageSize.parse(size) for size in marker.args}
        cells = tuple(cell for cell in cells if cell.page_size in wanted)
    marker_ = metafunc.definition.get_closest_marker("memory")
    return tuple(replace(cell, memory_mib=marker_.args[0]) for cell in cells) if marker_ else cells


class _Guest:
    """A cell's guest, which stays dead once it has died."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.obituary = ""


@pytest.fixture(scope="session")
def granule_cell(request: pytest.FixtureRequest) -> Cell:
    """The cell of a test; see `subject`."""
    cell: Cell = request.param
    return cell


@pytest.fixture(scope="session")
def granule_guest(granule_cell: Cell, granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[_Guest]:
    """The booted guest of a cell, shared by its tests in this worker."""
    cell, bench = granule_cell, granule_bench
    kernel = granule_kernels.get(cell.kernel)
    config = read_config(kernel.config) if kernel.config is not None else None
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    record = Record()
    with Machine(machine_spec(cell, kernel, bench), bench.qemu) as machine:
        try:
            boot(machine, Symbols(kernel), patience, record)
        except (CellEnded, ChannelError) as error:
            why = record.reason or str(error)
            pytest.fail("\n".join([f"{cell.id}: {why}", *record.diagnosis, _console(machine)]), pytrace=False)
        subject = Subject(
            machine=machine, kernel=kernel, config=config, page_size=cell.page_size,
            command_s=patience.command_s,
        )  # fmt: skip
        in_force = page_size_in_force(subject)
        if in_force is not cell.page_size:
            pytest.fail(f"WRONG_PAGE_SIZE: asked for {cell.page_size.label}, got {in_force}", pytrace=False)
        yield _Guest(subject)
        with contextlib.suppress(ChannelError):
            machine.raise_if_gone()


@pytest.fixture
def subject(request: pytest.FixtureRequest, granule_guest: _Guest) -> Subject:
    """The guest under test: `sh()`, `probe()`, `page_size`, `kernel`, `machine`.

    A guest that died fails the test in which it did; the tests after it fail with that reason in one line.
    """
    if granule_guest.obituary:
        pytest.fail(f"the guest had died before this test: {granule_guest.obituary}", pytrace=False)
    for marker in request.node.iter_markers("requires_config"):
        for option in marker.args:
            if granule_guest.subject.option(option) is None:
                pytest.skip(
                    f"the kernel was built without CONFIG_{option}; choose another with --granule-kernel"
                )
    return granule_guest.subject


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the console to a failure, and note the death of a guest."""
    report = yield
    guest = getattr(item, "funcargs", {}).get("granule_guest")
    if isinstance(guest, _Guest) and call.when == "call":
        try:
            guest.subject.machine.raise_if_gone()
        except ChannelError as error:
            guest.obituary = guest.obituary or str(error)
        if report.failed:
            report.sections.append(("guest console", _console(guest.subject.machine)))
            report.sections.append(("run again", f"granule boot {_again(item)}"))
    return report


def _again(item: pytest.Item) -> str:
    cell = item.funcargs["granule_cell"]  # type: ignore[attr-defined]
    dimensions = ("--kernel", cell.kernel, "--page-size", cell.page_size.token)
    return shlex.join((*dimensions, "--cpu", cell.cpu, "--accel", cell.accel.value))


def _console(machine: Machine) -> str:
    return machine.transcript.tail(CONSOLE_SHOWN_BYTES).decode(errors="replace")
