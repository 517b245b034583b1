"""Tests of harness.qemu.forward with a QEMU that has no kernel."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import ChannelError
from harness.qemu.forward import LOOPBACK, open_forward
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import MachineSpec, Wire


def _listening(pid: int) -> set[tuple[str, int]]:
    """Addresses on which a process listens for TCP (proc(5), /proc/net/tcp: state 0A, host byte order)."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, _, port = words[1].partition(":")
                raw = int(address, 16).to_bytes(len(address) // 2, "little")
                dotted = socket.inet_ntoa(raw) if len(raw) == 4 else raw.hex()
                found.add((dotted, int(port, 16)))
    return found


def test_it_listens_where_it_says(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """A machine listens nowhere until it is asked to, then on the one port of loopback that is told."""
    with Machine(replace(idle_spec, wire=Wire()), qemu) as machine:
        assert _listening(machine.process.pid) == set()
        first = open_forward(machine.qmp, 22, Deadline.after(10))
        assert _listening(machine.process.pid) == {(LOOPBACK, first.host_port)}
        second = open_forward(machine.qmp, 22, Deadline.after(10))
        assert {first.host_port, second.host_port} == {port for _, port in _listening(machine.process.pid)}
        with socket.create_connection((first.host, first.host_port), 10):
            pass


def test_a_machine_without_a_network(idle_spec: MachineSpec, qemu: Qemu) -> None:
    """Where there is no network QEMU's refusal is told, and nothing listens."""
    with Machine(idle_spec, qemu) as machine:
        with pytest.raises(ChannelError, match="did not forward"):
            open_forward(machine.qmp, 22, Deadline.after(10))
        assert _listening(machine.process.pid) == set()
