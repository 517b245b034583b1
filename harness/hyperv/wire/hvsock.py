"""hv_sock's pipe: a header before each piece of a stream, and the names that ports have on the bus.

Source: Linux net/vmw_vsock/hyperv_transport.c, struct vmpipe_proto_header, srv_id_template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from harness.hyperv.wire.record import U32, Record

__all__ = ["DATA", "MAX_PIECE_BYTES", "PipeMessage", "port_of", "service_id"]

DATA: Final = 1
"""The one type of message; without bytes it ends the stream."""
MAX_PIECE_BYTES: Final = 16 << 10
"""HVS_MTU_SIZE, to the guest; it sends less itself."""
_TEMPLATE: Final = UUID("00000000-facb-11e6-bd58-64006a7986d3")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeMessage(Record):
    """What stands before each piece."""

    kind: U32
    length: U32
    """Of the piece."""


def service_id(port: int) -> UUID:
    """The interface type of a port's channels."""
    return UUID(fields=(port & 0xFFFF_FFFF, *_TEMPLATE.fields[1:]))


def port_of(service: UUID) -> int | None:
    """The port of that interface type; None for a type that is no port's."""
    return service.fields[0] if service == service_id(service.fields[0]) else None
