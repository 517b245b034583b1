"""The one peer of a guest's network: it sends back what it receives."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

__all__ = ["EchoPeer"]

# What a guest may send without reading it back. One that sends more is hung up on.
HELD_LIMIT_BYTES = 64 << 20


class EchoPeer:
    """Answers, byte for byte, whatever the guest sends to 10.0.2.100 port 7.

    It always reads: QEMU writes to its end with its main loop held (net/slirp.c, guestfwd_write), so a peer
    that waited for its own answer to be taken would stop the whole machine.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="echo-peer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        held = bytearray()
        # QEMU may end, and the guest with it, at any moment.
        with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
            key = selector.register(self._socket, selectors.EVENT_READ)
            while len(held) <= HELD_LIMIT_BYTES:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if held else 0)
                if key.events != wanted:
                    key = selector.modify(self._socket, wanted)
                ((_, events),) = selector.select()
                if events & selectors.EVENT_READ:
                    data = self._socket.recv(1 << 16)
                    if not data:
                        return
                    held += data
                if events & selectors.EVENT_WRITE and held:
                    del held[: self._socket.send(held)]
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and end the thread."""
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
