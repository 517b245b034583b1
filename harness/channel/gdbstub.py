"""QEMU's gdbstub: the registers of every vCPU, system registers included.

The protocol is the GDB Remote Serial Protocol (GDB manual, appendix E). What QEMU adds for Arm is in its
target/arm/gdbstub.c: the annex `system-registers.xml`, feature `org.qemu.gdb.arm.sys.regs`. Register
numbers differ per CPU model and QEMU version and are taken from the XML, never assumed. Registers are
only asked for once `target.xml` has been read on the connection: QEMU answers `p` with nothing before.
"""

from __future__ import annotations

import re
import socket
from xml.etree import ElementTree

from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded

__all__ = ["Gdbstub"]

# Registers of QEMU 7.2 to 11 whose name changed on the way, as {newer name: older name}.
RENAMED = {
    "SCTLR_EL1": "SCTLR",
    "VBAR_EL1": "VBAR",
    "AMAIR_EL1": "AMAIR0",
    "ID_AA64MMFR3_EL1": "ID_AA64MMFR3_EL1_RESERVED",
}
XML_LIMIT_BYTES = 4 << 20
# QEMU gdbstub.c, MAX_PACKET_LENGTH, is 4096 characters; two make a byte.
WRITE_BYTES = 1536
XINCLUDE = "http://www.w3.org/2001/XInclude"


