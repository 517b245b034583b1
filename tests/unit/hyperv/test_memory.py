"""Tests of harness.hyperv.memory: nothing outside RAM is read or written, whatever a guest names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hyperv.memory import GuestMemory
from harness.hyperv.violation import Rule, Violated

BASE = 0x4000_0000
SIZE = 0x4000


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    """Four pages."""
    made = GuestMemory(bytearray(SIZE), BASE)
    yield made
    made.close()


def test_words_are_little_endian_and_whole(memory: GuestMemory) -> None:
    """A word that is stored reads as its bytes, and the other way round."""
    memory.store32(BASE + 8, 0x1122_3344)
    assert memory.read(BASE + 8, 4) == bytes.fromhex("44332211")
    memory.write(BASE + SIZE - 4, bytes.fromhex("01000080"))
    assert memory.load32(BASE + SIZE - 4) == 0x8000_0001


@settings(deadline=None)
@given(
    pa=st.one_of(st.integers(0, 1 << 64), st.integers(BASE - 8, BASE + SIZE + 8)),
    size=st.integers(-1, 1 << 40),
)
def test_what_is_not_ram_is_refused(pa: int, size: int) -> None:
    """A read is answered in full or refused, and a refused one is a violation of memory."""
    memory = GuestMemory(bytearray(SIZE), BASE)
    if size >= 0 and pa >= BASE and pa + size <= BASE + SIZE:
        assert len(memory.read(pa, size)) == size
        return
    with pytest.raises(Violated) as caught:
        memory.read(pa, size)
    assert caught.value.rule is Rule.MEMORY


@pytest.mark.parametrize("pa", [BASE - 4, BASE + SIZE, BASE + SIZE - 2, BASE + 2, 0, 1 << 63])
def test_words_outside_or_askew_are_refused(memory: GuestMemory, pa: int) -> None:
    """Words are aligned, and within RAM."""
    with pytest.raises(Violated):
        memory.load32(pa)
    with pytest.raises(Violated):
        memory.store32(pa, 1)


def test_a_partial_last_page_is_no_page(memory: GuestMemory) -> None:
    """RAM ends with its last whole page."""
    odd = GuestMemory(bytearray(SIZE + 100), BASE)
    assert odd.size_bytes == SIZE
    assert not odd.has_page((BASE + SIZE) >> 12)
    assert odd.has_page((BASE + SIZE - 1) >> 12)
    with pytest.raises(Violated):
        odd.read(BASE + SIZE, 1)
    odd.close()
