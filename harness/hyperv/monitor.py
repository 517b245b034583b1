"""Assembles the EL2 monitor (guests/monitor/monitor.S) into a flat binary, into the cache."""

from __future__ import annotations

from pathlib import Path

from harness.build.assemble import assemble
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.hyperv.layout import DEFINES
from harness.paths import data_dir
from harness.spec import Hyperv

__all__ = ["build_monitor", "hyperv_setup"]


def build_monitor(toolchain: Toolchain, cache: Cache) -> Path:
    """The monitor; assembled unless it is in the cache. Raises InfraError with the tool's words."""
    source = data_dir("guests") / "monitor" / "monitor.S"
    return assemble(toolchain, cache, source, DEFINES, what="the EL2 monitor")


def hyperv_setup(cache: Cache) -> Hyperv:
    """What `MachineSpec.hyperv` takes for an ordinary Hyper-V machine; raises as `build_monitor` does."""
    return Hyperv(monitor=build_monitor(Toolchain.find(), cache))
