"""Guests made of tables that a builder wrote: what the tests of explanations and pictures look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from harness.errors import ChannelError
from harness.snapshot import Snapshot, Vcpu
from harness.vmsa import Regime, Registers, TableBuilder, VaRange, derive, leaf_attributes, registers_for

ARENA_PA = 0x4800_0000
RAM = range(0x4000_0000, 0x5000_0000)
MAIR = 0x4_0044_FFFF  # Linux's
DEVICE = 4

# Addresses of VA_BITS=48 (16K: 47) as a kernel was seen to have them, in PAGETABLES terms: linear map, image.
LINEAR_VA = {12: 0xFFFF_0000_0000_0000, 14: 0xFFFF_8000_0000_0000, 16: 0xFFFF_0000_0000_0000}
PAGE_END = {12: 0xFFFF_8000_0000_0000, 14: 0xFFFF_C000_0000_0000, 16: 0xFFFF_8000_0000_0000}
TXSZ = {12: 16, 14: 17, 16: 16}

TEXT = leaf_attributes(ap=0b10, uxn=True)
RODATA = leaf_attributes(ap=0b10, uxn=True, pxn=True)
DATA = leaf_attributes(uxn=True, pxn=True, dbm=True)
IO = leaf_attributes(attr_indx=DEVICE, uxn=True, pxn=True)


@dataclass
class FakeMemory:
    """RAM that is zero but for what was put there."""

    pieces: Mapping[int, bytes]
    ranges: tuple[range, ...] = field(default=(RAM,))

    def read(self, pa: int, size_bytes: int) -> bytes:
        """See PhysicalMemory."""
        if not any(pa in one and pa + size_bytes <= one.stop for one in self.ranges):
            raise ChannelError(f"there is nothing at {pa:#x}")
        data = bytearray(size_bytes)
        for start, piece in self.pieces.items():
            first, last = max(pa, start), min(pa + size_bytes, start + len(piece))
            if first < last:
                data[first - pa : last - pa] = piece[first - start : last - start]
        return bytes(data)


def names(registers: Registers) -> dict[str, int]:
    """Registers as a snapshot has them."""
    found = {
        f"{name.upper()}_EL1": value
        for name in ("tcr", "ttbr0", "ttbr1", "mair", "sctlr")
        if (value := getattr(registers.el1, name)) is not None
    }
    for number in range(3):
        value = getattr(registers, f"id_aa64mmfr{number}_el1")
        if value is not None:
            found[f"ID_AA64MMFR{number}_EL1"] = value
    return {**found, "cpsr": 0x3C5}


@dataclass
class Guest:
    """Tables of the kernel half that can still be added to."""

    granule_log2: int
    builder: TableBuilder
    tcr: int = 0
    sctlr: int = 0
    pan: int = 3
    ttbr0: int = 0

    @property
    def linear_va(self) -> int:
        """Where the linear map starts."""
        return LINEAR_VA[self.granule_log2]

    @property
    def image_va(self) -> int:
        """Where the kernel image is."""
        return PAGE_END[self.granule_log2] + (4 << 30)

    def snapshot(self, origin: str = "a built guest", **registers: int) -> Snapshot:
        """The guest at this moment."""
        values = names(
            registers_for(
                granule_log2=self.granule_log2, txsz=TXSZ[self.granule_log2], mair=MAIR, tcr=self.tcr,
                sctlr=self.sctlr, pan=self.pan, ttbr=(self.ttbr0, self.builder.ttbr()),
            )
        )  # fmt: skip
        return Snapshot(
            vcpus=(Vcpu(registers={**values, **registers}),),
            memory=FakeMemory({ARENA_PA: self.builder.arena}),
            origin=origin,
        )


MakeGuest = Callable[..., Guest]


def make(granule_log2: int = 12, *, tcr: int = 0, sctlr: int = 0, pan: int = 3) -> Guest:
    """A kernel as Linux would map it: RAM at one offset, an image that holds the first table, a device."""
    regime = derive(
        registers_for(
            granule_log2=granule_log2, txsz=TXSZ[granule_log2], mair=MAIR, tcr=tcr, sctlr=sctlr, pan=pan
        ),
        VaRange.UPPER,
    )
    assert isinstance(regime, Regime)
    guest = Guest(granule_log2, TableBuilder(regime, ARENA_PA), tcr=tcr, sctlr=sctlr, pan=pan)
    page = 1 << granule_log2
    build, image_pa = guest.builder, ARENA_PA - 8 * page
    build.map(guest.linear_va, RAM.start, 64 * page, attributes=DATA, level=3)
    build.map(guest.linear_va + ARENA_PA - RAM.start, ARENA_PA, 8 * page, attributes=RODATA, level=3)
    build.map(guest.image_va, image_pa, 4 * page, attributes=TEXT, level=3)
    build.map(guest.image_va + 4 * page, image_pa + 4 * page, 8 * page, attributes=RODATA, level=3)
    build.map(guest.image_va - (64 << 20), 0x0900_0000, page, attributes=IO, level=3)
    return guest


@pytest.fixture
def make_guest() -> MakeGuest:
    """Makes a Guest: `make_guest(granule_log2, tcr=…, sctlr=…, pan=…)`."""
    return make
