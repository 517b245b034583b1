"""Linux's own trace of its channel messages, read as text: `trace`, or what `trace-cmd report` prints.

Events and their words: Linux drivers/hv/hv_trace.h. Before them may stand lines of
guests/hyperv/record.sh, `# channel RELID CLASS_ID`, which say what a channel is for that was offered before
the trace began. The file is somebody else's: it is read within bounds, and what is no such event passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from harness.errors import UsageError
from harness.hyperv.calibration.conversation import MAX_MESSAGES, Conversation, Said, with_relids
from harness.hyperv.wire.messages import MessageType

__all__ = ["read_trace"]

FILE_LIMIT_BYTES: Final = 64 << 20
LINE_LIMIT: Final = 1024
_EVENT: Final = re.compile(r"\b(vmbus_\w{1,40}): (.*)")
_FIELD: Final = re.compile(
    r"\b(\w{1,40}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|0x[0-9a-f]{1,16}|-?\d{1,20})\b"
)
_CHANNEL: Final = re.compile(r"# channel (\d{1,10}) \{?([0-9a-fA-F-]{36})\}?")

# Of each event: the message, whether the guest sends it, and which of its words are facts, by our names.
_EVENTS: Final[Mapping[str, tuple[MessageType, bool, Mapping[str, str]]]] = {
    "vmbus_negotiate_version": (MessageType.INITIATE_CONTACT, True, {"vmbus_version_requested": "version"}),
    "vmbus_onversion_response": (MessageType.VERSION_RESPONSE, False, {"version_supported": "supported"}),
    "vmbus_request_offers": (MessageType.REQUEST_OFFERS, True, {}),
    "vmbus_onoffer": (
        MessageType.OFFER_CHANNEL, False,
        {"chn_flags": "flags", "mmio_megabytes": "mmio_megabytes", "sub_channel_index": "sub_channel",
         "is_dedicated": "dedicated_interrupt"},
    ),
    "vmbus_onoffer_rescind": (MessageType.RESCIND_OFFER, False, {}),
    "vmbus_establish_gpadl_header": (
        MessageType.GPADL_HEADER, True, {"range_buflen": "range_buflen", "rangecount": "ranges"}
    ),
    "vmbus_establish_gpadl_body": (MessageType.GPADL_BODY, True, {}),
    "vmbus_ongpadl_created": (MessageType.GPADL_CREATED, False, {"creation_status": "status"}),
    "vmbus_open": (MessageType.OPEN_CHANNEL, True, {"offset": "downstream_page"}),
    "vmbus_onopen_result": (MessageType.OPEN_RESULT, False, {"status": "status"}),
    "vmbus_close_internal": (MessageType.CLOSE_CHANNEL, True, {}),
    "vmbus_teardown_gpadl": (MessageType.GPADL_TEARDOWN, True, {}),
    "vmbus_ongpadl_torndown": (MessageType.GPADL_TORNDOWN, False, {}),
    "vmbus_release_relid": (MessageType.RELID_RELEASED, True, {}),
    "vmbus_send_modifychannel": (MessageType.MODIFY_CHANNEL, True, {}),
    "vmbus_onmodifychannel_response": (MessageType.MODIFY_CHANNEL_RESPONSE, False, {"status": "status"}),
    "vmbus_send_tl_connect_request": (MessageType.TL_CONNECT_REQUEST, True, {}),
}  # fmt: skip


def read_trace(path: Path) -> Conversation:
    """What a trace says; raises UsageError where it cannot be read, or has no event of VMBus's."""
    interfaces: dict[int, UUID] = {}
    said: list[Said] = []
    cut_off = False
    for line in _lines(path):
        if known := _CHANNEL.match(line):
            _remember(interfaces, int(known[1]), known[2])
        elif found := _EVENT.search(line):
            if len(said) >= MAX_MESSAGES:
                cut_off = True
                break
            one = _event(found[1], found[2], interfaces)
            if one is not None:
                said.append(one)
    if not said:
        raise UsageError(
            f"{path} has no event of VMBus's (vmbus_onoffer, vmbus_open and so on): record it with "
            "events/hyperv enabled, as docs/hyperv-calibrate.md says"
        )
    return Conversation(said=with_relids(said), interfaces=interfaces, cut_off=cut_off)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            if path.stat().st_size > FILE_LIMIT_BYTES:
                raise UsageError(
                    f"{path} has more than {FILE_LIMIT_BYTES >> 20} MiB: it is no trace of VMBus alone"
                )
            while line := file.readline(LINE_LIMIT):
                yield line.decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"cannot read the trace {path}: {error.strerror}") from error


def _event(name: str, text: str, interfaces: dict[int, UUID]) -> Said | None:
    known = _EVENTS.get(name)
    if known is None:
        return None
    kind, from_guest, names = known
    words = dict(_FIELD.findall(text))
    numbers = {word: int(value, 0) for word, value in words.items() if "-" not in value[1:]}
    relid = numbers.get("child_relid")
    if relid is not None and "if_type" in words:
        _remember(interfaces, relid, words["if_type"])
    return Said(
        kind=kind,
        from_guest=from_guest,
        relid=relid,
        gpadl=numbers.get("gpadl", numbers.get("gpadlhandle")),
        facts={ours: numbers[theirs] for theirs, ours in names.items() if theirs in numbers},
    )


def _remember(interfaces: dict[int, UUID], relid: int, text: str) -> None:
    if len(interfaces) < MAX_MESSAGES:
        try:
            interfaces[relid] = UUID(text)
        except ValueError:  # dashes in other places
            return
