"""Results of the program on a machine of its own. May import harness.bench and the standard library."""

from __future__ import annotations

from collections.abc import Mapping

from harness.bench.guest_output import GuestOutput
from harness.bench.result import HARDWARE, Clock, Result, Row

__all__ = ["result_of"]


def result_of(output: GuestOutput, *, label: str, origin: str, config: Mapping[str, str], cpu: str) -> Result:
    """The output as a result; what the program does not know of its kernel and machine stays empty."""
    return Result(
        label=label,
        page_size=output.page_size,
        clock=Clock.TIME,
        clock_hz=output.clock_hz,
        accelerator=HARDWARE,
        cpu=cpu,
        qemu="",
        memory_mib=0,
        large_bytes=output.large_bytes,
        program_sha256="",
        release=output.release,
        version=output.version,
        kernel_sha256="",
        origin=origin,
        compiler=config.get("CC_VERSION_TEXT", "").strip('"'),
        config=config,
        first=output.first,
        rows=tuple(Row(samples=samples) for samples in output.benchmarks),
    )
