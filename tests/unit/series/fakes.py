"""A builder and a runner that need no compiler and no QEMU, and what they are asked with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.errors import InfraError
from harness.kernels.trees.patches import Patch
from harness.series.affected import Affected, Suite
from harness.series.engine import Asked
from harness.series.order import Mode
from harness.series.values import Built, Outlook, Variant
from harness.smoke import EVERY_CHECK
from harness.spec import PageSize, Platform
from harness.verdict import CellResult, CheckResult, Finding, MatrixResult, Verdict

K4, K16, K64 = (Variant(size.bytes) for size in PageSize)
SUITE = Suite(
    platform=Platform.VIRT,
    checks=tuple(check for check in EVERY_CHECK if check.name in ("page-size", "mapping", "swap")),
)


def patch(number: int, *files: str) -> Patch:
    """A patch that touches those files, mm/a.c where none is named."""
    return Patch(
        name=f"{number}.patch",
        subject=f"change {number}",
        author="",
        body="",
        diff=f"{number}".encode(),
        files=files or ("mm/a.c",),
        number=number,
    )


def asked(count: int, *, inert: tuple[int, ...] = (), idle: tuple[int, ...] = (), **more: object) -> Asked:
    """A series of `count` patches: `inert` ones make no other kernel, `idle` ones are not exercised."""
    given: dict[str, object] = {
        "patches": tuple(patch(number) for number in range(1, count + 1)),
        "affected": tuple(
            Affected(groups=("mm",), builds=number not in inert) for number in range(1, count + 1)
        ),
        "exercised": tuple(number not in idle for number in range(1, count + 1)),
        "suites": (SUITE,),
        "groups": ("mm",),
        "variants": (K64, K16, K4),
        "mode": Mode.EVERY,
        "repeat": 3,
    }
    return Asked(**(given | more))  # type: ignore[arg-type]


def cell(name: str, *, failing: tuple[str, ...] = (), **more: object) -> CellResult:
    """A cell in which those of the suite's checks fail, and the others pass."""
    checks = tuple(
        CheckResult(
            name=check,
            verdict=Verdict.FAIL if check in failing else Verdict.PASS,
            expectations=1,
            duration_s=0.0,
            findings=(Finding(what=check, wanted="right", seen="wrong"),) if check in failing else (),
        )
        for check in SUITE.names
    )
    given: dict[str, object] = {
        "id": name,
        "page_size_asked": PageSize.K4,
        "page_size_in_force": PageSize.K4,
        "kernel": "fake",
        "cpu": "fake",
        "accel": "tcg",
        "vcpus": 2,
        "memory_mib": 384,
        "verdict": Verdict.FAIL if failing else Verdict.PASS,
        "reason": "",
        "checks": checks,
        "duration_s": 1.0,
        "boot_s": 1.0,
        "rerun": "",
        "console": "",
    }
    return CellResult(**(given | more))  # type: ignore[arg-type]


@dataclass(slots=True)
class FakeBuilder:
    """Builds every step but those named, and counts."""

    broken: Mapping[int, tuple[PageSize | None, ...]] = field(default_factory=dict)
    absent: frozenset[int] = frozenset()
    full_at: int | None = None
    """The step at which the disk is full."""
    image: str = ""
    built: list[tuple[int, str]] = field(default_factory=list)

    def key(self, step: int, size: PageSize | None) -> str:
        """By step and size."""
        return f"{step}-{size.token if size else 'boot'}"

    def build(self, step: int, size: PageSize | None) -> Built:
        """At once."""
        if step == self.full_at:
            raise InfraError("No space left on device")
        self.built.append((step, size.token if size else "boot"))
        if step in self.absent:
            return Built(outlook=Outlook.ABSENT, errors=("no such option",))
        if size in self.broken.get(step, ()):
            return Built(outlook=Outlook.FAILED, errors=("mm/a.c:3:1: error: no",), place="mm/a.c:3")
        return Built(outlook=Outlook.BUILT, image=self.image, digest=f"{step}")


@dataclass(slots=True)
class FakeRunner:
    """Fails the checks that it is told to, and counts."""

    failing: Callable[[int, Variant, int], tuple[str, ...]] = lambda _step, _variant, _run: ()
    ran: list[tuple[int, str]] = field(default_factory=list)
    kill_after: int | None = None

    def key(self, built: Built, variant: Variant, suite: Suite) -> str:
        """By kernel, page size and platform."""
        return f"{built.digest}-{variant.token}-{suite.platform.value}"

    def run(self, built: Built, variant: Variant, suite: Suite) -> MatrixResult:
        """At once."""
        if self.kill_after is not None and len(self.ran) >= self.kill_after:
            raise KeyboardInterrupt
        step = int(built.digest)
        number = self.ran.count((step, variant.token))
        self.ran.append((step, variant.token))
        found = cell("x", failing=self.failing(step, variant, number))
        return MatrixResult(expected=1, cells=(found,))


class Deaf:
    """Hears and says nothing."""

    def started(self, what: str, left: str) -> None:
        """Something begins."""

    def ended(self, what: str, how: str) -> None:
        """It has ended."""
