"""That each option turned off has to be: it is turned on alone, and what failed for it is built again.

Only its own objects are compiled; vmlinux is linked or modpost run where that is what had failed. What builds
is turned on again. An option that others already turn off is not one of ours: it goes with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.linux.kconfig import Kconfig
from harness.weed.blame import Blamed
from harness.weed.failures import Failure, Kind
from harness.weed.verdicts import Proof
from harness.weed.workbench import Workbench

__all__ = ["Proven", "prove", "separate"]

_MAX_OBJECTS = 40
_TARGETS = {Kind.LINK: ("vmlinux",), Kind.MODPOST: ("modules",)}
_PROOFS = {Kind.COMPILE: Proof.OBJECT, Kind.LINK: Proof.LINK, Kind.MODPOST: Proof.MODPOST}


@dataclass(slots=True)
class Proven:
    """What the proofs found; filled in as they go, so that an interrupt leaves it usable."""

    proofs: dict[str, Proof] = field(default_factory=dict)
    takes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    turned_back_on: list[str] = field(default_factory=list)


def separate(bench: Workbench, off: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The options that have to be set to n, and those that are then off anyway."""
    needed = set(off)
    carried: set[str] = set()
    for option in sorted(off):
        if not bench.configure(needed - {option}).enabled(option):
            needed.discard(option)
            carried.add(option)
    return frozenset(needed), frozenset(carried)


def prove(
    bench: Workbench, blamed: Mapping[str, Blamed], off: frozenset[str], settled: frozenset[str], into: Proven
) -> frozenset[str]:
    """The options that have to be off, of those in `off`; raises InfraError as a build does.

    Arguments: `settled`, options for which building everything has already been the proof.
    """
    needed, carried = separate(bench, off)
    left = sorted(needed, key=lambda option: (_cost(blamed[option].failures), option))
    while left:
        option = left.pop(0)
        final = bench.configure(needed)
        trial = bench.configure(needed - {option})
        into.takes[option] = _coming_back(option, trial, final)
        if option in settled or option in into.proofs:
            into.proofs.setdefault(option, Proof.BUILD)
            continue
        bench.round = f"CONFIG_{option} on again, {len(left)} left"
        # What goes with it stays off meanwhile, so that it is judged by its own objects.
        bench.configure((needed | carried) - {option})
        proof = _fails_again(bench, blamed[option].failures)
        if proof is not None:
            into.proofs[option] = proof
            continue
        needed -= {option}
        into.turned_back_on.append(option)
        into.takes.pop(option)
        freed = {other for other in carried if bench.configure(needed).enabled(other)}
        again, carried_still = separate(bench, needed | freed)
        left += sorted(again - needed)
        needed, carried = again, (carried - freed) | carried_still
    bench.configure(needed)
    return needed


def _fails_again(bench: Workbench, failures: list[Failure]) -> Proof | None:
    """The cheapest kind of failure that comes back, or None when none does."""
    for kind in (Kind.COMPILE, Kind.MODPOST, Kind.LINK):
        mine = [failure for failure in failures if failure.kind is kind]
        if not mine:
            continue
        objects = {failure.object for failure in mine}
        targets = _TARGETS.get(kind) or tuple(sorted(objects))[:_MAX_OBJECTS]
        if any(failure.object in objects for failure in bench.attempt(targets, lenient=kind is Kind.LINK)):
            return _PROOFS[kind]
    return None


def _coming_back(option: str, trial: Kconfig, final: Kconfig) -> tuple[str, ...]:
    return tuple(
        sorted(name for name in trial if name != option and trial.enabled(name) and not final.enabled(name))
    )


def _cost(failures: list[Failure]) -> int:
    """Links last, so that what is compiled for one is there for the next."""
    return max((1 if failure.kind is Kind.COMPILE else 2) for failure in failures)
