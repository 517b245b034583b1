"""A conversation recorded here and the same from a trace of Linux's; and what is different between two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.hyperv.calibration import Conversation, differences, read_trace
from harness.hyperv.calibration import conversation as conversation_module
from harness.hyperv.calibration.conversation import Recorder
from harness.hyperv.wire import messages as m
from harness.hyperv.wire.messages import MessageType, bare
from harness.hyperv.wire.numbers import GuidOf, VmbusVersion

INSTANCE = UUID("00000000-0000-0000-0000-000000000001")
OFFER = m.OfferChannel(
    interface_type=GuidOf.NETWORK, interface_instance=INSTANCE, flags=0, child_relid=14, connection_id=9
)
CONTACT = m.InitiateContact(
    version=VmbusVersion.V5_3, target_vcpu=0, interrupt_page=2, monitor_page1=0, monitor_page2=0
)
GPADL = m.GpadlHeader(
    child_relid=14, gpadl=0xE1E10, range_buflen=8 * 65, range_count=1, byte_count=1 << 18, byte_offset=0
)
# From the guest, or the host, as Hyper-V's protocol has them.
MESSAGES = (
    (CONTACT, True),
    (m.VersionResponse(supported=1), False),
    (OFFER, False),
    (GPADL, True),
    (m.GpadlBody(message_number=0, gpadl=0xE1E10), True),
    (m.GpadlCreated(child_relid=14, gpadl=0xE1E10, status=0), False),
    (m.OpenChannel(child_relid=14, open_id=14, gpadl=0xE1E10, target_vp=0, downstream_page=32), True),
    (m.OpenResult(child_relid=14, open_id=14, status=0), False),
    (m.CloseChannel(child_relid=14), True),
    (m.GpadlTeardown(child_relid=14, gpadl=0xE1E10), True),
    (m.GpadlTorndown(gpadl=0xE1E10), False),
)  # fmt: skip
# As Linux prints the same (drivers/hv/hv_trace.h).
TRACE = f"""# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
       modprobe-71      [000] .....     1.100000: vmbus_negotiate_version: sending vmbus_version_requested {5 << 16 | 3}, target_vcpu 0x0, pages 2:0:0, ret 0
    kworker/0:1-14      [000] ...1.     1.100100: vmbus_on_message: msgtype=15
    kworker/0:1-14      [000] .....     1.100200: vmbus_onversion_response: version_supported 1
    kworker/0:1-14      [000] .....     1.200000: vmbus_onoffer: child_relid 0xe, monitorid 0x0, is_dedicated 1, connection_id 0x9, if_type {GuidOf.NETWORK}, if_instance {INSTANCE}, chn_flags 0x0, mmio_megabytes 0, sub_channel_index 0
             ip-80      [001] .....     2.000000: vmbus_establish_gpadl_header: sending child_relid 0xe, gpadl 0xe1e10, range_buflen 520 rangecount 1, ret 0
             ip-80      [001] .....     2.000010: vmbus_establish_gpadl_body: sending msgnumber 0, gpadl 0xe1e10, ret 0
    kworker/0:1-14      [000] .....     2.000020: vmbus_ongpadl_created: child_relid 0xe, gpadl 0xe1e10, creation_status 0
             ip-80      [001] .....     2.000030: vmbus_open: sending child_relid 0xe, openid 14, gpadlhandle 0xe1e10, target_vp 0x0, offset 0x20, ret 0
    kworker/0:1-14      [000] .....     2.000040: vmbus_onopen_result: child_relid 0xe, openid 14, status 0
             ip-81      [001] .....     3.000000: vmbus_close_internal: sending child_relid 0xe, ret 0
             ip-81      [001] .....     3.000010: vmbus_teardown_gpadl: sending child_relid 0xe, gpadl 0xe1e10, ret 0
    kworker/0:1-14      [000] .....     3.000020: vmbus_ongpadl_torndown: gpadl 0xe1e10
"""  # noqa: E501 - as it is printed


def recorded(messages: tuple[tuple[m.Message, bool], ...] = MESSAGES) -> Conversation:
    """What a recorder of ours keeps of them."""
    recorder = Recorder()
    for message, from_guest in messages:
        recorder.message(message.message(), from_guest=from_guest)
    return recorder.conversation


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The trace in a file."""
    path = tmp_path / "trace"
    path.write_text(TRACE)
    return path


def test_a_trace_says_the_same_as_a_recorder(trace: Path) -> None:
    """One conversation, recorded on the host's side or traced in the guest, is one and the same."""
    assert read_trace(trace) == recorded()


