"""Two results side by side: what differs by how much, and what else is not the same between them.

May import harness.bench, harness.errors and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.bench.result import Clock, Result
from harness.bench.statistics import Change, change_of, noise_percent
from harness.errors import UsageError

__all__ = ["Comparison", "Difference", "compare", "worst"]

NAMED_OPTIONS: Final = 8

# Options that follow from the page size (Linux arch/arm64/Kconfig, arch/Kconfig).
_OF_PAGE_SIZE: Final = re.compile(
    r"(ARM64_(4K|16K|64K)_PAGES|ARM64_CONT_P[TM][DE]_SHIFT|ARM64_PAGE_SHIFT|ARM64_VA_BITS\w*|ARM64_PA_BITS\w*"
    r"|(HAVE_)?PAGE_SIZE_\w+|PAGE_SHIFT|PGTABLE_LEVELS|ARCH_MMAP_RND_\w+|ARCH_FORCE_MAX_ORDER"
    r"|KASAN_SHADOW_OFFSET|COMPAT\w*|PAGE_SIZE_LESS_THAN_\w+|ARM64_LPA2|ARCH_WANT_HUGE_PMD_SHARE"
    r"|HUGETLB_PMD_PAGE_TABLE_SHARING|(ARCH_WANTS_)?THP_SWAP)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One benchmark of two results."""

    name: str
    unit: str
    about: str
    base: float | None
    other: float | None
    base_reason: str = ""
    """Why there is no number."""
    other_reason: str = ""
    change: Change | None = None
    """Of samples of time; None where a number is exact."""

    @property
    def more(self) -> float | None:
        """How much more the other is, in the clock's unit."""
        return None if self.base is None or self.other is None else self.other - self.base

    @property
    def percent(self) -> float | None:
        """The same in percent of the base."""
        if self.change is not None:
            return self.change.percent
        return None if self.more is None or not self.base else 100 * self.more / self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two results of one clock."""

    base: Result
    other: Result
    headlines: tuple[str, ...]
    """What else is different, most important first: to be read before any number."""
    differences: tuple[Difference, ...]
    noise_percent: float | None = None
    """Of time: the largest noise floor of a benchmark of the base."""

    @property
    def is_exact(self) -> bool:
        """Numbers are instructions, each measured twice."""
        return self.base.clock is Clock.INSTRUCTIONS

    @property
    def title(self) -> str:
        """What is held against what."""
        return f"{self.other.title} against {self.base.title}"


def compare(base: Result, other: Result) -> Comparison:
    """Hold one result against another; raises UsageError for two clocks, which nothing can be said of."""
    if base.clock is not other.clock or base.accelerator != other.accelerator:
        raise UsageError(
            f"{base.title} counted {base.clock.value} ({base.accelerator}) and {other.title} "
            f"{other.clock.value} ({other.accelerator}): numbers of two clocks cannot be compared"
        )
    differences = tuple(_differences(base, other))
    noise = [noise_percent(base.values(one.name)) for one in differences]
    known = [one for one in noise if one is not None]
    return Comparison(
        base=base,
        other=other,
        headlines=tuple(_headlines(base, other)),
        differences=differences,
        noise_percent=max(known) if base.clock is Clock.TIME and known else None,
    )


def worst(comparisons: tuple[Comparison, ...], threshold_percent: float) -> tuple[str, ...]:
    """The benchmarks that became dearer by more than that, a line each; of time only what is clear."""
    return tuple(
        f"{one.name}: {one.percent:+.2f} % ({comparison.title})"
        for comparison in comparisons
        for one in comparison.differences
        if one.percent is not None and one.percent > threshold_percent
        if one.change is None or one.change.is_clear
    )


def _differences(base: Result, other: Result) -> Iterator[Difference]:
    for name in dict.fromkeys((*base.names, *other.names)):
        rows = (base.row(name), other.row(name))
        samples = next(row.samples for row in rows if row is not None)
        reasons = tuple("it was not run" if row is None else row.no_number for row in rows)
        change = None
        if base.clock is Clock.TIME:
            change = change_of(base.values(name), other.values(name))
        yield Difference(
            name=name,
            unit=samples.unit,
            about=samples.about,
            base=base.value(name),
            other=other.value(name),
            base_reason=reasons[0],
            other_reason=reasons[1],
            change=change,
        )


def _headlines(base: Result, other: Result) -> Iterator[str]:
    if base.compiler != other.compiler:
        yield f"different compilers: {base.compiler or 'not known'}, {other.compiler or 'not known'}"
    yield from _of_configs(base, other)
    for what, one, two in (
        ("CPU models", base.cpu, other.cpu),
        ("QEMUs", base.qemu, other.qemu),
        ("amounts of memory", f"{base.memory_mib} MiB", f"{other.memory_mib} MiB"),
        ("sizes in place of 1 GiB", f"{base.large_bytes >> 20} MiB", f"{other.large_bytes >> 20} MiB"),
        ("benchmark programs", base.program_sha256[:12], other.program_sha256[:12]),
    ):
        if one != two:
            yield f"different {what}: {one or 'not known'}, {two or 'not known'}"
    if base.names != other.names:
        yield "different sets of benchmarks: what ran before leaves the allocator in another state"
    for result in (base, other):
        if not result.first:
            yield f"{result.title}: the program could not run ahead of all else on its CPU (it needs root)"
        if result.clock is Clock.INSTRUCTIONS and not result.verified:
            yield f"{result.title}: measured once only"
        if result.accelerator == "tcg" and result.clock is Clock.TIME:
            yield f"{result.title}: time under emulation is that of the emulator, and says little of hardware"


def _of_configs(base: Result, other: Result) -> Iterator[str]:
    if not base.config or not other.config:
        unknown = " and ".join(result.title for result in (base, other) if not result.config)
        yield f"the configuration of {unknown} is not known: it may differ"
        return
    names = sorted(
        name
        for name in {**base.config, **other.config}
        if base.config.get(name, "n") != other.config.get(name, "n")
    )
    if base.page_size is not other.page_size:
        names = [name for name in names if not _OF_PAGE_SIZE.fullmatch(name)]
    if names:
        more = f" and {len(names) - NAMED_OPTIONS} more" if len(names) > NAMED_OPTIONS else ""
        beyond = " beyond the page size" if base.page_size is not other.page_size else ""
        yield f"different configurations{beyond}: {', '.join(names[:NAMED_OPTIONS])}{more}"
