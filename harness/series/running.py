"""The checks of a suite on one kernel at one page size: cells of the matrix, as `granule smoke` runs them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import harness
from harness.errors import UsageError
from harness.kernels.store import KernelStore
from harness.matrix.cell import Request
from harness.matrix.matrix import Listener, run_matrix
from harness.matrix.plan import plan
from harness.matrix.run import Bench
from harness.paths import data_dir
from harness.series.affected import Suite
from harness.series.values import Built, Variant
from harness.verdict import MatrixResult, Skipped

__all__ = ["CellRunner", "judges_digest"]

_FORMAT: Final = 1
_JUDGES: Final = ("smoke", "matrix", "check", "vmsa", "bulk", "linux", "hyperv", "qemu", "channel", "build")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRunner:
    """Runs suites with what every cell shares."""

    store: KernelStore
    bench: Bench
    request: Request
    """CPU model, accelerator, time-out: what is the same for all cells."""
    listener: Callable[[int], AbstractContextManager[Listener]]
    """Makes who hears of that many cells."""
    jobs: int

    def key(self, built: Built, variant: Variant, suite: Suite) -> str:
        """Names the result: of this kernel, these checks, this QEMU and this granule."""
        request = self.request
        text = "\n".join(
            (
                str(_FORMAT),
                judges_digest(),
                built.digest,
                variant.token,
                suite.platform.value,
                ",".join(suite.names),
                self.bench.qemu.version_text,
                repr((request.cpus, request.accel, request.vcpus, request.timeout_s, request.cmdline)),
            )
        )
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def run(self, built: Built, variant: Variant, suite: Suite) -> MatrixResult:
        """Boot and ask; where there can be no such cell the result has none, and says why."""
        request = replace(
            self.request,
            kernels=(built.image,),
            page_sizes=(variant.page_size,),
            platforms=(suite.platform,),
            checks=suite.checks,
            boot_time=True if variant.at_boot else None,
        )
        try:
            todo = plan(request, self.store, self.bench.qemu)
        except UsageError as error:  # a kernel without the drivers, a CPU without the page size
            skipped = Skipped(id=f"{variant.token}-{suite.platform.value}", reason=str(error))
            return MatrixResult(expected=0, cells=(), skipped=(skipped,))
        with self.listener(len(todo.cells)) as listener:
            return run_matrix(todo, self.store, self.bench, listener, jobs=self.jobs)


@functools.cache
def judges_digest() -> str:
    """Of our own source, as far as it judges guests: another granule may judge otherwise."""
    digest = hashlib.sha256()
    package = Path(harness.__file__).parent
    roots = [*(package / name for name in _JUDGES), data_dir("guests")]
    for path in sorted(path for root in roots for path in root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
