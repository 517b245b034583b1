"""What came over a line, kept within bounds: the beginning and the end of it, whatever a guest prints."""

from __future__ import annotations

import threading

__all__ = ["Transcript"]


class Transcript:
    """Bytes in order of arrival. Past `limit_bytes` the middle is dropped and its size is said."""

    def __init__(self, limit_bytes: int = 8 << 20) -> None:
        self._half = limit_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped_bytes = 0
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Add `data` at the end."""
        with self._lock:
            room = self._half - len(self._head)
            self._head += data[:room]
            self._tail += data[room:]
            # Trimmed in steps of a whole half, so that a flood costs one copy per half and not one per read.
            if len(self._tail) > 2 * self._half:
                excess = len(self._tail) - self._half
                del self._tail[:excess]
                self._dropped_bytes += excess

    def content(self) -> bytes:
        """All that is kept, with a line in the gap saying how much is not."""
        with self._lock:
            gap = f"\n[{self._dropped_bytes} bytes not kept]\n".encode() if self._dropped_bytes else b""
            return bytes(self._head) + gap + bytes(self._tail)

    def tail(self, limit_bytes: int) -> bytes:
        """The last bytes of it, at most that many."""
        return self.content()[-limit_bytes:]
