"""What a report keeps of a repeatable run: enough to run it again, and to tell whether it was the same.

Read back from a file that anybody may have written: every field is checked. May import harness.determinism,
harness.errors and the standard library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from harness.determinism.compare import Stream
from harness.determinism.conditions import Conditions
from harness.determinism.seed import Seed
from harness.errors import UsageError

__all__ = ["Fingerprint", "Recipe", "RunRecord"]

FORMAT: Final = 1
STREAM_LIMIT = 16
CHECK_LIMIT = 1000
SECONDS_LIMIT = 1e9
NAME_LIMIT = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A stream, told by its length and its sha256 in hex."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, stream: Stream) -> Fingerprint:
        """That of a stream."""
        digest = hashlib.sha256(stream.content).hexdigest()
        return cls(name=stream.name, size_bytes=len(stream.content), sha256=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a cell was asked for and does not say in its result."""

    kernel: str
    """A name of the catalogue, or a path with a '/'."""
    kernel_options: tuple[str, ...]
    """For a path: `--modules DIR` and the like, as they were given."""
    checks: tuple[str, ...]
    cmdline: str
    boot_time: bool
    timeout_s: float | None
    granule: str
    """Our version: another one may ask its guests other things."""

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return {
            "kernel": self.kernel,
            "kernel_options": list(self.kernel_options),
            "checks": list(self.checks),
            "cmdline": self.cmdline,
            "boot_time": self.boot_time,
            "timeout_s": self.timeout_s,
            "granule": self.granule,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Recipe:
        """The way back; raises UsageError naming the field that is missing or wrong."""
        return cls(
            kernel=_field(document, "kernel", _is_text),
            kernel_options=tuple(_field(document, "kernel_options", _is_texts)),
            checks=tuple(_field(document, "checks", _is_texts)),
            cmdline=_field(document, "cmdline", _is_text),
            boot_time=_field(document, "boot_time", _is_flag),
            timeout_s=_field(document, "timeout_s", _is_seconds),
            granule=_field(document, "granule", _is_text),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The part of a cell's report that a replay starts from; the rest is in the cell itself."""

    conditions: Conditions
    qemu: str
    """QEMU's version line: another QEMU may count other instructions."""
    kernel_sha256: str
    initrd_sha256: str
    """Of the initramfs: the agent in it is part of what is counted."""
    streams: tuple[Fingerprint, ...]
    runs: int
    """How often the run was made: 2, or 1 where `--explore` saw a seed pass."""
    difference: str
    """Where two runs first parted, with the lines of both; empty when they were identical."""
    recipe: Recipe

    @property
    def is_verified(self) -> bool:
        """True for a run that was made twice and was identical."""
        return self.runs > 1 and not self.difference

    def changed(self, streams: tuple[Stream, ...]) -> tuple[str, ...]:
        """Names of the streams that another run had otherwise, or did not have, or had in addition."""
        known = {fingerprint.name: fingerprint for fingerprint in self.streams}
        seen = {stream.name: Fingerprint.of(stream) for stream in streams}
        return tuple(name for name in {**known, **seen} if known.get(name) != seen.get(name))

    def changed_inputs(
        self, *, granule: str, qemu: str, kernel_sha256: str, initrd_sha256: str
    ) -> tuple[str, ...]:
        """What is not as it was recorded, one line each: a run with other inputs need not be equal."""
        pairs = (
            ("granule", self.recipe.granule, granule),
            ("QEMU", self.qemu, qemu),
            ("the kernel's sha256", self.kernel_sha256, kernel_sha256),
            ("the initramfs' sha256 (modules, granule's guest programs)", self.initrd_sha256, initrd_sha256),
        )
        return tuple(f"{what} was {was}, and is {now}" for what, was, now in pairs if was != now)

    def to_json(self) -> dict[str, Any]:
        """As JSON's types; the seed is a string, for readers whose numbers end at 2^53."""
        return {
            "format": FORMAT,
            "seed": str(self.conditions.seed.value),
            "icount_shift": self.conditions.icount_shift,
            "kaslr": self.conditions.kaslr,
            "qemu": self.qemu,
            "kernel_sha256": self.kernel_sha256,
            "initrd_sha256": self.initrd_sha256,
            "runs": self.runs,
            "difference": self.difference,
            "recipe": self.recipe.to_json(),
            "streams": [
                {"name": one.name, "size_bytes": one.size_bytes, "sha256": one.sha256} for one in self.streams
            ],
        }

    @classmethod
    def from_json(cls, document: object) -> RunRecord:
        """The way back; raises UsageError naming the field that is missing or wrong."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise UsageError(f"the report's record of a repeatable run is not one of format {FORMAT}")
        streams = _field(document, "streams", lambda value: isinstance(value, list))
        if len(streams) > STREAM_LIMIT:
            raise UsageError(f"the report's record has {len(streams)} streams: {STREAM_LIMIT} at most")
        return cls(
            conditions=Conditions(
                seed=Seed.parse(_field(document, "seed", _is_text)),
                icount_shift=_field(document, "icount_shift", _is_count),
                kaslr=_field(document, "kaslr", _is_flag),
            ),
            qemu=_field(document, "qemu", _is_text),
            kernel_sha256=_field(document, "kernel_sha256", _is_sha256),
            initrd_sha256=_field(document, "initrd_sha256", _is_sha256),
            runs=_field(document, "runs", _is_count),
            difference=_field(document, "difference", _is_text),
            recipe=Recipe.from_json(_field(document, "recipe", lambda value: isinstance(value, dict))),
            streams=tuple(_fingerprint(one) for one in streams),
        )


def _fingerprint(document: object) -> Fingerprint:
    if not isinstance(document, dict):
        raise UsageError("the report's record of a repeatable run has a stream that is no object")
    return Fingerprint(
        name=_field(document, "name", lambda value: _is_text(value) and len(value) <= NAME_LIMIT),
        size_bytes=_field(document, "size_bytes", _is_count),
        sha256=_field(document, "sha256", _is_sha256),
    )


def _field(document: dict[str, Any], name: str, fits: Callable[[Any], bool]) -> Any:
    if name not in document or not fits(document[name]):
        raise UsageError(f"the report's record of a repeatable run has no sound `{name}`")
    return document[name]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and len(value) <= CHECK_LIMIT and all(map(_is_text, value))


def _is_seconds(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < SECONDS_LIMIT


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
