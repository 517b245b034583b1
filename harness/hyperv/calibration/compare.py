"""Two conversations of the same driver, on a real host and here: what is different."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from harness.hyperv.calibration.conversation import Conversation, Said
from harness.hyperv.wire.messages import MessageType
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["Difference", "differences", "name_of"]

_NAMES: Final = {
    value: name.lower().replace("_", "-") for name, value in vars(GuidOf).items() if isinstance(value, UUID)
}
_PAGE_LIST_BYTES: Final = 8
"""byte_count and byte_offset before the PFNs, and each PFN (struct gpa_range)."""


_OPENING: Final = (MessageType.GPADL_HEADER, MessageType.OPEN_CHANNEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One; `there` is the real host, `here` is ours."""

    driver: str
    what: str
    there: str
    here: str

    def __str__(self) -> str:
        return f"{self.driver}: {self.what}: there {self.there}, here {self.here}"


def name_of(interface: UUID) -> str:
    """What devices of a kind are called here, else the GUID."""
    return _NAMES.get(interface, str(interface))


def differences(there: Conversation, here: Conversation) -> tuple[Difference, ...]:
    """All of them, the bus's first, then those of each kind of device that the trace tells of."""
    found = list(_bus(there, here))
    kinds = dict.fromkeys(there.interfaces.values())
    ours = set(here.interfaces.values())
    for kind in kinds:
        if not there.of(kind):
            continue  # it was there, and did nothing while the trace ran
        if kind not in ours:
            found.append(
                Difference(driver=name_of(kind), what="device", there="offered", here="none of its kind")
            )
        else:
            found += _device(name_of(kind), there.of(kind), here.of(kind))
    return tuple(found)


def _bus(there: Conversation, here: Conversation) -> Iterable[Difference]:
    """Versions asked for until one was accepted; nothing where the trace began later."""
    asked, ours = (_versions(one.said) for one in (there, here))
    if asked and asked != ours:
        yield Difference(
            driver="vmbus", what="versions asked for", there=", ".join(asked), here=", ".join(ours)
        )


def _versions(said: Iterable[Said]) -> list[str]:
    numbers = [one.facts.get("version", 0) for one in said if one.kind is MessageType.INITIATE_CONTACT]
    return [f"{number >> 16}.{number & 0xFFFF}" for number in numbers]


def _device(driver: str, there: tuple[Said, ...], here: tuple[Said, ...]) -> Iterable[Difference]:
    for what, facts in _ASPECTS:
        theirs, ours = facts(there), facts(here)
        # What the trace does not tell of is no difference: it may have begun later, or ended sooner.
        if theirs - ours:
            yield Difference(
                driver=driver,
                what=what,
                there="; ".join(sorted(theirs)),
                here="; ".join(sorted(ours)) or "nothing",
            )


def _offers(said: tuple[Said, ...]) -> set[str]:
    return {
        ", ".join(f"{name} {value:#x}" for name, value in sorted(one.facts.items()))
        for one in said
        if one.kind is MessageType.OFFER_CHANNEL
    }


def _gpadls(said: tuple[Said, ...]) -> set[str]:
    """Of 4 KiB, and how many messages their numbers took."""
    bodies: dict[int | None, int] = {}
    for one in said:
        if one.kind is MessageType.GPADL_BODY:
            bodies[one.gpadl] = bodies.get(one.gpadl, 0) + 1
    return {
        f"{one.facts.get('range_buflen', 0) // _PAGE_LIST_BYTES - one.facts.get('ranges', 1)} in "
        f"{1 + bodies.get(one.gpadl, 0)} messages"
        for one in said
        if one.kind is MessageType.GPADL_HEADER
    }


def _opens(said: tuple[Said, ...]) -> set[str]:
    return {str(one.facts.get("downstream_page", 0)) for one in said if one.kind is MessageType.OPEN_CHANNEL}


def _statuses(said: tuple[Said, ...]) -> set[str]:
    return {f"{one.kind.name} {one.facts['status']:#x}" for one in said if one.facts.get("status", 0)}


def _openings(said: tuple[Said, ...]) -> set[str]:
    """The guest's messages of each channel, from its beginning or its last closing until it is opened.

    Linux traces a message of its own when it has sent it: an answer of the host's may stand before it.
    """
    orders: dict[int | None, list[str]] = {}
    done: set[str] = set()
    for one in said:
        if one.kind is MessageType.CLOSE_CHANNEL:
            orders.pop(one.relid, None)
        elif one.kind in _OPENING:
            orders.setdefault(one.relid, []).append(one.kind.name)
        if one.kind is MessageType.OPEN_CHANNEL:
            done.add(" ".join(orders.pop(one.relid, [])))
    return done


_ASPECTS: Final = (
    ("offer", _offers),
    ("pages of GPADLs", _gpadls),
    ("page of 4 KiB at which the host's ring begins", _opens),
    ("statuses other than 0", _statuses),
    ("order of the guest's messages until it is open", _openings),
)
