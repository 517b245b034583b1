"""The kernel half of a snapshot with what the guest says of it: what every rule is asked about.

May import `harness.bulk`, `harness.linux`, `harness.vmsa` and `harness.verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.bulk import Leaves, Reads, Rights, permissions, walk_all
from harness.bulk.columns import Bools, Words
from harness.bulk.leaves import addresses
from harness.linux.iomem import Iomem
from harness.linux.layout import KernelLayout
from harness.linux.ptdump import Dump
from harness.linux.vmallocinfo import VmallocArea
from harness.linux.vmcoreinfo import VmcoreInfo
from harness.verdict import Finding
from harness.vmsa import Memory, MemoryType, Regime, memory_type, walk
from harness.vmsa.field import ones
from harness.vmsa.walk import Choices

__all__ = ["GuestView", "KernelHalf", "Kimage", "inside", "overlapping"]

SHOWN = 3
_NUMBER = re.compile("(0x)?[0-9a-f]{1,16}")
_FEWEST_VA_BITS = 36  # CONFIG_ARM64_VA_BITS_36
_PLAIN = Choices(honour_contiguous=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestView:
    """What a guest said of itself, read before it was stopped and once more after; nothing is required."""

    release: str = ""
    """uname -r."""
    cmdline: str = ""
    config: Mapping[str, str] | None = None
    """Kconfig options without CONFIG_."""
    iomem: Iomem | None = None
    note: Mapping[str, str] = field(default_factory=dict)
    """The lines of VMCOREINFO by name."""
    vmcoreinfo: VmcoreInfo | None = None
    dumps: tuple[Dump, Dump] | None = None
    """kernel_page_tables, before and after."""
    areas: tuple[tuple[VmallocArea, ...], tuple[VmallocArea, ...]] | None = None
    """/proc/vmallocinfo, before and after."""
    kfence_pool: range | None = None
    """Addresses of KFENCE's pool, whose pages come and go; empty where KFENCE has none."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why something is not here, by the oracle's name."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """What every kernel, or this one, should have said and did not, by the oracle's name: a finding each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kimage:
    """The kernel image: where it is, and how its virtual addresses follow from that."""

    code_pa: range
    """_text to __init_begin: text and rodata."""
    data_pa: range
    """_sdata to _end."""
    voffset: int
    """Virtual minus physical address, modulo 2^64."""

    def va(self, pa: range) -> range:
        """The addresses of a part of the image."""
        start = pa.start + self.voffset & ones(64)
        return range(start, start + len(pa))

    @property
    def whole_va(self) -> range:
        """_text to _end, what was freed after init in between."""
        return range(self.va(self.code_pa).start, self.va(self.data_pa).stop)


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelHalf:
    """All leaves of the kernel's tables at one moment, and the guest's view."""

    regime: Regime
    memory: Memory
    leaves: Leaves
    """Every leaf; see `of`."""
    ram: tuple[range, ...]
    """Physical addresses that are RAM to the machine."""
    devices: tuple[range, ...] = ()
    """Physical addresses that are devices to the machine; empty where it is not known."""
    view: GuestView = field(default_factory=GuestView)

    @classmethod
    def of(
        cls,
        regime: Regime,
        memory: Memory,
        ram: tuple[range, ...],
        *,
        devices: tuple[range, ...] = (),
        view: GuestView | None = None,
    ) -> KernelHalf:
        """Read all tables of a regime, while nothing changes them; `memory` is kept for single walks."""
        return cls(
            regime=regime,
            memory=memory,
            leaves=walk_all(regime, Reads(memory)),
            ram=ram,
            devices=devices,
            view=view or GuestView(),
        )

    @cached_property
    def rights(self) -> Rights:
        """Who may do what to each leaf."""
        return permissions(self.regime, self.leaves)

    @cached_property
    def ends_va(self) -> Words:
        """The first address after each leaf; 0 at the end of the address space."""
        return self.leaves.va + self.leaves.size_bytes

    @cached_property
    def pa(self) -> Words:
        """The output address that each leaf has written in it, whatever a contiguous group makes of it.

        Rules ask for this one: hardware may or may not take a group as one.
        """
        written = self.leaves.pa.copy()
        for size_log2 in np.unique(self.leaves.size_log2).tolist():
            which = self.leaves.size_log2 == size_log2
            words = self.leaves.word[which]
            written[which] = addresses(self.regime.address_format, words, size_log2)
        return written

    @cached_property
    def memory_types(self) -> tuple[NDArray[np.intp], tuple[MemoryType, ...]]:
        """For each leaf the number of its memory type, and the types by number."""
        index = (self.leaves.word >> np.uint64(2)) & np.uint64(0b111)
        if self.regime.aie:
            index |= (self.leaves.word >> np.uint64(59) & np.uint64(1)) << np.uint64(3)
        _, example, which = np.unique(index, return_index=True, return_inverse=True)
        return which, tuple(memory_type(self.regime, self.leaves[int(one)].leaf) for one in example)

    @cached_property
    def layout(self) -> KernelLayout | None:
        """Where this kernel keeps things; None where it does not say what it was built for."""
        built_for = self.view.vmcoreinfo.va_bits if self.view.vmcoreinfo is not None else None
        if built_for is None or not _FEWEST_VA_BITS <= self.regime.iasize_bits <= built_for:
            return None
        return KernelLayout(
            page_log2=self.regime.geometry.granule_log2,
            va_bits=built_for,
            va_bits_actual=self.regime.iasize_bits,
        )

    @cached_property
    def memstart_pa(self) -> int | None:
        """PHYS_OFFSET: the physical address of PAGE_OFFSET, modulo 2^64."""
        text = self.view.note.get("NUMBER(PHYS_OFFSET)", "")
        return int(text, 16) if _NUMBER.fullmatch(text) else None

    @cached_property
    def kimage(self) -> Kimage | None:
        """The kernel image, where /proc/iomem and VMCOREINFO tell of it."""
        iomem, info = self.view.iomem, self.view.vmcoreinfo
        if iomem is None or info is None or iomem.kernel_code is None or iomem.kernel_data is None:
            return None
        return Kimage(code_pa=iomem.kernel_code, data_pa=iomem.kernel_data, voffset=info.kimage_voffset)

    def having(self, accepted: Iterable[bool]) -> Bools:
        """Which leaves have a memory type that is accepted, given by number."""
        which, _ = self.memory_types
        chosen: Bools = np.array(list(accepted), np.bool_)[which]
        return chosen

    def broken(self, rule: str, wanted: str, which: Bools | NDArray[np.intp]) -> Iterable[Finding]:
        """One finding for the leaves that break a rule: how many, and the first of them in full."""
        indices = np.flatnonzero(which) if which.dtype == np.bool_ else which
        if not len(indices):
            return ()
        places = ", ".join(self.place(int(index)) for index in indices[:SHOWN])
        return (Finding(what=rule, wanted=wanted, seen=f"{len(indices)}: {places}"),)

    def place(self, index: int) -> str:
        """A leaf as findings name it: address, output address, descriptor and where that is."""
        va = int(self.leaves.va[index])
        text = f"{va:#x} -> {int(self.pa[index]):#x} ({int(self.leaves.word[index]):#x}"
        return text + f"{self.descriptor_at(va)})"

    def descriptor_at(self, va: int) -> str:
        """Where the descriptor is that ends the walk of an address, in words; nothing where there is none."""
        outcome = walk(self.regime, self.memory, va, choices=_PLAIN)
        read = [step for step in outcome.chain if step.word is not None]
        return f" at {read[-1].pa:#x}, level {read[-1].level}" if read else ""


def inside(starts: Words, sizes: Words, ranges: Iterable[range]) -> Bools:
    """Which stretches lie wholly within one of some ranges."""
    found: Bools = np.zeros(len(starts), np.bool_)
    lasts = starts + (sizes - np.uint64(1))
    for one in ranges:
        if len(one):
            found |= (starts >= np.uint64(one.start)) & (lasts <= np.uint64(one.stop - 1))
    return found


def overlapping(starts: Words, sizes: Words, ranges: Iterable[range]) -> Bools:
    """Which stretches have an address in common with one of some ranges."""
    found: Bools = np.zeros(len(starts), np.bool_)
    lasts = starts + (sizes - np.uint64(1))
    for one in ranges:
        if len(one):
            found |= (starts <= np.uint64(one.stop - 1)) & (lasts >= np.uint64(one.start))
    return found
