"""The rules of the wire, as data. Lines are those of Linux 6.12.117."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["RULES", "WireRule", "rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRule:
    """One thing that a driver has to get right, whatever its page size."""

    name: str
    driver: str
    """Whose code is to blame; the rules of hv_vmbus hold for every driver's channel."""
    claim: str
    source: str
    """The driver's file and lines that decide it."""
    when: str = ""
    """What has to happen before it can be asked; empty: whenever the driver has a channel open."""


_VMBUS: Final = (
    WireRule(
        name="vmbus.pages", driver="hv_vmbus", source="drivers/hv/connection.c:238-262",
        claim="the monitor pages, and below 5.0 the interrupt page, begin on pages of the guest's and differ",
    ),
    WireRule(
        name="synic.pages", driver="hv_vmbus", source="drivers/hv/hv.c:285,304",
        claim="SIMP and SIEFP of every processor name pages of RAM that nothing else is",
    ),
    WireRule(
        name="crash.page", driver="hv_vmbus", source="drivers/hv/hv_common.c:227-241", when="a panic",
        claim="the crash report is at most 4096 bytes and begins on a 4 KiB page of RAM",
    ),
    WireRule(
        name="gpadl.split", driver="hv_vmbus", source="drivers/hv/channel.c:327-391",
        claim="a list is sent as 26 page numbers, then 28 in each message, and range_buflen counts them all",
    ),
    WireRule(
        name="gpadl.bytes", driver="hv_vmbus", source="drivers/hv/channel.c:39,347-348",
        claim="a list's byte count is its pages of 4 KiB, from offset 0",
    ),
    WireRule(
        name="gpadl.ram", driver="hv_vmbus", source="include/linux/hyperv.h:1782; channel.c:116",
        claim="every page number of a list is RAM",
    ),
    WireRule(
        name="ring.downstream", driver="hv_vmbus", source="drivers/hv/channel.c:68,712",
        claim="the host's ring begins where the page model puts it: the first ring less its header's padding",
    ),
    WireRule(
        name="ring.steps", driver="hv_vmbus", source="drivers/hv/channel.c:94-116",
        claim="page numbers step by one but after each of the two headers, by a guest page",
    ),
    WireRule(
        name="ring.alignment", driver="hv_vmbus", source="drivers/hv/channel.c:177-189,669",
        claim="each ring's header begins on a page of the guest's",
    ),
    WireRule(
        name="ring.header", driver="hv_vmbus", source="include/linux/hyperv.h:112-158; ring_buffer.c:207-217",
        claim="where the host looks for a header it finds indices of 0 and feat_pending_send_sz",
    ),
    WireRule(
        name="ring.trailer", driver="hv_vmbus", source="drivers/hv/ring_buffer.c:219-222,361-366",
        claim="a packet's trailer says the offset that it was written at, so that both ends wrap alike",
        when="a packet",
    ),
    WireRule(
        name="buffer.runs", driver="hv_vmbus", source="include/linux/hyperv.h:1782; channel.c:94",
        claim="a shared buffer is whole pages of the guest's, each with consecutive page numbers",
        when="a shared buffer",
    ),
)  # fmt: skip

_UTILS: Final = (
    WireRule(
        name="utils.ring", driver="hv_utils", source="drivers/hv/hv_util.c:579-580",
        claim="both rings have the size that 12 KiB of payload give",
    ),
    WireRule(
        name="utils.packet", driver="hv_utils", source="drivers/hv/hv_util.c:191,433,521; hv_kvp.c:761",
        claim="an answer fits the buffer that the request came in: 4 KiB, 16 for KVP, 8 for VSS",
        when="a packet",
    ),
)  # fmt: skip

_STORAGE: Final = (
    WireRule(
        name="storvsc.ring", driver="storvsc", source="drivers/scsi/storvsc_drv.c:2219",
        claim="both rings have the size that 128 KiB of payload give",
    ),
    WireRule(
        name="storvsc.range", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1821-1823",
        claim="a request's data are one range of as many bytes as the SRB transfers",
    ),
    WireRule(
        name="storvsc.offset", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1810",
        claim="the range's offset is within a 4 KiB page",
    ),
    WireRule(
        name="storvsc.count", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1811-1815",
        claim="the packet has as many page numbers as its bytes touch pages of 4 KiB, and no room for more",
    ),
    WireRule(
        name="storvsc.ram", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1844-1856",
        claim="every page number is RAM",
    ),
    WireRule(
        name="storvsc.distinct", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1855-1856",
        claim="what is read goes to pages that differ",
    ),
    WireRule(
        name="storvsc.blocks", driver="storvsc", source="drivers/scsi/storvsc_drv.c:1816-1822",
        claim="a READ or WRITE of blocks transfers just those",
    ),
    WireRule(
        name="storvsc.limit", driver="storvsc", source="drivers/scsi/storvsc_drv.c:2030-2049",
        claim="no request is over the host's limit, or has more page numbers than the limit's pages and one",
    ),
)  # fmt: skip

