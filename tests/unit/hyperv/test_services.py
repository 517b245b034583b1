"""Tests of harness.hyperv.devices: the integration services, with a guest that answers as hv_util.c does."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from harness.hyperv.devices.heartbeat import Heartbeat
from harness.hyperv.devices.integration import MAX_UNANSWERED, IntegrationService
from harness.hyperv.devices.kvp import Kvp
from harness.hyperv.devices.shutdown import Shutdown, ShutdownKind
from harness.hyperv.devices.timesync import TimeSync
from harness.hyperv.devices.vss import Vss
from harness.hyperv.violation import Rule
from harness.hyperv.wire.integration import VssOperation

Sim = Any
OK, FAIL, NO_MORE = 0, 0x8000_4005, 0x8007_0103


def _service(sim: Sim, device: IntegrationService, version: tuple[int, int]) -> tuple[Any, Any]:
    """A guest whose driver has agreed on framework 3.0 and that version of the service."""
    guest, opened = sim.opened(device)
    (asked,) = guest.receive(opened)
    guest.send(opened, _negotiated(sim, asked, (3, 0), version))
    assert device.version == version
    assert device.is_ready
    return guest, opened


def _negotiated(sim: Sim, asked: bytes, framework: tuple[int, int], version: tuple[int, int]) -> bytes:
    """vmbus_prep_negotiate_resp(): one version each, and 16 bytes of body."""
    request_id = struct.unpack_from("<Q", asked, 8)[0]
    data = bytearray(asked[16:])
    struct.pack_into("<H", data, 8 + 10, 16)
    data[8 + 17] = 1 | 4
    struct.pack_into("<HHIHHHH", data, 28, 1, 1, 0, *framework, *version)
    return bytes(sim.packet(bytes(data), request_id=request_id))


def _answer(sim: Sim, asked: bytes, *, status: int = OK, body: bytes | None = None, flags: int = 5) -> bytes:
    """The guest's answer: the same message back, changed where the driver changes it."""
    request_id = struct.unpack_from("<Q", asked, 8)[0]
    data = bytearray(asked[16:])
    struct.pack_into("<I", data, 8 + 12, status)
    data[8 + 17] = flags
    if body is not None:
        data[28 : 28 + len(body)] = body
    return bytes(sim.packet(bytes(data), request_id=request_id))


def test_versions_are_offered_as_the_driver_reads_them(sim: Sim) -> None:
    """icmsg_negotiate: both counts, then major and minor of each, frameworks first."""
    guest, opened = sim.opened(Shutdown())
    (asked,) = guest.receive(opened)
    pipe_flags, pipe_size = struct.unpack_from("<II", asked, 16)
    kind, size = struct.unpack_from("<H4xH", asked, 28)
    assert (pipe_flags, kind, pipe_size) == (1, 0, 20 + size)
    assert struct.unpack_from("<HH", asked, 44) == (2, 4)
    assert struct.unpack_from("<12H", asked, 52) == (3, 0, 1, 0, 3, 2, 3, 1, 3, 0, 1, 0)
    assert asked[41] == 1 | 2


def test_heartbeats(sim: Sim) -> None:
    """A beat a second, answered with the number after it; the next one goes on from there."""
    device = Heartbeat()
    guest, opened = _service(sim, device, (3, 0))
    for second in range(3):
        guest.bus.poll(100.0 + second)
        guest.bus.poll(100.2 + second)
        (asked,) = guest.receive(opened)
        (number,) = struct.unpack_from("<Q", asked, 44)
        guest.send(opened, _answer(sim, asked, body=struct.pack("<Q", number + 1)))
    assert device.beats == 3
    assert number == 5
    assert guest.violations == []


def test_a_wrong_beat_is_a_finding(sim: Sim) -> None:
    """A number that is not the one after ours is said, and not counted."""
    device = Heartbeat()
    guest, opened = _service(sim, device, (3, 0))
    guest.bus.poll(100.0)
    (asked,) = guest.receive(opened)
    guest.send(opened, _answer(sim, asked))
    assert device.beats == 0
    assert guest.log.counts == {Rule.DEVICE: 1}


def test_time_is_set_once_and_sampled_after(sim: Sim) -> None:
    """First SYNC, then samples; host time counts from 1601, the counter is the partition's."""
    device = TimeSync(lambda: 1234)
    guest, opened = _service(sim, device, (4, 0))
    flags = []
    for second in (100.0, 106.0, 112.0):
        guest.bus.poll(second)
        (asked,) = guest.receive(opened)
        host_time, reference, flag = struct.unpack_from("<QQB", asked, 44)
        flags.append(flag)
        assert reference == 1234
        assert host_time > 133_000_000_000_000_000  # 2022
        guest.send(opened, _answer(sim, asked))
    assert flags == [1, 2, 2]
    assert device.answers == 3


