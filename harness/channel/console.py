"""The kernel's console: read-only, transcribed, and watched for the words of a kernel in trouble."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter

from harness.channel.transcript import Transcript
from harness.linux.klog import EventKind, KernelLog, LogEvent

__all__ = ["Console"]

# A guest that prints one event per line would otherwise grow the list without end. Counted by kind, so that
# a flood of one cannot crowd out another.
EVENTS_OF_A_KIND = 100
# kernel/panic.c, panic(): printed where no crash kernel was started.
PANIC_ENDS = "---[ end Kernel panic"


class Console:
    """Reads one socket from birth until its other end closes.

    `transcript` keeps the bytes; `events` are what the kernel log parser made of them.
    `before`: what was printed earlier, by the machine that this one is a clone of.
    """

    def __init__(self, sock: socket.socket, before: bytes = b"") -> None:
        self.transcript = Transcript()
        self._socket = sock
        self._log = KernelLog()
        self._events: list[LogEvent] = []
        self._counts: Counter[EventKind] = Counter()
        self._panic_expected = False
        self._changed = threading.Condition()
        self._last_output_s = time.monotonic()
        self._closed = False
        if before:
            self._take(before)
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            self._take(data)
            if not data:
                return

    def _take(self, data: bytes) -> None:
        with self._changed:
            self._keep(self._log.feed(data) if data else self._log.finish())
            self._last_output_s = time.monotonic()
            self._closed = not data
            if data:
                self.transcript.append(data)
            self._changed.notify_all()

    def _keep(self, events: tuple[LogEvent, ...]) -> None:
        for event in events:
            if event.kind is EventKind.NEXT_KERNEL:
                self._panic_expected = False
            self._counts[event.kind] += 1
            if self._counts[event.kind] <= EVENTS_OF_A_KIND:
                self._events.append(event)

    @property
    def events(self) -> tuple[LogEvent, ...]:
        """The events so far, oldest first."""
        with self._changed:
            return tuple(self._events)

    @property
    def events_by_kernel(self) -> tuple[tuple[LogEvent, ...], ...]:
        """The events so far of each kernel that ran, the first one's first."""
        kernels: list[list[LogEvent]] = [[]]
        for event in self.events:
            if event.kind is EventKind.NEXT_KERNEL:
                kernels.append([])
            else:
                kernels[-1].append(event)
        return tuple(tuple(events) for events in kernels)

    def expect_kernel(self, *, panic: bool = False) -> None:
        """The kernel is about to start another by kexec: what was fatal to the first is not to the second.

        `panic`: it does so because it panics, which until then is no end of the guest.
        """
        with self._changed:
            self._log.expect_kernel()
            self._panic_expected = panic

    def fatal_event(self) -> LogEvent | None:
        """The first event after which the guest cannot be trusted, or None: of the kernel that runs now."""
        events = self.events_by_kernel[-1]
        return next((event for event in events if event.is_fatal and not self._is_expected(event)), None)

    def fatal_pending(self) -> bool:
        """True while the kernel is in the middle of reporting something fatal."""
        with self._changed:
            kind = self._log.pending
            expected = self._panic_expected and kind is EventKind.PANIC
            return kind is not None and kind.is_fatal and not expected

    def _is_expected(self, event: LogEvent) -> bool:
        """True for a panic that leads to another kernel: one that does not says that it has ended."""
        ended = any(line.startswith(PANIC_ENDS) for line in event.context)
        return event.kind is EventKind.PANIC and self._panic_expected and not ended

    def silent_s(self) -> float:
        """Seconds since the guest last printed anything (or since the console was opened)."""
        with self._changed:
            return time.monotonic() - self._last_output_s

    def drain(self, quiet_s: float, limit_s: float) -> None:
        """Wait for `quiet_s` without output, or the end of the console; for `limit_s` at most."""
        end_s = time.monotonic() + limit_s
        with self._changed:
            while not self._closed and (now := time.monotonic()) < end_s:
                quiet_left = self._last_output_s + quiet_s - now
                if quiet_left <= 0:
                    return
                self._changed.wait(min(quiet_left, end_s - now))

    def close(self) -> None:
        """End the reader; what was transcribed stays readable."""
        with contextlib.suppress(OSError):  # the guest's end may be gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
