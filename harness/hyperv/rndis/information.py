"""The buffers that queries and sets of an adapter's carry: offloads, scaling, addresses.

Source: Linux drivers/net/hyperv/hyperv_net.h, struct ndis_*; all raise Violated for what is malformed.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

from harness.hyperv.rndis.offload import Offload
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.rndis import (
    ConfigParameter,
    NdisObject,
    ObjectType,
    OffloadParameters,
    RssParameters,
)

__all__ = ["capabilities", "network_address", "offload_state", "rss_table"]

_SIZES: Final = (112, 144, 156)
"""sizeof(struct ndis_offload): NDIS_OFFLOAD_SIZE_6_0, _6_1, and all of it."""
_SEND_CHECKSUM_AT: Final = 4
_RECEIVE_CHECKSUM_AT: Final = 12
_LSO_V2_AT: Final = 80
_ENCAP_8023: Final = 2
_TCP4_OPTIONS_TCP4_UDP4: Final = 0x4 | 0x10 | 0x40
"""NDIS_TXCSUM_CAP_TCP4OPT, _TCP4 and _UDP4; of receiving the same."""
_LEAST_SEGMENTS: Final = 2

_OFF, _SEND_ONLY, _RECEIVE_ONLY, _BOTH = 1, 2, 3, 4
"""NDIS_OFFLOAD_PARAMETERS_TX_RX_DISABLED and so on."""
_LSO_ENABLED: Final = 2
_DISABLE_RSS: Final = 0x10
_TABLE_UNCHANGED: Final = 4
MAX_TABLE_BYTES: Final = 128 * 4
"""NDIS_RSS_INDIRECTION_TABLE_MAX_SIZE_REVISION_2."""


def _object(data: bytes, kind: ObjectType, least: int) -> NdisObject:
    header = NdisObject.unpack(data)
    if header.type != kind or header.size < least or header.size > len(data):
        raise Violated(
            Rule.DEVICE, f"an NDIS object of type {header.type:#x} and {header.size} bytes in {len(data)},"
            f" where type {kind:#x} is due",
        )  # fmt: skip
    return header


def capabilities(given: bytes, offload: Offload) -> bytes:
    """OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES: the driver's header says which form it knows."""
    header = _object(given, ObjectType.OFFLOAD, _SIZES[0])
    size = max(each for each in _SIZES if each <= header.size)
    answer = bytearray(size)
    answer[:4] = NdisObject(type=ObjectType.OFFLOAD, revision=header.revision, size=size).pack()
    if offload.checksum:
        what = (_ENCAP_8023, _TCP4_OPTIONS_TCP4_UDP4)
        struct.pack_into("<II", answer, _SEND_CHECKSUM_AT, *what)
        struct.pack_into("<II", answer, _RECEIVE_CHECKSUM_AT, *what)
    if offload.checksum and offload.large_send_bytes:
        struct.pack_into("<III", answer, _LSO_V2_AT, _ENCAP_8023, offload.large_send_bytes, _LEAST_SEGMENTS)
    return bytes(answer)


def offload_state(data: bytes, offered: Offload, now: Offload, receiving: bool) -> tuple[Offload, bool]:
    """OID_TCP_OFFLOAD_PARAMETERS: what is on from now on, to send and to receive."""
    _object(data, ObjectType.DEFAULT, OffloadParameters.size_bytes())
    wanted = OffloadParameters.unpack(data)
    if wanted.tcp_ipv4 and not offered.checksum and wanted.tcp_ipv4 != _OFF:
        raise Violated(Rule.DEVICE, "checksums turned on, which were not offered")
    if wanted.lso_v2_ipv4 == _LSO_ENABLED and not offered.large_send_bytes:
        raise Violated(Rule.DEVICE, "large sends turned on, which were not offered")
    if wanted.tcp_ipv4:
        now = replace(now, checksum=wanted.tcp_ipv4 in (_SEND_ONLY, _BOTH))
        receiving = wanted.tcp_ipv4 in (_RECEIVE_ONLY, _BOTH)
    if wanted.lso_v2_ipv4:
        on = wanted.lso_v2_ipv4 == _LSO_ENABLED
        now = replace(now, large_send_bytes=offered.large_send_bytes if on else 0)
    return now, receiving


def rss_table(data: bytes, channels: int) -> tuple[int, ...]:
    """OID_GEN_RECEIVE_SCALE_PARAMETERS: channels by hash; none where scaling is off."""
    _object(data, ObjectType.RSS_PARAMETERS, RssParameters.size_bytes())
    wanted = RssParameters.unpack(data)
    if wanted.flags & (_DISABLE_RSS | _TABLE_UNCHANGED):
        return ()
    end = wanted.table_offset + wanted.table_bytes
    if (
        wanted.table_offset < RssParameters.size_bytes() or end > len(data)
        or wanted.table_bytes % 4 or not 0 < wanted.table_bytes <= MAX_TABLE_BYTES
    ):  # fmt: skip
        raise Violated(
            Rule.DEVICE, f"a table of {wanted.table_bytes} bytes at {wanted.table_offset} of {len(data)}"
        )
    table = struct.unpack_from(f"<{wanted.table_bytes // 4}I", data, wanted.table_offset)
    if max(table) >= channels:
        raise Violated(Rule.DEVICE, f"channel {max(table)} in the table, of {channels}")
    return table


def network_address(data: bytes) -> bytes:
    """RNDIS_OID_GEN_RNDIS_CONFIG_PARAMETER: the MAC address in "NetworkAddress"."""
    wanted = ConfigParameter.unpack(data)
    texts = []
    for offset, size in (
        (wanted.name_offset, wanted.name_bytes),
        (wanted.value_offset, wanted.value_bytes),
    ):
        if offset < ConfigParameter.size_bytes() or offset + size > len(data):
            raise Violated(Rule.DEVICE, f"a parameter of {size} bytes at {offset} of {len(data)}")
        texts.append(data[offset : offset + size].decode("utf-16-le", "replace"))
    try:
        mac = bytes.fromhex(texts[1])
    except ValueError:
        mac = b""
    if texts[0] != "NetworkAddress" or len(mac) != 6 or mac[0] & 1:
        raise Violated(Rule.DEVICE, f"the parameter {texts[0][:20]!r} set to {texts[1][:20]!r}")
    return mac
