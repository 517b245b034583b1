"""Where the `granule` program starts: an interrupt while the rest is being imported ends quietly too."""

from __future__ import annotations

import sys

__all__ = ["main"]

INTERRUPTED = 130  # harness.errors.ExitStatus, which is not imported yet


def main() -> None:
    """Import the program and run it; ends the process with its exit status."""
    try:
        from harness.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("granule: interrupted\n")
        sys.exit(INTERRUPTED)
    run()
