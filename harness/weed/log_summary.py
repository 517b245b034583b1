"""A failed build in a few rows: for each file its first error, and the option that had it built.

For whoever runs kbuild; not for harness.kernels.kbuild.build, which harness.weed.failures imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.weed.failures import Row, read_log, summary
from harness.weed.makefiles import Makefiles

__all__ = ["summarise"]


def summarise(log: Path, tree: Path, output: Path, config: Mapping[str, str]) -> tuple[Row, ...]:
    """One row for each file that failed by the log of a build (with or without -k), in the log's order."""
    makefiles = Makefiles(tree)
    return summary(read_log(log, tree, output), lambda name: makefiles.options_of(name, config))
