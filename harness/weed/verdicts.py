"""What a weeding found, as values; and the fragment and the JSON made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from harness.weed.failures import Failure

__all__ = ["Dropped", "Outcome", "Proof", "Spent", "Stuck", "Why"]

SCHEMA = 1


class Proof(Enum):
    """How it is known that an option has to be off."""

    OBJECT = "its objects fail again with it on"
    LINK = "vmlinux does not link with it on"
    MODPOST = "modpost fails again with it on"
    BUILD = "it was turned on again, and the whole build failed"
    NONE = "not tried"


class Why(Enum):
    """Why something that does not build stays."""

    KEPT = "kept and broken"
    NO_OPTION = "no option turns it off"
    HELD = "its option cannot be turned off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """An option that was turned off."""

    option: str
    value: str
    """`y` or `m`, what it was."""
    failures: tuple[Failure, ...]
    """What it was turned off for."""
    instead_of: str = ""
    """The option meant, which this one had held on."""
    takes: tuple[str, ...] = ()
    """What comes back with it when it is turned on alone, and so goes with it."""
    broken_too: tuple[str, ...] = ()
    """Those of `takes` that had failures of their own."""
    proof: Proof = Proof.NONE
    defined_in: Mapping[str, str] = field(default_factory=dict)
    """For symbols without a definition, the file that would define each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """What does not build and stays."""

    failure: Failure
    why: Why
    option: str = ""
    """The option that is kept or cannot go; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a weeding took, in seconds and in runs of make."""

    rounds: int = 0
    keep_going_s: float = 0.0
    """The first build, of everything."""
    rounds_s: float = 0.0
    """The rounds after it."""
    proof_s: float = 0.0
    last_s: float = 0.0
    """The build without leniency at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a weeding found, at its end or when it was interrupted."""

    dropped: tuple[Dropped, ...]
    stuck: tuple[Stuck, ...]
    turned_back_on: tuple[str, ...]
    """Options that were off for a while and turned out to build."""
    together: tuple[str, ...]
    """Options that are off and that no single dropped option brings back."""
    changes: str
    """What was changed in the configuration given before anything was built, as Kconfig lines."""
    notes: tuple[str, ...]
    only: tuple[str, ...]
    """The directories that were built; empty: everything."""
    spent: Spent
    is_complete: bool
    """False when interrupted, or when rounds ran out."""
    config: str = ""
    """The text of the working .config."""
    image: Path | None = None

    @property
    def works(self) -> bool:
        """True when what was asked for builds."""
        return self.is_complete and not self.stuck

    @property
    def fragment(self) -> str:
        """What to apply over the configuration given, in Kconfig, with the reasons."""
        lines = ["# Made by `granule kernels weed`: apply over the configuration that was given."]
        for stuck in self.stuck:
            lines.append(f"# Still broken ({stuck.why.value}): {stuck.failure.object}: {stuck.failure.error}")
        lines += self.changes.splitlines()
        for dropped in self.dropped:
            first = dropped.failures[0]
            lines += ["", f"# {first.source or first.object}: {first.error}"]
            if dropped.instead_of:
                lines.append(f"# It held CONFIG_{dropped.instead_of} on.")
            lines.append(f"# CONFIG_{dropped.option} is not set")
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """For programs: values only, enums by their words."""
        return {
            "schema": SCHEMA,
            "works": self.works,
            "is_complete": self.is_complete,
            "dropped": [
                {
                    "option": dropped.option,
                    "value": dropped.value,
                    "instead_of": dropped.instead_of,
                    "takes": list(dropped.takes),
                    "broken_too": list(dropped.broken_too),
                    "proof": dropped.proof.value,
                    "defined_in": dict(dropped.defined_in),
                    "failures": [_failure(failure) for failure in dropped.failures],
                }
                for dropped in self.dropped
            ],
            "stuck": [
                {"why": stuck.why.value, "option": stuck.option, **_failure(stuck.failure)}
                for stuck in self.stuck
            ],
            "turned_back_on": list(self.turned_back_on),
            "together": list(self.together),
            "notes": list(self.notes),
            "only": list(self.only),
            "spent": asdict(self.spent),
            "image": None if self.image is None else str(self.image),
        }


def _failure(failure: Failure) -> dict[str, Any]:
    return {**asdict(failure), "kind": failure.kind.value, "symbols": list(failure.symbols)}