def test_what_names_only_a_gpadl_has_its_channel() -> None:
    """The parts of a page list, and its end, belong to the channel that it was made for."""
    ended = recorded().said[-1]
    assert (ended.kind, ended.relid) == (MessageType.GPADL_TORNDOWN, 14)


def test_a_trace_that_began_later(tmp_path: Path) -> None:
    """Channels that were offered before are known by the lines that the recording script puts first."""
    path = tmp_path / "trace"
    later = "".join(line for line in TRACE.splitlines(keepends=True) if " 1." not in line)
    path.write_text(f"# channel 14 {{{GuidOf.NETWORK}}}\n" + later)
    there = read_trace(path)
    assert there.interfaces == {14: GuidOf.NETWORK}
    assert differences(there, recorded()) == ()


def test_no_difference(trace: Path) -> None:
    """The same conversation has none, and neither has one of which the trace tells less."""
    assert differences(read_trace(trace), recorded()) == ()


@pytest.mark.parametrize(
    ("number", "change", "what", "there", "here"),
    [
        (0, {"version": VmbusVersion.V4_1}, "versions asked for", "5.3", "4.1"),
        (2, {"flags": 0x2000}, "offer", "flags 0x0", "flags 0x2000"),
        (3, {"range_buflen": 8 * 17}, "pages of GPADLs", "64 in 2 messages", "16 in 2 messages"),
        (6, {"downstream_page": 8}, "page of 4 KiB at which the host's ring begins", "32", "8"),
    ],
)
def test_a_difference(
    trace: Path, number: int, change: dict[str, Any], what: str, there: str, here: str
) -> None:
    """One number that is another is one difference, which says both."""
    message, from_guest = MESSAGES[number]
    changed: m.Message = replace(cast(Any, message), **change)
    other = (*MESSAGES[:number], (changed, from_guest), *MESSAGES[number + 1 :])
    (found,) = differences(read_trace(trace), recorded(other))
    assert found.what == what
    assert there in found.there
    assert here in found.here


def test_refusals_and_order(trace: Path, tmp_path: Path) -> None:
    """A status that is not 0 is told, and so is another order of messages."""
    refused = tmp_path / "refused"
    refused.write_text(TRACE.replace("status 0\n", "status -5\n", 1))
    (found,) = differences(read_trace(refused), recorded())
    assert (found.what, found.there) == ("statuses other than 0", "GPADL_CREATED -0x5")
    swapped = (*MESSAGES[:3], MESSAGES[6], *MESSAGES[3:6], *MESSAGES[7:])
    (found,) = differences(read_trace(trace), recorded(swapped))
    assert "order" in found.what


def test_an_answer_that_is_traced_first(trace: Path, tmp_path: Path) -> None:
    """Linux traces what it sends afterwards: an answer of the host's before it is no difference."""
    *lines, opened, result = TRACE.splitlines(keepends=True)[:-3]
    late = tmp_path / "late"
    late.write_text("".join((*lines, result, opened)))
    assert "vmbus_open:" in opened
    assert differences(read_trace(late), recorded()) == ()


def test_a_device_that_ours_lacks(trace: Path) -> None:
    """It is told, once."""
    (found,) = differences(read_trace(trace), Conversation(said=recorded().said[:2]))
    assert (found.driver, found.what) == ("network", "device")


def test_bounds(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a conversation is, a bounded part of it is kept, and that there was more is said."""
    assert not recorded().cut_off
    monkeypatch.setattr(conversation_module, "MAX_MESSAGES", 3)
    monkeypatch.setattr("harness.hyperv.calibration.trace.MAX_MESSAGES", 3)
    for one in (recorded(), read_trace(trace)):
        assert (len(one.said), one.cut_off) == (3, True)


def test_messages_that_are_wrong() -> None:
    """The bus judges them; a recorder leaves them out."""
    recorder = Recorder()
    for payload in (b"", b"\x05\0\0\0", bare(MessageType.OPEN_CHANNEL), b"\xff" * 40):
        recorder.message(payload, from_guest=True)
    assert recorder.conversation.said == ()


@given(
    st.text(max_size=400), st.sampled_from(["vmbus_onoffer", "vmbus_open", "vmbus_on_message", "# channel 1"])
)
def test_any_text_is_no_more_than_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, event: str
) -> None:
    """Whatever stands in a trace, it is read or refused as one without events."""
    path = tmp_path_factory.mktemp("trace") / "trace"
    path.write_bytes(f"{event}: {text}\n{event} {text}".encode("utf-8", "surrogatepass"))
    try:
        read = read_trace(path)
    except UsageError as error:
        read, said = None, str(error)
    assert (read is None and "no event" in said) or (read is not None and read.said)
