"""A socket of hv_sock's, to a service of the host's and back."""

from __future__ import annotations

from typing import Final

from harness.hyperv.peripherals import ECHO_PORT
from harness.linux.tap import parse_tap
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject

__all__ = ["hv_sock"]

SENT_BYTES: Final = 300_000
"""More than both rings of a socket hold."""
BOUND_S: Final = 90
"""A driver that does not get its channel waits for it longer than that."""


def hv_sock(subject: Subject, evidence: Evidence) -> None:
    """hv_sock connects to a service of the host's, and every byte comes back."""
    if not subject.has_driver(evidence, "HYPERV_VSOCKETS", "hv_sock"):
        return
    done = subject.sh(f"timeout {BOUND_S} probe tcp vsock {ECHO_PORT} {SENT_BYTES}")
    evidence.tap("probe tcp vsock", parse_tap(done.output), done.status)
