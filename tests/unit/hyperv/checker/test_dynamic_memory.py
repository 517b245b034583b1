"""Tests of harness.hyperv.checker.dynamic_memory: each rule broken by a driver that makes the mistake."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

Watch = Callable[..., Any]
PAGES = pytest.mark.parametrize("page", [4096, 16384, 65536])
FIRST = 0x4000_0000 >> 12


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("<HHI", kind, 8 + len(body), 1) + body


def _status(available: int, committed: int) -> bytes:
    return _message(5, struct.pack("<QQQQII", available, committed, 0, 0, 0, 0))


def _response(*ranges: tuple[int, int]) -> bytes:
    words = b"".join(struct.pack("<Q", first | count << 40) for first, count in ranges)
    return _message(7, struct.pack("<II", 0, len(ranges) << 1) + words)


def _can(balloon: bool) -> bytes:
    return _message(3, struct.pack("<QQQ", int(balloon), 0, 0))


@PAGES
def test_as_linux_does_it(watch: Watch, page: int) -> None:
    """Nothing is broken, and every rule but those of ballooning compares something at every page size."""
    watched = watch("hv_balloon", page)
    watched.open()
    each = page // 4096
    for message in (
        _can(page == 4096),
        _status(100 * each, 7 * each),
        _response((FIRST, 512), (FIRST + 512, 1)),
    ):
        watched.send(message)
    assert watched.broken == set()
    for name in ("ring", "capability", "status", "ram", "distinct"):
        assert watched.compared(f"balloon.{name}"), name


@pytest.mark.parametrize(
    ("page", "message", "rule"),
    [
        (4096, _can(False), "capability"),
        (16384, _can(True), "capability"),
        (65536, _can(True), "capability"),
        (16384, _status(100 * 4 + 1, 0), "status"),  # counted in the guest's pages
        (65536, _status(16, 17), "status"),
        (65536, _status(16 * 16 * (64 << 20) // 65536, 0), "status"),  # multiplied twice
        (4096, _response((FIRST, 2), (FIRST + 1, 1)), "distinct"),
        (4096, _response((FIRST - 1, 2)), "ram"),
        (4096, _response((FIRST, 0)), "ram"),
    ],
)
def test_mistakes(watch: Watch, page: int, message: bytes, rule: str) -> None:
    """Each is found by its rule and by no other."""
    watched = watch("hv_balloon", page)
    watched.open()
    watched.send(message)
    assert watched.broken == {f"balloon.{rule}"}


def test_a_ring_of_guest_pages(watch: Watch) -> None:
    """A payload that is counted in the guest's pages is found at 64K."""
    watched = watch("hv_balloon", 65536)
    watched.open_badly(payload=16 << 14)
    assert "balloon.ring" in watched.broken


@pytest.mark.parametrize(
    "message", [b"", _message(5, b""), _message(7, struct.pack("<II", 0, 9 << 1)), _message(3, b"")]
)
def test_what_is_no_message(watch: Watch, message: bytes) -> None:
    """It is the device's to judge."""
    watched = watch("hv_balloon", 16384)
    watched.open()
    watched.send(message)
    assert watched.broken == set()