def test_shutdown_is_asked_and_answered(sim: Sim) -> None:
    """Not before versions are agreed on; the message has its full length, and the answer is kept."""
    device = Shutdown()
    assert not device.ask()
    guest, opened = _service(sim, device, (3, 2))
    assert device.ask(ShutdownKind.RESTART)
    (asked,) = guest.receive(opened)
    assert len(asked) == 16 + 28 + 12 + 2048
    assert struct.unpack_from("<III", asked, 44) == (0, 0, 2)
    guest.send(opened, _answer(sim, asked, status=FAIL))
    assert device.statuses == [FAIL]
    assert guest.violations == []


def test_key_value_pairs(sim: Sim) -> None:
    """Items are asked for by index until the guest says that there are no more."""
    device = Kvp()
    guest, opened = _service(sim, device, (4, 0))
    assert device.enumerate_pool()
    items = [("OSName", "Debian"), ("OSVersion", "13")]
    for index in range(3):
        (asked,) = guest.receive(opened)
        operation, pool, asked_index = struct.unpack_from("<BBxxI", asked, 44)
        assert (operation, pool, asked_index) == (3, 2, index)
        if index == len(items):
            guest.send(opened, _answer(sim, asked, status=NO_MORE))
            break
        key, value = (text.encode("utf-16-le") + b"\0\0" for text in items[index])
        body = struct.pack("<BBxxIIII", 3, 2, index, 1, len(key), len(value)) + key.ljust(512, b"\0") + value
        guest.send(opened, _answer(sim, asked, body=body))
    assert device.done
    assert device.items == dict(items)
    assert guest.violations == []


def test_a_key_longer_than_its_field_is_a_finding(sim: Sim) -> None:
    """Sizes that the guest claims are held against the fields."""
    device = Kvp()
    guest, opened = _service(sim, device, (4, 0))
    device.enumerate_pool()
    (asked,) = guest.receive(opened)
    guest.send(opened, _answer(sim, asked, body=struct.pack("<BBxxIIII", 3, 2, 0, 1, 514, 4)))
    assert guest.log.counts == {Rule.DEVICE: 1}


def test_snapshots(sim: Sim) -> None:
    """An operation and its answer."""
    device = Vss()
    guest, opened = _service(sim, device, (5, 0))
    assert device.ask(VssOperation.FREEZE)
    (asked,) = guest.receive(opened)
    assert asked[44] == 5
    guest.send(opened, _answer(sim, asked, status=FAIL))
    assert device.answers == [(5, FAIL)]


@pytest.mark.parametrize(
    "damage", ["version", "framework", "counts", "length", "id", "flags", "kind", "short"]
)
def test_answers_that_are_none(sim: Sim, damage: str) -> None:
    """An answer that was not asked for, or does not fit, is a finding and changes nothing."""
    device = Heartbeat()
    guest, opened = sim.opened(device)
    (asked,) = guest.receive(opened)
    framework, version = (
        ((9, 9) if damage == "framework" else (3, 0)),
        ((9, 9) if damage == "version" else (3, 0)),
    )
    raw = bytearray(_negotiated(sim, asked, framework, version))
    match damage:
        case "counts":
            struct.pack_into("<HH", raw, 44, 0, 0)
        case "length":
            struct.pack_into("<H", raw, 34, 9000)
        case "id":
            struct.pack_into("<Q", raw, 8, 999)
        case "flags":
            raw[41] = 0
        case "kind":
            struct.pack_into("<H", raw, 28, 4)
        case "short":
            raw = bytearray(sim.packet(b"8 bytes.", request_id=1))
    guest.send(opened, bytes(raw))
    assert not device.is_ready
    assert set(guest.log.counts) <= {Rule.DEVICE, Rule.MESSAGE}
    assert sum(guest.log.counts.values()) == 1


def test_a_guest_that_does_not_answer_is_not_asked_forever(sim: Sim) -> None:
    """Requests that wait are bounded."""
    device = Vss()
    guest, opened = _service(sim, device, (5, 0))
    asked = [device.ask(VssOperation.THAW) for _ in range(MAX_UNANSWERED + 5)]
    assert asked.count(True) == MAX_UNANSWERED
    assert len(guest.receive(opened)) == MAX_UNANSWERED
