"""What is asked for, and the cells that follow from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.determinism.conditions import Conditions
from harness.linux.pagesize_option import option
from harness.matrix.asking import BY_SIZE, Asking
from harness.smoke import CHECKS, Check, checks_on
from harness.smoke.check import BASE_MEMORY_MIB
from harness.spec import Accel, Feature, GuestKind, PageSize, Platform

__all__ = ["Cell", "Request", "check_groups"]

# A cell's id names files; a kernel's own name may be as long as a file name.
NAME_LIMIT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of a run, as given; what was left open is empty."""

    kernels: tuple[str, ...] = ()
    page_sizes: tuple[PageSize, ...] = ()
    cpus: tuple[str, ...] = ()
    accel: Accel = Accel.AUTO
    vcpus: int = 2
    features: tuple[Feature, ...] = ()
    platforms: tuple[Platform, ...] = (Platform.VIRT,)
    guests: tuple[GuestKind, ...] = (GuestKind.MICRO,)
    guest_options: tuple[str, ...] = ()
    """Options such as `--disk FILE` that belong to a guest of the user's own."""
    checks: tuple[Check, ...] = CHECKS
    """CHECKS: all that there are for a cell's platform."""
    timeout_s: float | None = None
    """Per cell, where the default is not wanted."""
    force: bool = False
    """Boot what pre-flight would refuse."""
    boot_time: bool | None = None
    """Whether kernels take their page size from the command line; None: as each Image says of itself."""
    askings: tuple[str, ...] = (BY_SIZE,)
    """How a boot-time kernel is asked for its page size; see `harness.matrix.asking`."""
    cmdline: str = ""
    """Added to the kernel's command line."""
    allowed_taint: int = 0
    """Bits of /proc/sys/kernel/tainted that are the user's own doing."""
    kernel_options: tuple[str, ...] = ()
    """Options such as `--modules DIR` that belong to the kernel, for the command that runs a cell again."""
    command: tuple[tuple[str, ...], tuple[str, ...]] = (("granule", "smoke"), ())
    """That command: what stands before its options, and after them."""
    exact: tuple[Conditions, ...] = ()
    """A cell for each, whose run repeats; empty for ordinary cells."""
    explored: bool = False
    """These come from `--explore`: one that passes is not run a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One guest to boot: a kernel at a page size on a CPU, and the checks that run in it."""

    kernel: str
    page_size: PageSize
    cpu: str
    accel: Accel
    vcpus: int
    memory_mib: int
    checks: tuple[Check, ...] = field(repr=False)
    guest: GuestKind = GuestKind.MICRO
    guest_options: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    platform: Platform = Platform.VIRT
    timeout_s: float | None = None
    force: bool = False
    boot_time: bool = False
    """Its kernel takes the page size from the command line."""
    asking: Asking | None = None
    """How it is asked, where not by `page_size`, which is the one that is due then."""
    cmdline: str = ""
    allowed_taint: int = 0
    tag: str = ""
    """Tells kernels of one name apart."""
    kernel_options: tuple[str, ...] = ()
    command: tuple[tuple[str, ...], tuple[str, ...]] = (("granule", "smoke"), ())
    exact: Conditions | None = None
    """Its run repeats under these; None for an ordinary cell."""
    explored: bool = False
    left_out: tuple[tuple[str, str], ...] = ()
    """Checks that were asked for and cannot be part of this cell, each with its reason."""

    @property
    def id(self) -> str:
        """Unique in a matrix: `16k-debian-16k-neoverse-n1-tcg`, with `-1536m` appended for a large guest."""
        kernel = self.kernel.rstrip("/").rpartition("/")[2][:NAME_LIMIT] + self.tag
        parts = [self.page_size.token, kernel, self.cpu.replace(",", "+"), self.accel.value]
        if self.vcpus != 2:
            parts.append(f"{self.vcpus}cpu")
        if self.memory_mib != max(BASE_MEMORY_MIB, self.guest.memory_mib):
            parts.append(f"{self.memory_mib}m")
        parts += [self.guest.value] if self.guest is not GuestKind.MICRO else []
        parts += [feature.value for feature in self.features]
        parts += [self.platform.value] if self.platform is not Platform.VIRT else []
        if self.asking is not None:
            parts.append(self.asking.name)
        if self.exact is not None:
            parts.append(self.exact.label)
        return "-".join(parts)

    @property
    def page_size_words(self) -> tuple[str, ...]:
        """What the guest's command line says of the page size."""
        return (option(self.page_size),) if self.asking is None else self.asking.words

    @property
    def cold(self) -> str:
        """Why its guest is not to be a clone; empty where it may be one."""
        if self.platform is Platform.HYPERV:
            return "the other ends of its VMBus channels live in this process and are in no template"
        return "" if self.asking is None else "what the kernel makes of its command line is tested"

    @property
    def rerun(self) -> str:
        """The one command that runs this cell again."""
        before, after = self.command
        words = [*before, "--kernel", self.kernel]
        if self.asking is None:
            words += ["--page-size", self.page_size.token]
        else:
            words += ["--ask", self.asking.kind]
        words += [
            "--cpu",
            self.cpu.replace(",", "+"),
            "--accel",
            self.accel.value,
            "--vcpus",
            str(self.vcpus),
        ]
        words += ["--force"] if self.force else []
        words += ["--boot-time"] if self.boot_time else []
        words += ["--timeout", f"{self.timeout_s:g}"] if self.timeout_s is not None else []
        if self.features:
            words += ["--with", ",".join(feature.value for feature in self.features)]
        words += ["--platform", self.platform.value] if self.platform is not Platform.VIRT else []
        words += self.guest_options
        if self.guest is not GuestKind.MICRO and not self.guest_options:
            words += ["--guest", self.guest.value]
        words += ["--cmdline", self.cmdline] if self.cmdline else []
        words += self.kernel_options
        if self.exact is not None:
            seeded = self.exact.kaslr or self.explored
            words += ["--deterministic", *((str(self.exact.seed.value),) if seeded else ())]
            words += ["--explore", "1"] if self.explored else []
        if self.checks != checks_on(self.platform, guest=self.guest) and not after:
            words += ["--check", ",".join(check.name for check in self.checks)]
        return shlex.join([*words, *after])


def check_groups(checks: Iterable[Check], size: PageSize) -> dict[int, tuple[Check, ...]]:
    """Checks by the guest RAM they need at a page size, in MiB: one cell for each amount.

    No checks at all are an ordinary guest: a test of somebody's own will ask it something.
    """
    groups: dict[int, tuple[Check, ...]] = {}
    for check in checks:
        need_mib = check.needs_mib(size)
        groups[need_mib] = (*groups.get(need_mib, ()), check)
    return groups or {BASE_MEMORY_MIB: ()}