_MEMORY: Final = (
    WireRule(
        name="balloon.ring", driver="hv_balloon", source="drivers/hv/hv_balloon.c:478",
        claim="both rings have the size that 16 KiB of payload give",
    ),
    WireRule(
        name="balloon.capability", driver="hv_balloon", source="drivers/hv/hv_balloon.c:1687",
        claim="ballooning is offered where the guest's page is 4 KiB, and nowhere else",
    ),
    WireRule(
        name="balloon.status", driver="hv_balloon", source="drivers/hv/hv_balloon.c:1155-1156",
        claim="memory is counted in pages of 4 KiB: multiples of a guest page's, and no more than there is",
        when="a report",
    ),
    WireRule(
        name="balloon.ram", driver="hv_balloon", source="drivers/hv/hv_balloon.c:1236-1238",
        claim="what is given up is RAM",
        when="a balloon request",
    ),
    WireRule(
        name="balloon.distinct", driver="hv_balloon", source="drivers/hv/hv_balloon.c:1236-1238",
        claim="each page is given up once",
        when="a balloon request",
    ),
)  # fmt: skip

_NETWORK: Final = (
    WireRule(
        name="netvsc.ring", driver="netvsc", source="drivers/net/hyperv/netvsc_drv.c:2882",
        claim="both rings have the size that 512 KiB of payload give",
    ),
    WireRule(
        name="netvsc.buffer", driver="netvsc", source="drivers/net/hyperv/netvsc.c:348,459",
        claim="receive and send buffer are whole pages of the guest's and hold their sections",
    ),
    WireRule(
        name="netvsc.ranges", driver="netvsc", source="drivers/net/hyperv/netvsc_drv.c:341-359",
        claim="a packet has 1 to 32 ranges, none of them empty",
        when="a packet outside the send buffer",
    ),
    WireRule(
        name="netvsc.offset", driver="netvsc", source="drivers/net/hyperv/netvsc_drv.c:341,346,355",
        claim="every range's offset is within a 4 KiB page",
        when="a packet outside the send buffer",
    ),
    WireRule(
        name="netvsc.consecutive", driver="netvsc", source="drivers/net/hyperv/netvsc.c:1093-1094",
        claim="a range's page numbers follow each other",
        when="a packet outside the send buffer",
    ),
    WireRule(
        name="netvsc.ram", driver="netvsc", source="drivers/net/hyperv/netvsc_drv.c:343,348,356",
        claim="every page number is RAM",
        when="a packet outside the send buffer",
    ),
    WireRule(
        name="netvsc.descriptor", driver="netvsc", source="drivers/net/hyperv/netvsc.c:1080-1101,1158",
        claim="the ranges fill the descriptor, and fit the 536 bytes that it has on the driver's stack",
        when="a packet outside the send buffer",
    ),
    WireRule(
        name="netvsc.section", driver="netvsc", source="drivers/net/hyperv/netvsc.c:943-983",
        claim="what is sent through the send buffer lies within it",
        when="a packet in the send buffer",
    ),
    WireRule(
        name="netvsc.rndis", driver="netvsc", source="net/hyperv/netvsc_drv.c:341; rndis_filter.c:237",
        claim="what is sent is whole RNDIS messages whose lengths add up",
        when="an RNDIS packet",
    ),
)  # fmt: skip

_SOCKETS: Final = (
    WireRule(
        name="sock.ring", driver="hv_sock", source="net/vmw_vsock/hyperv_transport.c:23-25,372-383",
        claim="rings are of 24 KiB of payload; below 5.0 of 24 KiB in all; of a listener's 24 to 256 KiB",
    ),
    WireRule(
        name="sock.piece", driver="hv_sock", source="net/vmw_vsock/hyperv_transport.c:52-64,227",
        claim="a piece of a stream is what its header says and fits a buffer of 4 KiB, header included",
        when="a packet",
    ),
)  # fmt: skip

RULES: Final = (*_VMBUS, *_UTILS, *_STORAGE, *_MEMORY, *_NETWORK, *_SOCKETS)
_BY_NAME: Final = {each.name: each for each in RULES}


def rule(name: str) -> WireRule:
    """The rule of that name; KeyError where there is none."""
    return _BY_NAME[name]
