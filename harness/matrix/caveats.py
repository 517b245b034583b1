"""What a reader has to know of the kernels of a run, before comparing or believing anything."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config

__all__ = ["caveats_of"]

# What a page size itself decides (arch/Kconfig, arch/arm64/Kconfig, mm/Kconfig); the rest is another kernel.
_OF_PAGE_SIZE = re.compile(
    r"ARM64_(4K|16K|64K)_PAGES|ARM64_BOOT_TIME_PAGE_SIZE|ARM64_(VA|PA)_BITS.*|(ARM64_)?PAGE_SHIFT"
    r"|(HAVE_)?PAGE_SIZE_\w+|PGTABLE_LEVELS|ARM64_CONT_P[TM][ED]_SHIFT|ARM64_CONT_SHIFT|ARCH_MMAP_RND_.*"
    r"|ARCH_FORCE_MAX_ORDER|ARM64_USE_LPA2|ARM64_LPA2|.*PAGE_SIZE_LESS_THAN_.*|MMAP_RND_.*"
)
_SHOWN = 6


def caveats_of(kernels: Mapping[str, Kernel]) -> tuple[str, ...]:
    """Sentences on combined Images, and on boot-time kernels whose compile-time neighbours are no twins."""
    said = [kernel.caveat for kernel in kernels.values() if kernel.caveat]
    chosen = [kernel for kernel in kernels.values() if kernel.is_boot_time]
    compiled = [kernel for kernel in kernels.values() if not kernel.is_boot_time]
    said += [_not_twins(ours, theirs) for ours in chosen for theirs in compiled]
    return tuple(dict.fromkeys(sentence for sentence in said if sentence))


def _not_twins(ours: Kernel, theirs: Kernel) -> str:
    """Why two kernels are not of one tree and configuration; empty when they are, as far as can be told."""
    ours = ours if theirs.page_size is None else ours.running(theirs.page_size)
    pair = f"{ours.name} and {theirs.name}"
    if ours.release != theirs.release:
        return f"{pair} are not of one tree: {ours.release} and {theirs.release}"
    if ours.config is None or theirs.config is None:
        return f"{pair} may differ in their configurations: one of them is not known"
    first, second = read_config(ours.config), read_config(theirs.config)
    differing = sorted(
        option
        for option in {*first, *second}
        if first.get(option, "n") != second.get(option, "n") and not _OF_PAGE_SIZE.fullmatch(option)
    )
    if not differing:
        return ""
    named = ", ".join(differing[:_SHOWN]) + (", …" if len(differing) > _SHOWN else "")
    return f"{pair} differ in {len(differing)} options that their page sizes do not explain: {named}"
