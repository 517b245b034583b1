"""A way from the host to a port of the guest: QEMU's user network listens on loopback, and passes on.

Opened on a running machine and not on QEMU's command line: a machine that nobody reaches that way listens
nowhere, and neither a template nor a clone that waits has to know. `restrict=on` does not touch it (QEMU's
manual, invocation, `-netdev user`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError

__all__ = ["LOOPBACK", "Forward", "open_forward", "parse_forwards"]

LOOPBACK = "127.0.0.1"
NETDEV = "wire"
# QEMU 7.2 net/slirp.c, usernet_info(); libslirp src/misc.c, slirp_connection_info(): a line for each socket.
LINE = re.compile(
    r"\s*TCP\[HOST_FORWARD\]\s+\d+\s+(?P<host>[\d.*]+)\s+(?P<host_port>\d{1,5})"
    r"\s+(?P<guest>[\d.*]+)\s+(?P<guest_port>\d{1,5})\s+\d+\s+\d+\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A TCP port of the host whose connections reach a port of the guest."""

    host: str
    host_port: int
    guest_port: int


def parse_forwards(text: str) -> tuple[Forward, ...]:
    """The forwards in what QEMU's `info usernet` prints; other sockets of the network are passed over."""
    found = (LINE.fullmatch(line) for line in text.splitlines())
    return tuple(
        Forward(host=one["host"], host_port=int(one["host_port"]), guest_port=int(one["guest_port"]))
        for one in found
        if one is not None
    )


def open_forward(qmp: Qmp, guest_port: int, deadline: Deadline) -> Forward:
    """Forward a port of the host's kernel's choice, on loopback only, to one of the guest.

    Raises ChannelError when QEMU refuses, as it does without a user network.
    """
    before = _forwards(qmp, deadline)
    rule = f"{NETDEV} tcp:{LOOPBACK}:0-:{guest_port}"
    said = qmp.execute("human-monitor-command", deadline, command_line=f"hostfwd_add {rule}")
    new = [one for one in _forwards(qmp, deadline) if one not in before and one.guest_port == guest_port]
    if len(new) != 1 or not new[0].host_port:
        raise ChannelError(
            f"QEMU did not forward a port of the host to port {guest_port} of the guest: "
            f"{str(said).strip() or 'it gave no reason'}"
        )
    if new[0].host != LOOPBACK:
        raise ChannelError(f"QEMU was to listen on {LOOPBACK}, and listens on {new[0].host}")
    return new[0]


def _forwards(qmp: Qmp, deadline: Deadline) -> tuple[Forward, ...]:
    said = qmp.execute("human-monitor-command", deadline, command_line="info usernet")
    return parse_forwards(str(said))
