"""`granule bench`: measure kernels against each other, and what is done with results."""

from __future__ import annotations

from harness.cli.bench.import_ import import_
from harness.cli.bench.program import program
from harness.cli.bench.run import bench
from harness.cli.bench.trend import trend

__all__ = ["bench"]

for _command in (import_, program, trend):
    bench.add_command(_command)
