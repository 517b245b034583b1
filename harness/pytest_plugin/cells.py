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

import shlex
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import ChannelError, GranuleError
from harness.kernels.store import KernelStore
from harness.linux.klog import harmless
from harness.matrix.boot import Symbols, boot
from harness.matrix.cell import Cell, Request
from harness.matrix.judge import kernel_log
from harness.matrix.patience import Patience
from harness.matrix.plan import plan
from harness.matrix.record import CellEnded, Record
from harness.matrix.run import Bench, expect_page_size, machine_spec, power_off, subject_of
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.smoke.subject import Subject
from harness.spec import Accel, PageSize
from harness.verdict import CheckResult, Skipped

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
    group.addoption("--granule-timeout", type=float, metavar="SECONDS", help="as `granule smoke --timeout`")
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
        cells, skipped = _cells(metafunc)
    except GranuleError as error:
        raise pytest.UsageError(str(error)) from error
    parameters = [pytest.param(cell, id=cell.id, marks=pytest.mark.xdist_group(cell.id)) for cell in cells]
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


class _Guest:
    """A cell's guest, which stays dead once it has died."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.obituary = ""

    def look(self) -> None:
        """Note it if the guest has died."""
        try:
            self.subject.machine.raise_if_gone()
        except ChannelError as error:
            self.obituary = self.obituary or str(error)


@pytest.fixture(scope="session")
def granule_cell(request: pytest.FixtureRequest) -> Cell:
    """The cell of a test; see `subject`."""
    cell: Cell = request.param
    return cell


@pytest.fixture(scope="session")
def granule_guest(granule_cell: Cell, granule_bench: Bench, granule_kernels: KernelStore) -> Iterator[_Guest]:
    """The booted guest of a cell, shared by its tests in this worker.

    When its tests are done it is powered off, and its kernel log is judged as in `granule smoke`.
    """
    cell, bench = granule_cell, granule_bench
    kernel = granule_kernels.get(cell.kernel)
    patience = Patience.of(cell.accel, cell.cpu, cell.timeout_s)
    record = Record()
    with Machine(machine_spec(cell, kernel, bench), bench.qemu) as machine:
        # The tests of a cell may take as long as they like; each command has its own limit.
        subject = subject_of(cell, kernel, machine, patience, Deadline.after(float("inf")))
        try:
            boot(machine, Symbols(kernel), patience, record)
            expect_page_size(subject, record)
        except (CellEnded, ChannelError) as error:
            why = f"{record.verdict.value}: {record.reason}" if record.reason else str(error)
            pytest.fail("\n".join([f"{cell.id}: {why}", *record.diagnosis, _console(machine)]), pytrace=False)
        guest = _Guest(subject)
        yield guest
        guest.look()
        results = [] if guest.obituary else _last_questions(subject, patience)
    problems = [str(finding) for result in results for finding in result.findings]
    if problems:
        pytest.fail("\n".join([f"{cell.id}, after its tests:", *problems, _console(machine)]), pytrace=False)


def _last_questions(subject: Subject, patience: Patience) -> list[CheckResult]:
    tainted = int(subject.sh("cat /proc/sys/kernel/tainted").text)
    machine = subject.machine
    off = power_off(machine, Deadline.after(patience.command_s))
    machine.console.drain(0.05, 1.0)
    return [off, kernel_log(machine.console.events, machine.transcript.content(), tainted)]


@pytest.fixture
def subject(request: pytest.FixtureRequest, granule_guest: _Guest) -> Subject:
    """The guest under test: `sh()`, `probe()`, `page_size`, `kernel`, `machine`.

    A guest that died fails the test in which it did; the tests after it fail with that reason in one line.
    """
    if granule_guest.obituary:
        pytest.fail(f"the guest had died before this test: {granule_guest.obituary}", pytrace=False)
    for marker in request.node.iter_markers("requires_config"):
        for option in marker.args:
            _require(granule_guest.subject, option)
    return granule_guest.subject


def _require(subject: Subject, option: str) -> None:
    if subject.config is None:
        pytest.skip(
            f"whether the kernel has CONFIG_{option} is unknown: it embeds no configuration (give --config)"
        )
    if subject.option(option) is None:
        pytest.skip(f"the kernel was built without CONFIG_{option}; choose another with --granule-kernel")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail the test in which a guest died, and attach the console to every failure."""
    report = yield
    guest = getattr(item, "funcargs", {}).get("granule_guest")
    if not isinstance(guest, _Guest) or call.when != "call":
        return report
    guest.look()
    if guest.obituary and report.passed:
        report.outcome = "failed"
        report.longrepr = f"the guest died during this test: {guest.obituary}"
    if report.failed:
        report.sections.append(("guest console", _console(guest.subject.machine)))
        report.sections.append(("such a guest again", f"granule boot {_again(item)}"))
    return report


def _again(item: pytest.Item) -> str:
    cell: Cell = item.funcargs["granule_cell"]  # type: ignore[attr-defined]
    where = ("--kernel", cell.kernel, "--page-size", cell.page_size.token, "--memory", str(cell.memory_mib))
    return shlex.join((*where, "--cpu", cell.cpu.replace(",", "+"), "--accel", cell.accel.value))


def _console(machine: Machine) -> str:
    return harmless(machine.transcript.tail(CONSOLE_SHOWN_BYTES))
