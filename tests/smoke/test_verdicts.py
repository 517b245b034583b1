"""Each way a guest can go wrong gets its own verdict: real kernels, made to misbehave."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import ExitStatus
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.matrix import run_matrix
from harness.matrix.plan import plan
from harness.matrix.run import Bench
from harness.smoke import CHECKS, Check
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import Accel, PageSize
from harness.verdict import CellResult, CheckResult, Verdict

KERNEL = "debian-4k"
QUICK = tuple(check for check in CHECKS if check.name == "guard")


class Silence:
    """A listener that hears nothing."""

    def kernel_wanted(self, name: str) -> None:
        """See harness.matrix.matrix.Listener."""

    def kernel_ready(self, name: str) -> None:
        """See harness.matrix.matrix.Listener."""

    def cell_started(self, cell_id: str) -> None:
        """See harness.matrix.matrix.Listener."""

    def check_finished(self, cell_id: str, check: CheckResult) -> None:
        """See harness.matrix.matrix.Listener."""

    def cell_finished(self, cell: CellResult) -> None:
        """See harness.matrix.matrix.Listener."""


@pytest.fixture
def run(granule_bench: Bench, granule_kernels: KernelStore) -> Callable[..., CellResult]:
    """Run one cell to its result; keywords are those of Request."""

    def run_one(**options: object) -> CellResult:
        wanted: dict[str, object] = {"kernels": (KERNEL,), "accel": Accel.TCG, "checks": QUICK}
        request = Request(**{**wanted, **options})  # type: ignore[arg-type]
        planned = plan(request, granule_kernels, granule_bench.qemu)
        result = run_matrix(planned, granule_kernels, granule_bench, Silence(), jobs=1)
        assert (result.exit_status is ExitStatus.PASSED) == result.cells[0].verdict.is_pass
        return result.cells[0]

    return run_one


def test_a_good_cell(run: Callable[..., CellResult]) -> None:
    """The control: the same cell without the mischief passes, with its power-off and its kernel log read."""
    cell = run()
    assert cell.verdict is Verdict.PASS, cell.reason
    assert cell.page_size_in_force is PageSize.K4
    assert [check.name for check in cell.checks] == ["guard", "power-off", "kernel-log"]
    assert all(check.expectations for check in cell.checks)


def test_wrong_page_size(run: Callable[..., CellResult]) -> None:
    """A kernel asked for 16K that comes up with 4K is WRONG_PAGE_SIZE, whatever its checks would say."""
    cell = run(page_sizes=(PageSize.K16,), boot_time=True)
    assert cell.verdict is Verdict.WRONG_PAGE_SIZE
    assert cell.page_size_in_force is PageSize.K4


def test_a_kernel_that_ignores_the_option(run: Callable[..., CellResult]) -> None:
    """Where 64K is due without a word, a kernel that stays at 4K is WRONG_PAGE_SIZE, and told so."""
    cell = run(boot_time=True, askings=("none",))
    assert cell.verdict is Verdict.WRONG_PAGE_SIZE
    assert cell.reason == "64K is due with no arm64.pagesize at all, in force is 4K"
    assert cell.provenance["start"].startswith("boot (")


def test_a_kernel_on_a_cpu_without_its_granule(run: Callable[..., CellResult]) -> None:
    """A 16K kernel on cortex-a57 is a HANG with the pc named, long before the boot time-out."""
    cell = run(kernels=("debian-16k",), cpus=("cortex-a57",), force=True)
    assert cell.verdict is Verdict.HANG
    assert "__no_granule_support" in cell.reason
    assert any("MMU off" in line for line in cell.diagnosis)
    assert cell.duration_s < 60


@pytest.mark.parametrize(
    ("cmdline", "verdict", "words"),
    [
        ("rdinit=/bin/busybox -- false", Verdict.PANIC, "Attempted to kill init"),
        ("rdinit=/nowhere root=/dev/nothing", Verdict.BOOT_FAILED, "Unable to mount root"),
        ("rdinit=/bin/busybox -- reboot -f", Verdict.BOOT_FAILED, "Restarting system"),
        ("rdinit=/bin/busybox -- poweroff -f", Verdict.BOOT_FAILED, "guest-shutdown"),
    ],
)
def test_a_guest_that_ends_before_its_shell(
    run: Callable[..., CellResult], cmdline: str, verdict: Verdict, words: str
) -> None:
    """A guest that panics at once, finds no root, reboots for ever or powers off says which it was."""
    cell = run(cmdline=cmdline)
    assert cell.verdict is verdict, cell.reason
    assert words in cell.reason


def test_a_guest_that_says_nothing(run: Callable[..., CellResult]) -> None:
    """A guest whose console falls silent before its shell is a HANG that names where each vCPU is."""
    cell = run(cmdline="quiet rdinit=/bin/busybox -- sleep 1000", timeout_s=30)
    assert cell.verdict is Verdict.HANG, cell.reason
    assert sum("pc 0x" in line for line in cell.diagnosis) == 2
    assert any("cpu_do_idle" in line or "default_idle" in line for line in cell.diagnosis)


def test_a_guest_that_never_stops_talking(run: Callable[..., CellResult]) -> None:
    """A guest that floods its console is a TIMEOUT, and of the flood only a part is kept."""
    cell = run(cmdline="rdinit=/bin/busybox -- yes", timeout_s=15)
    assert cell.verdict is Verdict.TIMEOUT, cell.reason
    assert len(cell.console) <= 1 << 20


def _script(script: str) -> tuple[Check, ...]:
    def mischief(subject: Subject, evidence: Evidence) -> None:
        """Do something that a good guest would not."""
        evidence.equal("status", 0, subject.sh(script).status)

    return (Check(run=mischief),)


def test_a_panic_under_a_check(run: Callable[..., CellResult]) -> None:
    """A kernel that panics while a check runs is a PANIC in the kernel's own words."""
    cell = run(checks=_script("echo c > /proc/sysrq-trigger"))
    assert cell.verdict is Verdict.PANIC
    assert "sysrq triggered crash" in cell.reason


