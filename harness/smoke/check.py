"""What a check is, and how one is run to a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject
from harness.spec import GuestKind, PageSize, Platform
from harness.verdict import CheckResult

__all__ = ["BASE_MEMORY_MIB", "Check"]

BASE_MEMORY_MIB = 384
"""RAM of an ordinary cell: every check that can live with it does. Two 32 MiB pages, as 16K kernels have
for a PMD, are not to be had in 256 MiB once other checks have run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: a function with a one-line docstring that says what it claims."""

    run: Callable[[Subject, Evidence], None]
    label: str = ""
    """Its name, where the function's own would not do."""
    required: bool = False
    """A cell in which it could not run is not a PASS."""
    tells_page_size: bool = False
    """It runs also in cells that try only how a boot-time kernel is asked for its page size."""
    memory_mib: Mapping[PageSize, int] = field(default_factory=dict)
    """Guest RAM it needs where the ordinary cell's is too little; such checks get a cell of their own."""
    platform: Platform | None = None
    """The only one that it is for; None: it is for all."""
    guests: tuple[GuestKind, ...] = (GuestKind.MICRO,)
    """Those in which it runs."""
    logs_in: bool = False
    """It goes in by SSH: the server for that is had before any guest is started."""

    @property
    def name(self) -> str:
        """As `--check` and the reports spell it: the function's name with dashes."""
        return self.label or self.run.__name__.replace("_", "-")

    @property
    def about(self) -> str:
        """What it claims, in one line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]

    def needs_mib(self, size: PageSize) -> int:
        """Guest RAM that it needs at a page size, in MiB."""
        return self.memory_mib.get(size, BASE_MEMORY_MIB)

    def result(self, subject: Subject) -> CheckResult:
        """Run it; errors of the lines to the guest pass through to the cell."""
        evidence = Evidence()
        start_s = time.monotonic()
        self.run(subject, evidence)
        return evidence.result(self.name, time.monotonic() - start_s)
