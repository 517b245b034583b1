"""Tests of scripts/bench hyperv without a guest: what is counted, and what a row says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks import hyperv
from benchmarks.hyperv import Meter, timed

from harness.hyperv.wire.numbers import VmbusVersion
from harness.hyperv.wirelog import WireLog


def test_packets_are_counted_by_device() -> None:
    """Both ways, those of sub-channels with their device's; the first connection is the one that counts."""
    log = WireLog()
    meter = Meter(log)
    channels: list[Any] = [SimpleNamespace(name=name) for name in ("netvsc", "netvsc.1", "storvsc")]
    packet: Any = None
    for channel in channels:
        log.tell(lambda observer, channel=channel: observer.packet(channel, packet))  # type: ignore[misc]
    log.tell(lambda observer: observer.sent(channels[0], b""))
    log.tell(lambda observer: observer.connected(VmbusVersion.V5_3))
    first = meter.connected_s
    log.tell(lambda observer: observer.connected(VmbusVersion.V5_3))
    assert meter.packets == {"netvsc": 3, "storvsc": 1}
    assert first is not None
    assert meter.connected_s == first


def test_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are by this machine's clock, and by what the host's thread ran."""
    clock, ran, counts = iter([10.0, 12.0]), iter([(1.0, 0.5), (1.5, 1.5)]), iter([100, 300])
    monkeypatch.setattr(hyperv, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(hyperv, "thread_s", lambda _name: next(ran))
    row = timed("k", "read", 8_000_000, lambda: next(counts), lambda: None)
    assert row == {
        "kernel": "k", "kind": "read", "mb_per_s": 4.0, "requests_per_s": 100, "host_cpu": 0.25,
        "host_waited": 0.5, "us_per_request": 2500, "host_mb_per_s": 16.0,
    }  # fmt: skip
