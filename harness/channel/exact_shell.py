"""The shell of a guest whose run is to repeat: it is given input only while stopped, where it asked.

The agent asks by a call to one address (`TRAP_VA`), where the host has a breakpoint: x0 is where bytes go
and x1 how many there is room for. The host stores them there, puts their number into x0, steps over the
instruction, and lets the guest run until it asks again. What the guest says meanwhile is in a file, complete
by then. So every byte comes at the same instruction, whatever the host's threads do.

Each stop costs the guest time, the same in every run: QEMU takes stopped vCPUs for idle ones and goes to the
next timer (QEMU 7.2 util/main-loop.c, main_loop_wait(); accel/tcg/icount-common.c,
icount_start_warp_timer()). May import harness.channel, harness.deadline, harness.determinism, harness.errors.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from harness.channel.command import Completed, short
from harness.channel.gdbstub import Gdbstub
from harness.channel.shell import put_request, raise_if_not_put
from harness.deadline import Deadline
from harness.determinism.conditions import TRAP_VA
from harness.determinism.seed import Seed
from harness.errors import ChannelError, CommandTimeout, DeadlineExceeded, GuestGone

__all__ = ["ExactShell"]

LOOK_S = 0.2
GDB_S = 20.0
ENDING_S = 2.0
READY = b"granule: ready\n"
INSTRUCTION_BYTES = 4
REGISTER_BYTES = 8
SMALL_BYTES = 1 << 16
# A guest that floods its line fills memory of ours; it is given up long before.
OUTPUT_LIMIT_BYTES = 256 << 20


class ExactShell:
    """One command at a time; see harness.channel.shell.Shell, whose place it takes.

    Arguments: `raise_if_gone`, asked while waiting; it raises GuestGone when the guest is beyond answering.
    `limit_bytes`: a guest that says more than that, over all commands, is given up. `go()` once the machine
    may start.
    """

    def __init__(
        self,
        gdb: Gdbstub,
        seed: Seed,
        raise_if_gone: Callable[[], None],
        *,
        limit_bytes: int = OUTPUT_LIMIT_BYTES,
    ) -> None:
        self._gdb = gdb
        self._seed = seed
        self._raise_if_gone = raise_if_gone
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0
        self._requests = 0
        self._greeted = False
        self._given_up = False
        self._thread = ""
        self._kept: bytes | None = None
        self.at_trap = False
        """The guest is stopped and waits for input."""
        self.output = os.memfd_create("granule-shell", os.MFD_CLOEXEC)
        """Descriptor of the file that QEMU writes the line to."""

    def close(self) -> None:
        """Release the file; `transcript` stays readable."""
        if self._kept is None:
            self._kept = self.transcript()
            os.close(self.output)

    def go(self) -> None:
        """Let a machine that was started stopped run to its first request for input."""
        self._gdb.set_breakpoint(TRAP_VA, Deadline.after(GDB_S))
        self._gdb.go_on()

    def give_up(self) -> None:
        """The guest is stopped at no certain instruction: it is given nothing any more."""
        self._given_up = True

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait for the agent's greeting, unless it has come; raises DeadlineExceeded or GuestGone."""
        if self._greeted:
            return
        self._wait_trap(deadline, "the guest's shell")
        if READY not in self._new_output():
            raise ChannelError("the guest's agent asks for input and did not greet")
        self._greeted = True

    def run(self, script: str, deadline: Deadline, *, keep_bytes: int = 1 << 20) -> Completed:
        """Run `script` with `sh -c` in the guest and return its output and exit status.

        Keeps the first `keep_bytes` of output. Raises GuestGone, or CommandTimeout, after which the shell
        cannot be used: an interrupt would come at no certain instruction.
        """
        return self._request(base64.b64encode(script.encode()), b"", deadline, keep_bytes, script)

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        """Copy a file of the host to the absolute path `target` in the guest, keeping its mode."""
        head, data = put_request(source, target)
        raise_if_not_put(self._request(head, data, deadline, SMALL_BYTES, f"put {target}"), target)

    def keep_spare(self, deadline: Deadline) -> NoReturn:
        """Refused: there are no clones of a guest whose run is to repeat. Raises ChannelError."""
        raise ChannelError("a guest whose run is to repeat is booted, and not cloned")

    def renew(self, deadline: Deadline) -> NoReturn:
        """Refused, as `keep_spare` is. Raises ChannelError."""
        raise ChannelError("a guest whose run is to repeat is booted, and not cloned")

    def interactive(self, *, rows: int, columns: int) -> tuple[socket.socket, bytes]:
        """Refused: what is typed comes when it is typed. Raises ChannelError."""
        raise ChannelError("a guest whose run is to repeat has no terminal")

    def transcript(self) -> bytes:
        """All that the guest has said on this line, as far as it is kept."""
        return os.pread(self.output, self._limit_bytes, 0) if self._kept is None else self._kept

    def _request(
        self, body: bytes, payload: bytes, deadline: Deadline, keep_bytes: int, what: str
    ) -> Completed:
        self._requests += 1
        nonce = self._seed.nonce(self._requests).encode()
        try:
            self._feed(nonce + b" " + body + b"\n" + payload, deadline)
            self._wait_trap(deadline, what)
        except DeadlineExceeded as error:
            raise CommandTimeout(str(error), guest_answers=False) from None
        got, mark, status = self._new_output().rpartition(b"\ngranule:" + nonce + b" ")
        if not mark or not re.fullmatch(rb"\d{1,3}\n", status):
            raise ChannelError(f"the guest's agent asks for input and did not end '{short(what)}'")
        return Completed(output=got[:keep_bytes], status=int(status), truncated=len(got) > keep_bytes)

    def _feed(self, data: bytes, deadline: Deadline) -> None:
        while data:
            if not self.at_trap or self._given_up:
                raise ChannelError("the guest is not waiting for input")
            soon = Deadline.after(GDB_S)
            registers = self._gdb.registers(self._thread, ("x0", "x1"), soon)
            if not registers.get("x1"):
                raise ChannelError("the guest asks for input and has no room for it")
            part, data = data[: registers["x1"]], data[registers["x1"] :]
            self._gdb.write_memory(self._thread, registers["x0"], part, soon)
            self._gdb.set_register(self._thread, "x0", len(part), REGISTER_BYTES, soon)
            self._gdb.set_register(self._thread, "pc", TRAP_VA + INSTRUCTION_BYTES, REGISTER_BYTES, soon)
            self.at_trap = False
            self._gdb.go_on()
            if data:
                self._wait_trap(deadline, "the agent to take its input")

    def _wait_trap(self, deadline: Deadline, what: str) -> None:
        if self._given_up:
            raise ChannelError("the guest was stopped by the host's clock, and is not given input any more")
        while True:
            if deadline.expired():
                raise DeadlineExceeded(f"no answer in time to '{short(what)}'")
            try:
                self._thread = self._gdb.wait_stop(deadline.sooner(LOOK_S))
                break
            except DeadlineExceeded:
                self._raise_if_gone()
                self._raise_if_flooded(what)
            except ChannelError:
                self._raise_ended(what)
        pc = self._gdb.registers(self._thread, ("pc",), Deadline.after(GDB_S)).get("pc")
        if pc != TRAP_VA:
            self.give_up()
            where = "nobody knows where" if pc is None else f"at {pc:#x}"
            raise ChannelError(f"the guest stopped {where}, and not where it asks for input")
        self._raise_if_flooded(what)
        self.at_trap = True

    def _raise_if_flooded(self, what: str) -> None:
        if os.fstat(self.output).st_size > self._limit_bytes:
            self.give_up()
            raise ChannelError(
                f"the guest said more than {self._limit_bytes} bytes, the last in '{short(what)}'"
            )

    def _raise_ended(self, what: str) -> NoReturn:
        """Raise GuestGone, with the machine's own reason if it has one."""
        # The stub hangs up a moment before QEMU can be reaped and tell why.
        with contextlib.suppress(DeadlineExceeded):
            Deadline.after(ENDING_S).wait_until(lambda: self._raise_if_gone() is not None, "QEMU's end")
        raise GuestGone(f"QEMU's gdbstub hung up during '{short(what)}'")

    def _new_output(self) -> bytes:
        size_bytes = os.fstat(self.output).st_size
        data = os.pread(self.output, size_bytes - self._taken_bytes, self._taken_bytes)
        self._taken_bytes = size_bytes
        return data