class Gdbstub:
    """One connection to the stub of a machine. Use only while the vCPUs are stopped, but for `wait_stop`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._numbers: dict[str, int] | None = None

    def vcpus(self, deadline: Deadline) -> tuple[str, ...]:
        """The stub's thread ids, one per vCPU, in order."""
        answer = self._ask("qfThreadInfo", deadline)
        threads: list[str] = []
        while answer.startswith("m"):
            threads += answer[1:].split(",")
            answer = self._ask("qsThreadInfo", deadline)
        return tuple(threads)

    def registers(self, thread: str, names: tuple[str, ...], deadline: Deadline) -> dict[str, int]:
        """The named registers of one vCPU (QEMU 10.2's names); those it does not have are left out."""
        numbers = self._register_numbers(deadline)
        self._choose(thread, deadline)
        values: dict[str, int] = {}
        for name in names:
            number = numbers.get(name, numbers.get(RENAMED.get(name, ""), None))
            if number is None:
                continue
            answer = self._ask(f"p{number:x}", deadline)
            if re.fullmatch("(?:[0-9a-f]{2})+", answer):
                values[name] = int.from_bytes(bytes.fromhex(answer), "little")
        return values

    def set_register(self, thread: str, name: str, value: int, size_bytes: int, deadline: Deadline) -> None:
        """Set a register of one vCPU; raises ChannelError when the stub does not take it.

        QEMU ignores, and says nothing of it, when a system register is set (target/arm/gdbstub.c).
        """
        number = self._register_numbers(deadline).get(name)
        if number is None:
            raise ChannelError(f"QEMU's gdbstub has no register {name}")
        self._choose(thread, deadline)
        hexadecimal = value.to_bytes(size_bytes, "little").hex()
        self._want(f"P{number:x}={hexadecimal}", f"set {name}", deadline)

    def set_breakpoint(self, va: int, deadline: Deadline) -> None:
        """Stop whichever vCPU is to execute the A64 instruction at `va`, in any address space."""
        self._want(f"Z0,{va:x},4", f"set a breakpoint at {va:#x}", deadline)

    def write_memory(self, thread: str, va: int, data: bytes, deadline: Deadline) -> None:
        """Store bytes where a vCPU has `va` mapped; whether it may write there itself does not matter."""
        self._choose(thread, deadline)
        for start in range(0, len(data), WRITE_BYTES):
            part = data[start : start + WRITE_BYTES]
            what = f"write {len(part)} bytes at {va + start:#x}"
            self._want(f"M{va + start:x},{len(part):x}:{part.hex()}", what, deadline)

    def go_on(self) -> None:
        """Let all vCPUs run; `wait_stop` says when one is at a breakpoint."""
        try:
            self._socket.sendall(b"$c#63")
        except OSError as error:
            raise ChannelError(f"QEMU's gdbstub: the connection broke ({error})") from error

    def wait_stop(self, deadline: Deadline) -> str:
        """Wait until the machine stops; returns the thread id of the vCPU that made it stop.

        Raises DeadlineExceeded, after which it may be asked again, and ChannelError when QEMU ends.
        """
        while True:
            try:
                answer = self._packet(deadline)
            except OSError as error:
                raise ChannelError(f"QEMU's gdbstub: the connection broke ({error})") from error
            if answer.startswith(("W", "X")):
                raise ChannelError("QEMU's gdbstub says that the guest has ended")
            stopped = re.match(r"T[0-9a-f]{2}(?:.*;)?thread:([0-9a-fp.]+);", answer)
            if stopped:
                return stopped[1]

    def _want(self, body: str, what: str, deadline: Deadline) -> None:
        answer = self._ask(body, deadline)
        if answer != "OK":
            raise ChannelError(f"QEMU's gdbstub did not {what}: it answered {answer[:40]!r}")

    def _choose(self, thread: str, deadline: Deadline) -> None:
        if self._ask(f"Hg{thread}", deadline) != "OK":
            raise ChannelError(f"QEMU's gdbstub knows no vCPU {thread}")

    def _register_numbers(self, deadline: Deadline) -> dict[str, int]:
        """Register numbers by name, as the target description counts them (GDB manual, G.2.7)."""
        if self._numbers is None:
            numbers: dict[str, int] = {}
            following = 0
            target = self._annex("target.xml", deadline)
            includes = [element.get("href", "") for element in target.iter(f"{{{XINCLUDE}}}include")]
            for feature in [target, *(self._annex(name, deadline) for name in includes)]:
                for register in feature.iter("reg"):
                    following = int(register.get("regnum", following))
                    numbers.setdefault(register.get("name", ""), following)
                    following += 1
            self._numbers = numbers
        return self._numbers

    def _annex(self, name: str, deadline: Deadline) -> ElementTree.Element:
        text = ""
        while len(text) < XML_LIMIT_BYTES:
            answer = self._ask(f"qXfer:features:read:{name}:{len(text):x},ffb", deadline)
            text += answer[1:]
            if answer.startswith("l"):
                # QEMU uses the prefix `xi` without declaring it, as GDB allows.
                text = text.replace("<target>", f'<target xmlns:xi="{XINCLUDE}">', 1)
                # The text comes from QEMU, which is as trusted as the program that started it.
                try:
                    return ElementTree.fromstring(text)  # noqa: S314
                except ElementTree.ParseError as error:
                    raise ChannelError(f"QEMU's gdbstub sent a {name} that is no XML: {error}") from error
            if not answer.startswith("m"):
                raise ChannelError(f"QEMU's gdbstub has no {name}: it answered {answer[:40]!r}")
        raise ChannelError(f"QEMU's gdbstub sent more than {XML_LIMIT_BYTES} bytes of {name}")

    def _ask(self, body: str, deadline: Deadline) -> str:
        checksum = sum(body.encode()) & 0xFF
        try:
            self._socket.sendall(f"${body}#{checksum:02x}".encode())
            while True:
                answer = self._packet(deadline)
                # QMP's `stop` makes the stub send a stop reply that nobody asked for.
                if not (answer.startswith(("T", "S")) and not body.startswith("?")):
                    return answer
        except OSError as error:
            raise ChannelError(f"QEMU's gdbstub: the connection broke ({error})") from error

    def _packet(self, deadline: Deadline) -> str:
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start + 1) if start >= 0 else -1
            if 0 <= start < end and len(self._buffer) >= end + 3:
                body = bytes(self._buffer[start + 1 : end])
                del self._buffer[: end + 3]
                self._socket.sendall(b"+")
                return _expand(body).decode("latin-1")
            self._socket.settimeout(max(deadline.left_s(), 0.001))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise DeadlineExceeded("no answer in time from QEMU's gdbstub") from None
            if not data:
                raise ChannelError("QEMU's gdbstub hung up")
            self._buffer += data


def _expand(body: bytes) -> bytes:
    """Undo the escapes and run lengths of a packet (GDB manual, E.1)."""
    out = bytearray()
    position = 0
    while position < len(body):
        byte = body[position]
        if byte == ord("}") and position + 1 < len(body):
            out.append(body[position + 1] ^ 0x20)
            position += 2
        elif byte == ord("*") and out and position + 1 < len(body):
            out += bytes([out[-1]]) * max(0, body[position + 1] - 29)
            position += 2
        else:
            out.append(byte)
            position += 1
    return bytes(out)
