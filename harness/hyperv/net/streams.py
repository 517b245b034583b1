"""What is at the end of a TCP connection: takes bytes, gives bytes, and says when it has no more."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

__all__ = ["BUFFER_BYTES", "Echo", "Http", "Sink", "Source", "Stream"]

BUFFER_BYTES: Final = 0x7_FFF8
"""The largest window, with SCALE."""
MAX_REQUEST_BYTES: Final = 8192


class Stream(Protocol):
    """One connection's end. A `room` that shrinks does not take back what was offered before."""

    @property
    def room(self) -> int:
        """Bytes that can be taken now."""
        ...

    @property
    def done(self) -> bool:
        """True: `pull` will never give anything again."""
        ...

    def received(self, data: bytes) -> None:
        """The next bytes of the peer's."""
        ...

    def ended(self) -> None:
        """The peer has sent all."""
        ...

    def pull(self, size_bytes: int) -> bytes:
        """The next bytes for the peer, at most so many; none: not now."""
        ...


class _Sender:
    """A stream that gives what lies in `_left`."""

    def __init__(self, data: bytes = b"") -> None:
        self._left = memoryview(data)

    def pull(self, size_bytes: int) -> bytes:
        """See Stream."""
        data = bytes(self._left[:size_bytes])
        self._left = self._left[size_bytes:]
        return data


class Sink(_Sender):
    """Takes everything and, once the peer has sent all, answers with count and MD5 sum in a line.

    Arguments: `expected_bytes`, after which to answer too: busybox's nc ends only when its peer does.
    """

    def __init__(self, expected_bytes: int | None = None) -> None:
        super().__init__()
        self._expected = expected_bytes
        self.size_bytes = 0
        self.complete = False
        self._sum = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        """Of what came so far."""
        return self._sum.hexdigest()

    @property
    def room(self) -> int:
        """See Stream."""
        return BUFFER_BYTES

    @property
    def done(self) -> bool:
        """See Stream."""
        return self.complete and not self._left

    def received(self, data: bytes) -> None:
        """See Stream."""
        if self._expected is not None:
            data = data[: self._expected - self.size_bytes]
        self.size_bytes += len(data)
        self._sum.update(data)
        if self.size_bytes == self._expected:
            self.ended()

    def ended(self) -> None:
        """See Stream."""
        if self.complete:
            return
        self.complete = True
        self._left = memoryview(f"{self.size_bytes} {self.md5}\n".encode())


class Source(_Sender):
    """Gives the same bytes to everybody, and ignores what it is told."""

    @property
    def room(self) -> int:
        """See Stream."""
        return BUFFER_BYTES

    @property
    def done(self) -> bool:
        """See Stream."""
        return not self._left

    def received(self, data: bytes) -> None:
        """See Stream."""

    def ended(self) -> None:
        """See Stream."""


class Echo:
    """Gives back what it takes, and takes no more than it can keep."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._ended = False

    @property
    def room(self) -> int:
        """See Stream."""
        return max(0, BUFFER_BYTES - len(self._kept))

    @property
    def done(self) -> bool:
        """See Stream."""
        return self._ended and not self._kept

    def received(self, data: bytes) -> None:
        """See Stream."""
        self._kept += data

    def ended(self) -> None:
        """See Stream."""
        self._ended = True

    def pull(self, size_bytes: int) -> bytes:
        """See Stream."""
        data = bytes(self._kept[:size_bytes])
        del self._kept[:size_bytes]
        return data


class Http(_Sender):
    """Answers one GET with a content, whatever its path, and anything else with an error (RFC 9112)."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content
        self._request = bytearray()
        self._answered = False

    @property
    def room(self) -> int:
        """See Stream."""
        return BUFFER_BYTES

    @property
    def done(self) -> bool:
        """See Stream."""
        return self._answered and not self._left

    def received(self, data: bytes) -> None:
        """See Stream."""
        if self._answered:
            return
        self._request += data
        if b"\r\n\r\n" in self._request:
            ok = self._request.startswith(b"GET ")
            self._answer("200 OK" if ok else "405 Method Not Allowed", self._content if ok else b"")
        elif len(self._request) > MAX_REQUEST_BYTES:
            self._answer("431 Request Header Fields Too Large", b"")

    def ended(self) -> None:
        """See Stream."""
        if not self._answered:
            self._answer("400 Bad Request", b"")

    def _answer(self, status: str, content: bytes) -> None:
        self._answered = True
        self._request.clear()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        self._left = memoryview(head.encode() + content)
