"""Any bytes in a packet of the guest's: nothing raises, everything that waits is answered, little is kept."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.net.host import IpHost
from harness.hyperv.net.streams import Echo, Sink
from harness.hyperv.rndis.offload import Offload
from harness.hyperv.violation import Rule

WORDS = st.one_of(
    st.sampled_from([0, 1, 8, 12, 16, 20, 36, 44, 60, 100, 1514, 0xFFFF, 0xFFFFFFFF, 1 << 31]),
    st.integers(0, 2**32 - 1),
)
TYPES = st.one_of(st.sampled_from([1, 2, 100, 101, 102, 103, 104, 106, 107, 125, 129, 133]), WORDS)


def broken(driver: Any) -> bool:
    """True when the device itself found something; the wire checker knows what Linux sends."""
    return any(each.rule is not Rule.PAGE_SIZE for each in driver.guest.log.violations)


def numbers(words: list[int]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


@given(
    kind=TYPES, words=st.lists(WORDS, max_size=12), started=st.booleans(), flags=st.integers(0, 1),
    ranges=st.none() | st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 4095)), max_size=3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_nvsp_message(
    sims: Any, netsims: Any, kind: int, words: list[int], started: bool, flags: int,
    ranges: list[tuple[int, int]] | None,
) -> None:  # fmt: skip
    """A message of any type with any body is answered if it wants an answer; the driver then still works."""
    with sims() as sim:
        driver, _, _ = netsims(sim).driver(start=started, station=IpHost({7: Echo, 9: Sink}))
        pages = getattr(driver, "pages_pa", 0x4010_0000)
        given_ranges = None if ranges is None else [driver._range(pages + at, size) for size, at in ranges]
        answer = driver.post(numbers([kind, *words]), ranges=given_ranges or None, flags=flags)
        assert bool(answer) == bool(flags) or (kind in (100, 125, 103, 106, 129) and not answer)
        driver.guest.bus.poll(1.0)
        if started and kind not in (103, 106):
            driver.into.clear()
            assert driver.query(0x01010101) is not None


@given(
    kind=st.one_of(st.integers(0, 9), WORDS), words=st.lists(WORDS, max_size=16), tail=st.binary(max_size=80),
    honest=st.booleans(), control=st.booleans(), in_section=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_rndis_message(
    sims: Any, netsims: Any, kind: int, words: list[int], tail: bytes, honest: bool, control: bool,
    in_section: bool,
) -> None:  # fmt: skip
    """An RNDIS message of any type with any numbers is completed, and what it breaks is a finding."""
    with sims() as sim:
        driver, device, _ = netsims(sim).driver(
            station=IpHost({7: Echo, 9: Sink}), offload=Offload(large_send_bytes=60000)
        )
        body = numbers(words) + tail
        length = 8 + len(body) if honest else (words[0] if words else 0)
        status = driver.carry(
            struct.pack("<II", kind, length) + body, control=control, section=3 if in_section else None
        )
        assert status in (1, 5)
        assert (status == 5) is broken(driver)
        device.tick(1.0)
        driver.collect()
        driver.into.clear()
        assert driver.rndis(2, struct.pack("<IIII", 1, 1, 0, 0x4000), control=True) == 1


@given(
    information=st.lists(st.tuples(st.sampled_from([0, 2, 6, 8, 9, 1 << 31]), WORDS), max_size=3),
    frame=st.binary(min_size=0, max_size=120), ip=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_frame(
    sims: Any, netsims: Any, information: list[tuple[int, int]], frame: bytes, ip: bool
) -> None:
    """Any frame with any information about it goes out, or is a finding."""
    with sims() as sim:
        driver, _, mirror = netsims(sim).driver(offload=Offload(large_send_bytes=60000))
        if ip:
            frame = bytes(12) + b"\x08\x00\x45" + frame
        status = driver.carry(driver.message(frame, information), section=0)
        assert (status == 1) is (len(mirror.got) == 1)
        assert (status == 5) is broken(driver)