def test_a_command_that_never_ends(run: Callable[..., CellResult]) -> None:
    """A command that outlives the cell's time-out is a TIMEOUT and no HANG: its guest took the interrupt."""
    cell = run(checks=_script("while :; do :; done"), timeout_s=20)
    assert cell.verdict is Verdict.TIMEOUT
    assert "while :" in cell.reason
    assert any("pc 0x" in line for line in cell.diagnosis)


def test_a_command_that_floods(run: Callable[..., CellResult]) -> None:
    """Output without end does not outlast the time-out."""
    cell = run(checks=_script("yes"), timeout_s=20)
    assert cell.verdict is Verdict.TIMEOUT
    assert cell.duration_s < 60


WARNING = "WARNING: CPU: 0 PID: 1 at mm/granule.c:1 test+0x0/0x10"


@pytest.mark.parametrize("cmdline", ["", "quiet loglevel=1"])
def test_a_warning_in_the_kernel_log(run: Callable[..., CellResult], cmdline: str) -> None:
    """A cell whose kernel complains is a FAIL that quotes it, however quiet its console was told to be."""
    cell = run(checks=_script(f"echo '{WARNING}' > /dev/kmsg"), cmdline=cmdline)
    assert cell.verdict is Verdict.FAIL
    assert "kernel-log" in cell.reason
    (log,) = [check for check in cell.checks if check.name == "kernel-log"]
    assert "mm/granule.c" in str(log.findings[0])


def test_a_warning_behind_a_flood(run: Callable[..., CellResult]) -> None:
    """A guest that prints a thousand harmless lines first cannot hide its complaint."""
    flood = "for i in $(seq 1000); do echo 'granule: hello'; done > /dev/console"
    cell = run(checks=_script(f"{flood}; echo '{WARNING}' > /dev/kmsg"))
    assert cell.verdict is Verdict.FAIL


def test_a_tainted_kernel(run: Callable[..., CellResult]) -> None:
    """A kernel that was tainted without a word in its log is a FAIL."""
    cell = run(checks=_script("echo 64 > /proc/sys/kernel/tainted"))
    assert cell.verdict is Verdict.FAIL
    assert "kernel-log" in cell.reason


def test_a_cpu_that_will_not_go(run: Callable[..., CellResult]) -> None:
    """The hotplug check fails when the kernel refuses to take a CPU down."""
    (hotplug,) = [check for check in CHECKS if check.name == "hotplug"]

    def pinned(subject: Subject, evidence: Evidence) -> None:
        """Hotplug, with the control file hidden behind one that takes nothing."""
        subject.sh("mount -o bind /dev/full /sys/devices/system/cpu/cpu1/online")
        hotplug.run(subject, evidence)

    assert run(checks=(Check(run=pinned),)).verdict is Verdict.FAIL


def test_a_driver_that_does_not_load(run: Callable[..., CellResult]) -> None:
    """A module that is there and does not load fails its check, and does not skip it."""
    (network,) = [check for check in CHECKS if check.name == "network"]

    def broken(subject: Subject, evidence: Evidence) -> None:
        """The network check, with the driver's file cut short."""
        subject.sh("for f in $(find /lib/modules -name 'virtio_net.ko'); do echo x > $f; done")
        network.run(subject, evidence)

    cell = run(checks=(Check(run=broken),))
    assert cell.verdict is Verdict.FAIL
    assert "virtio_net" in str(cell.checks[0].findings[0])


def test_a_check_that_compares_nothing(run: Callable[..., CellResult]) -> None:
    """A check without a comparison fails its cell: a green means that something was looked at."""

    def idle(_subject: Subject, _evidence: Evidence) -> None:
        """Look at nothing."""

    assert run(checks=(Check(run=idle),)).verdict is Verdict.FAIL


def test_a_cell_that_skips_everything(run: Callable[..., CellResult]) -> None:
    """A cell whose every check was skipped is not a PASS."""

    def absent(_subject: Subject, evidence: Evidence) -> None:
        """Skip."""
        evidence.not_here("nothing of the kind here")

    cell = run(checks=(Check(run=absent),))
    assert cell.verdict is Verdict.FAIL
    assert cell.reason == "no check ran"
