"""What has to hold of a machine for its run to repeat: options of QEMU, and words for the kernel.

Each option is there because a run differed, or may differ, without it; docs/determinism.md has the
measurements. May import harness.determinism.seed, harness.errors and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.determinism.seed import SEED_BITS, Purpose, Seed
from harness.errors import UsageError

__all__ = ["TRAP_VA", "Conditions", "explored"]

TRAP_VA = 0x6_7261_0000
"""Where the guest's agent asks for input: below 2^36, the smallest user half there is (16K pages, two
levels of tables), aligned to 64K, and away from where Linux puts programs, heaps, libraries and stacks."""

# QEMU accel/tcg/icount-common.c, MAX_ICOUNT_SHIFT, is 10; from 7 on timer interrupts leave little for work.
SHIFT_LIMIT = 10
EXPLORED_SHIFTS = 7
# Past the epoch, so that a guest's `btime` is a time; any date would do.
CLOCK_BASE = "2020-01-01T00:00:00"
# A seed is 64 bits; the seeds explored from one are its successors.
SEEDS = 1 << SEED_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a repeatable run is made from: two runs with equal conditions and equal inputs are to be equal."""

    seed: Seed
    icount_shift: int = 0
    """An instruction takes 2^shift nanoseconds of the guest's time."""
    kaslr: bool = False
    """The kernel moves itself, to where the seed says."""

    def __post_init__(self) -> None:
        """Raise UsageError for a shift that QEMU refuses."""
        if not 0 <= self.icount_shift <= SHIFT_LIMIT:
            raise UsageError(f"an icount shift of {self.icount_shift} is not one of 0 to {SHIFT_LIMIT}")

    @classmethod
    def of(cls, seed: Seed | None) -> Conditions:
        """For `--deterministic [SEED]`: without a seed the kernel stays where it was linked."""
        return cls(seed=seed or Seed(0), kaslr=seed is not None)

    @property
    def label(self) -> str:
        """For ids: `exact`, `seed7`, `seed7-shift3`."""
        named = "exact" if self == Conditions.of(None) else f"seed{self.seed.value}"
        return f"{named}-shift{self.icount_shift}" if self.icount_shift else named

    @property
    def accel(self) -> str:
        """The argument of `-accel`: instructions can be counted on one thread only."""
        return "tcg,thread=single"

    @property
    def machine_option(self) -> str:
        """Part of the argument of `-machine`: the device tree's entropy is there, and comes from the seed."""
        return "dtb-randomness=on"

    @property
    def qemu_words(self) -> tuple[str, ...]:
        """Options of QEMU, in addition; the machine starts stopped.

        `sleep=off`: time passes by instructions, and an idle guest's goes straight to its next timer. With
        `sleep=on` it also takes the host's time (QEMU accel/tcg/icount-common.c, icount_warp_rt()).
        """
        return (
            *("-icount", f"shift={self.icount_shift},sleep=off,align=off"),
            *("-rtc", f"base={CLOCK_BASE},clock=vm"),
            *("-seed", str(self.seed.derive(Purpose.GUEST_RANDOM))),
            "-S",
        )

    @property
    def kernel_words(self) -> tuple[str, ...]:
        """Words for the kernel's command line; `granule.exact` is read by the guest's /init."""
        return ("granule.exact", *(() if self.kaslr else ("nokaslr",)))


def explored(first: Seed, count: int) -> Iterator[Conditions]:
    """The conditions of `--explore COUNT`: one for each seed from `first` on, past 2^64 - 1 from 0 again.

    A seed alone gives its conditions, so that a run that failed is repeated from its seed.
    """
    for offset in range(count):
        seed = Seed((first.value + offset) % SEEDS)
        yield Conditions(
            seed=seed,
            icount_shift=seed.choose(Purpose.ICOUNT_SHIFT, EXPLORED_SHIFTS),
            kaslr=seed.choose(Purpose.KASLR, 2) == 1,
        )
