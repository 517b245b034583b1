"""Channel messages in a form that a trace of Linux's has too, and a recorder of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from harness.hyperv.violation import Violated
from harness.hyperv.wire import messages as m
from harness.hyperv.wire.messages import MessageType
from harness.hyperv.wirelog import Observer

__all__ = ["MAX_MESSAGES", "Conversation", "Recorder", "Said"]

MAX_MESSAGES: Final = 16384
"""Kept of one conversation; a guest could open and close channels without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message."""

    kind: MessageType
    from_guest: bool
    relid: int | None = None
    """The channel, where the message names one."""
    gpadl: int | None = None
    facts: Mapping[str, int] = field(default_factory=dict)
    """Numbers that do not depend on where things are: sizes, flags, statuses, versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order, and what each channel is for."""

    said: tuple[Said, ...] = ()
    interfaces: Mapping[int, UUID] = field(default_factory=dict)
    """Interface types of devices, by relid."""
    cut_off: bool = False
    """There was more than MAX_MESSAGES."""

    def of(self, interface: UUID) -> tuple[Said, ...]:
        """What was said of the channels of one kind of device."""
        relids = {relid for relid, one in self.interfaces.items() if one == interface}
        return tuple(one for one in self.said if one.relid in relids)


class Recorder(Observer):
    """Keeps what crosses a bus of ours."""

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._interfaces: dict[int, UUID] = {}
        self._cut_off = False

    def message(self, payload: bytes, *, from_guest: bool) -> None:
        """As Observer's."""
        if len(self._said) >= MAX_MESSAGES:
            self._cut_off = True
            return
        try:
            said = _said(payload, from_guest=from_guest)
        except Violated:  # the bus reports it
            return
        if said.kind is MessageType.OFFER_CHANNEL and said.relid is not None:
            self._interfaces[said.relid] = m.OfferChannel.of(payload).interface_type
        self._said.append(said)

    @property
    def conversation(self) -> Conversation:
        """So far."""
        return Conversation(
            said=with_relids(self._said), interfaces=dict(self._interfaces), cut_off=self._cut_off
        )


def with_relids(said: Iterable[Said]) -> tuple[Said, ...]:
    """The same where messages that name only a GPADL have the channel it was made for."""
    channel_of: dict[int, int] = {}
    whole = []
    for one in said:
        if one.gpadl is not None and one.relid is not None:
            channel_of[one.gpadl] = one.relid
        elif one.gpadl in channel_of:
            relid = channel_of[one.gpadl]
            whole.append(
                Said(kind=one.kind, from_guest=one.from_guest, relid=relid, gpadl=one.gpadl, facts=one.facts)
            )
            continue
        whole.append(one)
    return tuple(whole)


# Of each kind of message with a body: which of its fields are facts, by our names.
_FACTS: Final[Mapping[type[m.Message], Mapping[str, str]]] = {
    m.InitiateContact: {"version": "version"},
    m.VersionResponse: {"supported": "supported"},
    m.OfferChannel: {
        "flags": "flags",
        "mmio_megabytes": "mmio_megabytes",
        "sub_channel_index": "sub_channel",
        "is_dedicated_interrupt": "dedicated_interrupt",
    },
    m.RescindOffer: {},
    m.GpadlHeader: {"range_buflen": "range_buflen", "range_count": "ranges"},
    m.GpadlBody: {},
    m.GpadlCreated: {"status": "status"},
    m.GpadlTeardown: {},
    m.GpadlTorndown: {},
    m.OpenChannel: {"downstream_page": "downstream_page"},
    m.OpenResult: {"status": "status"},
    m.CloseChannel: {},
    m.RelidReleased: {},
    m.ModifyChannel: {},
    m.ModifyChannelResponse: {"status": "status"},
}
_KINDS: Final = {message.TYPE: message for message in _FACTS}


def _said(payload: bytes, *, from_guest: bool) -> Said:
    kind = m.message_type(payload)
    known = _KINDS.get(kind)
    if known is None:
        return Said(kind=kind, from_guest=from_guest)
    message = known.of(payload)
    return Said(
        kind=kind,
        from_guest=from_guest,
        relid=getattr(message, "child_relid", None),
        gpadl=getattr(message, "gpadl", None),
        facts={ours: getattr(message, name) for name, ours in _FACTS[known].items()},
    )
