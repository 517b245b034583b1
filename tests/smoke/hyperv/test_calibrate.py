"""`granule hyperv calibrate`: what Linux's own trace says of a guest of ours, held against our host."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from harness.cli.hyperv import hyperv
from harness.errors import ExitStatus
from harness.hyperv.calibration import differences, read_trace
from harness.kernels.store import KernelStore
from harness.paths import data_dir

KERNEL: Final = "debian-16k"
CARD: Final = (
    'for d in /sys/class/net/*; do [ "$(basename "$(readlink -f "$d/device/driver")")" = hv_netvsc ] && '
    'basename "$d"; done; :'
)

# The fixture's maker of Guests: tests have no package to import it from.
Start = Callable[..., Any]


def test_a_trace_of_a_guest_of_ours(start: Start, granule_kernels: KernelStore, tmp_path: Path) -> None:
    """The script records netvsc closing and opening; nothing of it differs from what our host saw.

    Neither does it from another guest's conversation, which the command holds it against; one number that is
    changed in the trace is found.
    """
    guest = start(KERNEL)
    machine = guest.subject.machine
    machine.shell.put(data_dir("guests") / "hyperv/record.sh", "/root/record.sh", guest.subject.deadline)
    guest.sh("modprobe hv_netvsc || :")
    card = guest.sh(CARD)
    guest.sh(f"ip link set {card} up")
    trace = tmp_path / "vmbus.trace"
    trace.write_text(guest.sh(f"sh /root/record.sh {card}"))
    there = read_trace(trace)
    assert {one.kind.name for one in there.said} >= {"CLOSE_CHANNEL", "GPADL_HEADER", "OPEN_CHANNEL"}
    assert differences(there, machine.hyperv.recorder.conversation) == ()
    machine.close()

    words = ["calibrate", str(trace), "--kernel", KERNEL, "--json"]
    done = CliRunner().invoke(hyperv, words)
    assert done.exit_code == ExitStatus.PASSED, done.output
    assert json.loads(done.stdout)["differences"] == []

    changed = tmp_path / "changed.trace"
    changed.write_text(trace.read_text().replace("offset 0x7d,", "offset 0x80,"))
    found = differences(read_trace(changed), machine.hyperv.recorder.conversation)
    assert [asdict(one) for one in found] == [
        {
            "driver": "network", "what": "page of 4 KiB at which the host's ring begins",
            "there": "128", "here": "125",
        }
    ]  # fmt: skip
