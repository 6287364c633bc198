"""Sockets that can be shut from another thread, and that notice when an answer only drips."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

from airflow_imagesync.domain.timeouts import Timeouts

#: More than http.client takes for the headers of one answer; a server may send interim answers (1xx) without end.
_MAX_HEAD = 8 * 1024 * 1024


class SlowAnswer(ConnectionError):
    """An answer has begun and then came too slowly."""


class EndlessHead(ConnectionError):
    """An answer did not come to its body."""


class Drip:
    """Watches how fast the answers on one connection come.

    Only time spent waiting for the peer counts: while we pass on what came, or wait for the other side of a copy,
    the peer is not slow. The wait for an answer to begin has its own timeout and does not count either.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self.restart()

    def restart(self) -> None:
        """A request is being sent."""
        #: Whether the answer's body is next.
        self.past_head = False
        self._head = 0
        self._begun = False
        self._waited = 0.0
        self._received = 0

    def note(self, seconds: float, count: int) -> None:
        """Note that so many bytes came after so many seconds. Raises SlowAnswer and EndlessHead."""
        self._received += count
        if not self.past_head:
            self._head += count
            if self._head > _MAX_HEAD:
                raise EndlessHead(f"{self._head} bytes")
        if not self._begun:
            self._begun = True
            return
        self._waited += seconds
        if self._waited < self._timeouts.slow:
            return
        if self._received < self._timeouts.min_rate * self._waited:
            raise SlowAnswer(f"{self._received} bytes in {self._waited:.0f} s")
        self._waited, self._received = 0.0, 0


class PlainSocket(socket.socket):
    """A socket whose receiving is watched once it has a `drip`."""

    drip: Drip | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if self.drip is None:
            return super().recv_into(buffer, nbytes, flags)
        begun = time.monotonic()
        count = super().recv_into(buffer, nbytes, flags)
        self.drip.note(time.monotonic() - begun, count)
        return count


class TLSSocket(ssl.SSLSocket):
    """The same under TLS; made by a context whose ``sslsocket_class`` it is."""

    drip: Drip | None = None

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        if self.drip is None:
            return super().read(size, buffer)
        begun = time.monotonic()
        piece: Any = super().read(size, buffer)
        self.drip.note(time.monotonic() - begun, len(piece) if buffer is None else piece)
        return piece

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of `data` within the timeout, as plain sockets do; the base class gives each 16 KiB as long."""
        timeout = self.gettimeout()
        deadline = None if timeout is None else time.monotonic() + timeout
        with memoryview(data) as view, view.cast("B") as left:
            sent = 0
            while sent < left.nbytes:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError("timed out")
                sent += self.send(left[sent:], flags)


class Sockets:
    """The sockets of a transport, whoever holds them, so that all can be shut from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def add(self, sock: socket.socket) -> None:
        """Note a socket; it is forgotten when nobody uses it any more."""
        with self._lock:
            self._open.add(sock)

    def shut(self) -> None:
        """Shut all, so that threads that wait on one return at once."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with suppress(OSError):
                # Past SSLSocket.shutdown, which is not made to be called while another thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
