"""Tests of harness.check.user_held: what the program that holds mappings prints."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.check.user_held import Backing, HeldMapping, parse_held

SAID = b"""\
map private 0xffffbee8b000 16384 rw- page
map guard 0xffffbee6d000 4096 --- hidden
none high addresses of user space end below the default window's end
held 152
"""


def test_mappings_and_what_is_absent() -> None:
    """Each line is a mapping or a reason, and the last one says whose they are."""
    held = parse_held(SAID)
    assert held is not None
    assert held.pid == 152
    assert held.mappings[0] == HeldMapping(
        name="private",
        start_va=0xFFFF_BEE8_B000,
        size_bytes=16384,
        protection="rw-",
        backing=Backing.PAGE,
    )
    assert held.named("guard") is held.mappings[1]
    assert held.named("high") is None
    assert held.absent == (("high", "addresses of user space end below the default window's end"),)


def test_a_program_that_did_not_finish() -> None:
    """Without its last line there is no answer."""
    assert parse_held(SAID.replace(b"held", b"help")) is None


def test_nonsense_is_passed_over() -> None:
    """An unknown backing, and a mapping beyond 64 bits, are no mappings."""
    said = b"map a 0x1000 10 rw- lard\nmap b 0xffffffffffffffff 9999999999 rw- page\nheld 1\n"
    held = parse_held(said)
    assert held is not None
    assert held.mappings == ()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_total(before: bytes, after: bytes) -> None:
    """Whatever was printed, there is an answer."""
    held = parse_held(before + b"\n" + SAID + after)
    assert held is None or held.named("private") is not None
