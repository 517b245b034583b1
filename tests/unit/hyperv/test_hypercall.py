"""Tests of harness.hyperv.hypercall and synic: the four calls, the registers, and what is none of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.synic import MAX_QUEUED

Sim = Any
M64 = (1 << 64) - 1
SUCCESS_1 = 1 << 32


def test_features_are_those_that_linux_needs(sim: Sim) -> None:
    """hv_get_vpreg_128(HV_REGISTER_FEATURES): counter, SynIC, hypercalls, VP index; post, signal; crash."""
    x = sim.guest().get_register(0x200)
    assert x[0] == SUCCESS_1
    assert x[6] & 0x66 == 0x66
    assert x[6] >> 32 & 0x30 == 0x30
    assert x[7] & 1 << 8


def test_each_processor_has_its_number_and_registers(sim: Sim) -> None:
    """VP_INDEX is the processor's own, and a register that one sets the others do not see."""
    guest = sim.guest(vps=3)
    guest.enable_synic()
    assert [guest.get_register(0x90003, vp)[6] for vp in range(3)] == [0, 1, 2]
    assert [guest.get_register(0xA0013, vp)[6] for vp in range(3)] == [page | 1 for page in guest.simp]


def test_the_reference_counter_grows(sim: Sim) -> None:
    """TIME_REF_COUNT never goes back."""
    guest = sim.guest()
    first, second = (guest.get_register(0x90004)[6] for _ in range(2))
    assert 0 <= first <= second


def test_a_message_page_outside_ram_is_refused(sim: Sim) -> None:
    """SIMP and SIEFP must be RAM: the call fails, and nothing is ever written there."""
    guest = sim.guest()
    for register in (0xA0012, 0xA0013):
        assert guest.set_register(register, 0x1000 | 1) != SUCCESS_1
    assert len(guest.violations) == 2
    assert "not RAM" in guest.violations[0]


@pytest.mark.parametrize(
    ("registers", "status"),
    [
        ((0x999,), 2),
        ((0x50, M64, 0xFFFF_FFFE, 0x200), 3),  # not fast
        ((0x50 | 1 << 16, M64, 0xFFFF_FFFE, 0x200), 5),  # no repetition
        ((0x50 | 1 << 16 | 2 << 32, M64, 0xFFFF_FFFE, 0x200), 5),
        ((0x50 | 1 << 16 | 1 << 32, M64, 1, 0x200), 5),  # another processor's
        ((0x50 | 1 << 16 | 1 << 32, M64, 0xFFFF_FFFE, 0xDEAD), 5),
        ((0x5C | 1 << 16, 0x4000_0000), 3),
        ((0x5C, 0x4000_0001), 4),
        ((0x5C, 0x4000_0F80), 5),  # crosses a page
        ((0x5C, 0), 5),
        ((0x5D | 1 << 16, 0x1234), 18),
        ((0x5D, 0x2008), 3),
    ],
)
def test_what_is_no_call_is_refused(sim: Sim, registers: tuple[int, ...], status: int) -> None:
    """Each wrong call has its status (TLFS appendix B)."""
    assert sim.guest().call(0, *registers)[0] == status


def test_messages_to_nobody_are_refused(sim: Sim) -> None:
    """A message to an unknown connection is refused with the status that makes Linux try another."""
    guest = sim.guest()
    assert guest.post(struct.pack("<II", 3, 0), connection=9) == 18


def test_a_crash_is_kept(sim: Sim) -> None:
    """hv_kmsg_dump(): parameters and text, of the first report that has one."""
    guest = sim.guest()
    page = guest.alloc(4096)
    guest.set_register(0x215, 1 << 63)
    assert guest.calls.crash.text == ""
    guest.memory.write(page, b"Kernel panic - not syncing")
    for index, value in enumerate((7, 8, 9, page, 26)):
        guest.set_register(0x210 + index, value)
    guest.set_register(0x215, 3 << 62)
    guest.memory.write(page, b"something else in the page")
    guest.set_register(0x215, 3 << 62)
    assert guest.calls.crash.text == "Kernel panic - not syncing"
    assert guest.calls.crash.parameters == (7, 8, 9)
    assert guest.violations == []


def test_a_crash_of_nonsense_is_a_finding(sim: Sim) -> None:
    """A text beyond a page or RAM is said, and read no further than may be."""
    guest = sim.guest()
    guest.set_register(0x213, guest.alloc(8192))
    guest.set_register(0x214, 1 << 40)
    guest.set_register(0x215, 3 << 62)
    assert len(guest.calls.crash.text) == 4096
    assert len(guest.violations) == 1


def test_a_guest_that_takes_no_messages_costs_little(sim: Sim) -> None:
    """Messages for a slot that is never emptied are queued up to a bound, and their loss is said."""
    guest = sim.guest()
    guest.enable_synic()
    for _ in range(MAX_QUEUED + 100):
        guest.post(struct.pack("<IIIIQQQ", 14, 0, 6 << 16, 0, 2, 0, 0))
        guest.bus._synic._queues[0].extend([b"x"] * 50)
        if guest.synic.waiting(0) >= MAX_QUEUED:
            break
    assert guest.synic.waiting(0) <= MAX_QUEUED + 50


def test_a_masked_sint_gets_nothing(sim: Sim) -> None:
    """While SINT2 is masked no message and no event is delivered; the messages come when it is not."""
    guest = sim.guest()
    guest.enable_synic()
    guest.set_register(0xA0002, 18 | 1 << 16)
    guest.post(struct.pack("<IIIIQQQ", 14, 0, 6 << 16, 0, 2, 0, 0))
    guest.synic.signal(0, 8)
    assert guest.interrupts == []
    assert guest.take_messages() == []
    guest.set_register(0xA0002, 18)
    guest.set_register(0xA0014, 0)
    assert len(guest.take_messages()) == 1


REGISTERS = st.one_of(
    st.integers(0, M64),
    st.sampled_from([0x50, 0x51, 0x5C, 0x5D]).flatmap(
        lambda code: st.sampled_from([code, code | 1 << 16, code | 1 << 16 | 1 << 32])
    ),
    st.integers(0x4000_0000, 0x4080_0000),
    st.sampled_from([0x200, 0x215, 0x213, 0x214, 0x90003, 0xA0002, 0xA0012, 0xA0013, 0xA0014]),
    st.sampled_from([0xFFFF_FFFE, 0x2008]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(calls=st.lists(st.lists(REGISTERS, min_size=1, max_size=8), max_size=40), body=st.binary(max_size=240))
def test_any_calls_are_answered(sims: Any, calls: list[list[int]], body: bytes) -> None:
    """Nothing in a guest's registers makes the host raise, and every call gets a status."""
    with sims() as sim:
        guest = sim.guest(sim.Recorder(), size=1 << 20)
        guest.connect()
        for registers in calls:
            assert 0 <= guest.call(0, *registers)[0] <= M64
        for connection in (1, 4):
            guest.post(body, connection)
        guest.serve()
