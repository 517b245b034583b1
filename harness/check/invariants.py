"""Rules that every kernel's half must keep, whatever its layout.

Two walkers that read one corrupted table agree with each other: rules see what they cannot. Each rule is a
function of a KernelHalf that yields findings; `INVARIANTS` lists them. May import what `half` may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from harness.check.half import KernelHalf, inside, overlapping
from harness.linux.iomem import Iomem
from harness.verdict import Finding
from harness.vmsa import AnomalyKind, MemoryType, Right
from harness.vmsa.attributes import CachePolicy, DeviceMemory, NormalMemory
from harness.vmsa.descriptor import Leaf

__all__ = [
    "INVARIANTS",
    "Invariant",
    "cacheable_memory_is_ram",
    "device_memory_is_not_executable",
    "every_leaf_has_uxn",
    "is_write_back",
    "kernel_text_read_only_through_every_alias",
    "no_leaf_is_open_to_el0",
    "no_leaf_is_writable_and_executable",
    "nothing_outside_ram_and_devices",
    "ram_is_not_device_memory",
    "tables_are_sound",
]

Invariant = Callable[[KernelHalf], Iterator[Finding]]

# KASAN maps thousands of shadow entries through one table, and a kernel may share tables at will.
NOT_A_FAULT = frozenset({AnomalyKind.TABLE_SHARED})
ANOMALIES_SHOWN = 5
RODATA_OFF = "rodata=off"


def tables_are_sound(half: KernelHalf) -> Iterator[Finding]:
    """Every table is in memory, every descriptor is one that the architecture knows."""
    if not len(half.leaves):
        yield Finding(what="kernel page tables", wanted="leaves", seen="none")
    odd = [found for found in half.leaves.anomalies if found.kind not in NOT_A_FAULT]
    for found in odd[:ANOMALIES_SHOWN]:
        yield Finding(
            what=f"kernel page tables, level {found.level} at {found.va:#x}",
            wanted="a sound table",
            seen=f"{found.kind.value} ({found.pa:#x}; descriptor {found.word or 0:#x}"
            f"{half.descriptor_at(found.va)})",
        )


def no_leaf_is_writable_and_executable(half: KernelHalf) -> Iterator[Finding]:
    """EL1 may not both write and execute a leaf, tables' bits counted (CONFIG_DEBUG_WX's rule, and more).

    `rodata=off` asks for just that of the kernel's text (map_kernel in v6.12's pi/map_kernel.c).
    """
    which = half.rights.privileged_may(Right.WRITE) & half.rights.privileged_may(Right.EXECUTE)
    code = half.view.iomem.kernel_code if half.view.iomem is not None else None
    if code is not None and RODATA_OFF in half.view.cmdline.split():
        which &= ~overlapping(half.pa, half.leaves.size_bytes, [code])
    yield from half.broken("kernel leaves: writable and executable", "none", which)


def no_leaf_is_open_to_el0(half: KernelHalf) -> Iterator[Finding]:
    """EL0 may not read, write or execute anything of the kernel half."""
    rights = half.rights
    which = rights.user_may(Right.READ) | rights.user_may(Right.WRITE) | rights.user_may(Right.EXECUTE)
    yield from half.broken("kernel leaves: open to EL0", "none", which)


def every_leaf_has_uxn(half: KernelHalf) -> Iterator[Finding]:
    """Each leaf denies execution to EL0 itself, whatever tables add: the kernel's own rule.

    Source: Linux v6.12 arch/arm64/mm/ptdump.c, note_prot_uxn.
    """
    if half.regime.pie:  # UXN is a bit of an index there, and rights are all there is
        return
    lacks = (half.leaves.word & np.uint64(Leaf.uxn.mask)) == 0
    yield from half.broken("kernel leaves: without UXN", "none", lacks)


def kernel_text_read_only_through_every_alias(half: KernelHalf) -> Iterator[Finding]:
    """No leaf of the whole half that reaches text or rodata is writable: linear map, image, fixmap, vmap.

    Source: Linux v6.12 arch/arm64/mm/mmu.c, mark_linear_text_alias_ro and mark_rodata_ro; `rodata=off`
    asks for the contrary.
    """
    code = half.view.iomem.kernel_code if half.view.iomem is not None else None
    if code is None or RODATA_OFF in half.view.cmdline.split():
        return
    reaches = overlapping(half.pa, half.leaves.size_bytes, [code])
    which = reaches & half.rights.privileged_may(Right.WRITE)
    yield from half.broken("kernel text and rodata: writable through an alias", "none", which)


def is_write_back(kind: MemoryType) -> bool:
    """True for Normal memory that is write-back inside and outside, tagged or not."""
    return isinstance(kind, NormalMemory) and kind.inner.policy is kind.outer.policy is CachePolicy.WRITE_BACK


def cacheable_memory_is_ram(half: KernelHalf) -> Iterator[Finding]:
    """What is mapped as write-back memory is RAM."""
    _, types = half.memory_types
    is_ram = inside(half.pa, half.leaves.size_bytes, half.ram)
    which = half.having(is_write_back(one) for one in types) & ~is_ram
    yield from half.broken("kernel leaves: Normal memory outside RAM", "none", which)


def ram_is_not_device_memory(half: KernelHalf) -> Iterator[Finding]:
    """No RAM is mapped as Device, nor by a reserved memory type.

    Source: Linux v6.12 arch/arm64/mm/ioremap.c refuses to map RAM.
    """
    _, types = half.memory_types
    reaches = overlapping(half.pa, half.leaves.size_bytes, half.ram)
    which = reaches & half.having(not isinstance(one, NormalMemory) for one in types)
    yield from half.broken("kernel leaves: RAM that is not Normal memory", "none", which)


def nothing_outside_ram_and_devices(half: KernelHalf) -> Iterator[Finding]:
    """Every leaf leads to RAM or to a device that the guest's device tree or the machine knows."""
    if not half.devices:  # /proc/iomem alone lacks devices whose drivers claim nothing, such as the GIC's ITS
        return
    known = (*half.devices, *_devices(half.view.iomem))
    leaves = half.leaves
    outside = np.flatnonzero(~inside(half.pa, leaves.size_bytes, half.ram))
    reaches = overlapping(half.pa[outside], leaves.size_bytes[outside], known)
    half_in_ram = overlapping(half.pa[outside], leaves.size_bytes[outside], half.ram)
    yield from half.broken("kernel leaves: neither RAM nor a device", "none", outside[~reaches | half_in_ram])


def device_memory_is_not_executable(half: KernelHalf) -> Iterator[Finding]:
    """No Device memory is executable (Arm ARM DDI 0487, B2.10.2: speculative fetches could reach it)."""
    _, types = half.memory_types
    which = half.having(isinstance(one, DeviceMemory) for one in types)
    which &= half.rights.privileged_may(Right.EXECUTE)
    yield from half.broken("kernel leaves: executable Device memory", "none", which)


def _devices(iomem: Iomem | None) -> tuple[range, ...]:
    return () if iomem is None else iomem.devices


INVARIANTS: tuple[Invariant, ...] = (
    tables_are_sound,
    no_leaf_is_writable_and_executable,
    no_leaf_is_open_to_el0,
    every_leaf_has_uxn,
    kernel_text_read_only_through_every_alias,
    cacheable_memory_is_ram,
    ram_is_not_device_memory,
    nothing_outside_ram_and_devices,
    device_memory_is_not_executable,
)
"""The rules of this module, as `harness.check.kernel_tables` asks them."""
