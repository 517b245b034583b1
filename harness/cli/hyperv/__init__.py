"""`granule hyperv`: what is asked of Hyper-V's drivers beyond the smoke matrix."""

from __future__ import annotations

import click

from harness.cli.hyperv.calibrate import calibrate
from harness.cli.hyperv.try_change import try_change

__all__ = ["hyperv"]


@click.group()
def hyperv() -> None:
    """Try changes to Hyper-V's drivers without Hyper-V, and hold ours against a real one (docs/hyperv.md)."""


hyperv.add_command(try_change)
hyperv.add_command(calibrate)
