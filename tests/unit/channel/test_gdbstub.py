"""Tests of harness.channel.gdbstub against a stub of our own in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from harness.channel.gdbstub import Gdbstub
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded

# QEMU 7.2's form: the prefix `xi` is used and never declared.
TARGET = (
    '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
    '<xi:include href="core.xml"/><xi:include href="sys.xml"/></target>'
)
CORE = '<feature name="core"><reg name="x0" bitsize="64"/><reg name="pc" bitsize="64"/></feature>'
SYSTEM = '<feature name="sys"><reg name="{sctlr}" regnum="90" bitsize="64"/><reg name="TCR_EL1"/></feature>'


def _received(theirs: socket.socket) -> bytes:
    try:
        return theirs.recv(4096)
    except OSError:  # the test is over and has closed it
        return b""


def _stub(theirs: socket.socket, answer: Callable[[str], str]) -> None:
    buffer = b""
    while data := _received(theirs):
        buffer += data.replace(b"+", b"")
        while b"#" in buffer and len(buffer) > buffer.index(b"#") + 2:
            end = buffer.index(b"#")
            body = buffer[1:end].decode()
            buffer = buffer[end + 3 :]
            reply = answer(body)
            theirs.sendall(f"+${reply}#00".encode())


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], str]], Gdbstub]]:
    """Start a stub that answers packets with a function; gives the client."""
    sockets: list[socket.socket] = []

    def start(answer: Callable[[str], str]) -> Gdbstub:
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        threading.Thread(target=_stub, args=(theirs, answer), daemon=True).start()
        return Gdbstub(ours)

    yield start
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _qemu(sctlr: str) -> Callable[[str], str]:
    values = {"p1": "8877665544332211", "p5a": "0d00c53000000000", "p5b": "3400000000000000"}

    def answer(body: str) -> str:
        annexes = {"target.xml": TARGET, "core.xml": CORE, "sys.xml": SYSTEM.format(sctlr=sctlr)}
        for name, text in annexes.items():
            if f":{name}:" in body:
                offset = int(body.rpartition(":")[2].partition(",")[0], 16)
                piece = text[offset : offset + 50]
                return ("l" if offset + 50 >= len(text) else "m") + piece
        fixed = {"qfThreadInfo": "mp01.01", "qsThreadInfo": "l", "Hgp01.01": "OK"}
        return fixed.get(body, values.get(body, ""))

    return answer


@pytest.mark.parametrize("sctlr", ["SCTLR", "SCTLR_EL1"])
def test_registers_by_name(serve: Callable[[Callable[[str], str]], Gdbstub], sctlr: str) -> None:
    """Numbers come from the XML, values are little-endian, older names are found under the newer."""
    gdb = serve(_qemu(sctlr))
    deadline = Deadline.after(10)
    (vcpu,) = gdb.vcpus(deadline)
    assert gdb.registers(vcpu, ("pc", "SCTLR_EL1", "TCR_EL1", "NONE_EL1"), deadline) == {
        "pc": 0x1122334455667788,
        "SCTLR_EL1": 0x30C5000D,
        "TCR_EL1": 0x34,
    }


def test_unsolicited_stop_replies_are_passed_over(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """A stop reply that QMP's `stop` caused is not taken for an answer."""
    gdb = serve(lambda body: "T05thread:p01.01;#b9$mp01.01" if body == "qfThreadInfo" else "l")
    assert gdb.vcpus(Deadline.after(10)) == ("p01.01",)


def test_run_lengths_and_escapes(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """`0* ` means four zeros, and `}` escapes the byte after it (GDB manual, E.1)."""
    gdb = serve(lambda body: "mp0* ,}\x03" if body == "qfThreadInfo" else "l")
    assert gdb.vcpus(Deadline.after(10)) == ("p0000", "#")


def test_silence_ends_at_the_deadline(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """A stub that does not answer is a DeadlineExceeded."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(DeadlineExceeded):
        Gdbstub(ours).vcpus(Deadline.after(0.1))


def test_a_stub_without_a_description_is_an_error(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """A stub that has no target.xml is a ChannelError that names it."""
    gdb = serve(lambda body: "OK" if body.startswith("Hg") else "E00")
    with pytest.raises(ChannelError, match=r"target\.xml"):
        gdb.registers("p1.1", ("pc",), Deadline.after(10))


def test_a_register_is_set(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """The value goes out little-endian, in its size, to the vCPU that was named."""
    asked: list[str] = []

    def answer(body: str) -> str:
        asked.append(body)
        return "OK" if body.startswith("P") else _qemu("SCTLR")(body)

    serve(answer).set_register("p01.01", "pc", 0x3C5, 4, Deadline.after(10))
    assert asked[-2:] == ["Hgp01.01", "P1=c5030000"]


@pytest.mark.parametrize(("name", "match"), [("pc", "did not set pc"), ("NONE", "no register NONE")])
def test_a_register_that_cannot_be_set(
    serve: Callable[[Callable[[str], str]], Gdbstub], name: str, match: str
) -> None:
    """A stub that refuses, and one that has no such register, are ChannelErrors."""
    gdb = serve(_qemu("SCTLR"))
    with pytest.raises(ChannelError, match=match):
        gdb.set_register("p01.01", name, 0, 8, Deadline.after(10))


def test_breakpoint_and_memory(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """The packets are the protocol's (GDB manual, E.2), memory in pieces that QEMU's stub takes."""
    said: list[str] = []

    def answer(body: str) -> str:
        said.append(body)
        return "OK"

    gdb = serve(answer)
    gdb.set_breakpoint(0x672610000, Deadline.after(5))
    gdb.write_memory("p01.01", 0x1000, bytes(range(256)) * 20, Deadline.after(5))
    assert said[:2] == ["Z0,672610000,4", "Hgp01.01"]
    data, next_va = "", 0x1000
    for packet in said[2:]:
        assert len(packet) < 4096
        head, _, part = packet.partition(":")
        assert head == f"M{next_va:x},{len(part) // 2:x}"
        data, next_va = data + part, next_va + len(part) // 2
    assert bytes.fromhex(data) == bytes(range(256)) * 20


def test_refused_by_the_stub(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """An address that is not mapped is an error that names what was wanted."""
    gdb = serve(lambda body: "OK" if body.startswith("Hg") else "E14")
    with pytest.raises(ChannelError, match=r"write 1 bytes at 0x1000: it answered 'E14'"):
        gdb.write_memory("p01.01", 0x1000, b"x", Deadline.after(5))
    with pytest.raises(ChannelError, match="breakpoint at 0x1000"):
        gdb.set_breakpoint(0x1000, Deadline.after(5))


def test_waiting_for_a_stop(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """After `go_on` the stop is reported with the vCPU that made it; none in time is no stop."""
    gdb = serve(lambda body: "T05thread:p01.02;" if body == "c" else "")
    with pytest.raises(DeadlineExceeded):
        gdb.wait_stop(Deadline.after(0))
    gdb.go_on()
    assert gdb.wait_stop(Deadline.after(5)) == "p01.02"


def test_the_guest_ends_instead_of_stopping(serve: Callable[[Callable[[str], str]], Gdbstub]) -> None:
    """The end of the guest (packet W) is not taken for a stop."""
    gdb = serve(lambda _body: "W00")
    gdb.go_on()
    with pytest.raises(ChannelError, match="has ended"):
        gdb.wait_stop(Deadline.after(5))
