"""Tests of harness.qemu.forward on what QEMU 7.2 printed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.channel.qmp import Qmp
from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.qemu.forward import Forward, open_forward, parse_forwards

# QEMU 7.2.22 with libslirp 4.7, as `info usernet` answered: with one forward and two connections that ended.
HEAD = "Hub -1 (wire):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
ENDED = (
    "  TCP[FIN_WAIT_1]    16       127.0.0.1 33281       10.0.2.15    22     0    96\r\n"
    "  TCP[TIME_WAIT]     15       127.0.0.1 33281       10.0.2.15    22     0     0\r\n"
)
OPEN = "  TCP[HOST_FORWARD]  10       127.0.0.1 33281       10.0.2.15    22     0     0\r\n"
OTHER = "  TCP[HOST_FORWARD]  11       127.0.0.1 40001       10.0.2.15    80     0     0\r\n"
WIDE = "  TCP[HOST_FORWARD]  12               * 40002       10.0.2.15    22     0     0\r\n"


def test_forwards_are_told_from_connections() -> None:
    """Of all the sockets only those that listen for us are taken, with the port that they got."""
    assert parse_forwards(HEAD + ENDED + OPEN + OTHER) == (
        Forward(host="127.0.0.1", host_port=33281, guest_port=22),
        Forward(host="127.0.0.1", host_port=40001, guest_port=80),
    )


@pytest.mark.parametrize("text", ["", HEAD, HEAD + ENDED, "VLAN 0:\n", OPEN.replace("33281", "999999")])
def test_no_forward(text: str) -> None:
    """Where there is none, none is found, whatever else is printed."""
    assert parse_forwards(text) == ()


class Monitor:
    """Answers `info usernet` with one text before `hostfwd_add` and another after it."""

    def __init__(self, before: str, after: str, said: str = "") -> None:
        self.before, self.after, self.said = before, after, said
        self.added: list[str] = []

    def execute(self, command: str, _deadline: Deadline, *, command_line: str) -> Any:
        """As Qmp's."""
        assert command == "human-monitor-command"
        if command_line == "info usernet":
            return self.after if self.added else self.before
        self.added.append(command_line)
        return self.said


def _open(monitor: Monitor) -> Forward:
    return open_forward(cast(Qmp, monitor), 22, Deadline.after(1))


def test_the_port_is_the_host_kernels_choice() -> None:
    """QEMU is asked for port 0 on loopback, and then which one it got; older ones are passed over."""
    monitor = Monitor(HEAD + OPEN, HEAD + OPEN + OPEN.replace("33281", "33282"))
    assert _open(monitor).host_port == 33282
    assert monitor.added == ["hostfwd_add wire tcp:127.0.0.1:0-:22"]


@pytest.mark.parametrize("after", [HEAD, HEAD + OTHER, HEAD + OPEN.replace("33281", "0")])
def test_a_forward_that_is_not_there(after: str) -> None:
    """A refusal is an error with QEMU's words."""
    with pytest.raises(ChannelError, match="invalid host forwarding rule"):
        _open(Monitor(HEAD, after, "invalid host forwarding rule 'tcp:127.0.0.1:0-:22'\r\n"))


def test_a_forward_for_everybody() -> None:
    """A QEMU that would listen on more than loopback is not used."""
    with pytest.raises(ChannelError, match=r"listens on \*"):
        _open(Monitor(HEAD, HEAD + WIDE))
