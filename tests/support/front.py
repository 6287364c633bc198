"""A misbehaving front for a registry: a reverse proxy that by script does to requests what networks and proxies do.

    with Front(registry.host) as front:  # the actions are in faults.py
        front.on("PUT", "/blobs/uploads/", answer(503), times=1)
        front.on("GET", "/blobs/", cut_answer(at=1000), times=2)

A rule applies to the first `times` requests that match it (all, when None), after `skip` others that match; the
first rule that applies wins, and what no rule applies to goes to the registry as it came. Every request is
recorded. Without an upstream the rules are all there is, and everything else is 404.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PIECE = 64 * 1024
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass
class Request:
    """What a client sent, and what became of it."""

    method: str
    #: Path and query, as they came.
    target: str
    headers: Mapping[str, str]
    #: The answer's status; None when there was none.
    status: int | None = None
    #: Bytes of its body that were read.
    received: int = 0
    #: When it came, by the monotonic clock.
    at: float = field(default_factory=time.monotonic)
    #: Whether the connection had carried another request before.
    reused: bool = False
    #: Bytes of the answer's body that were sent.
    sent: int = 0
    under_way: bool = True

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class HungUp(Exception):
    """The connection was closed, by plan or by the client."""


class Exchange:
    """One request under way, with what an action can do to it."""

    def __init__(self, front: Front, handler: BaseHTTPRequestHandler, request: Request) -> None:
        self.front = front
        self.request = request
        self._handler = handler
        self._unread = int(request.headers.get("Content-Length") or 0)

    def body(self, limit: int | None = None) -> Iterable[bytes]:
        """Yield what is left of the request's body, up to a limit."""
        left = self._unread if limit is None else min(limit, self._unread)
        while left > 0:
            piece = self._handler.rfile.read1(min(_PIECE, left))
            if not piece:
                raise HungUp
            self._unread -= len(piece)
            left -= len(piece)
            self.request.received += len(piece)
            yield piece

    def forward(
        self,
        *,
        upload_limit: int | None = None,
        pieces: Callable[[Iterable[bytes]], Iterable[bytes]] = lambda pieces: pieces,
    ) -> http.client.HTTPResponse:
        """Send the request on and return the registry's response.

        With a limit, cut off after so much of the body; `pieces` changes what is sent of it.
        """
        upstream = self._upstream()
        try:
            upstream.putrequest(self.request.method, self.request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.request.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders()
            for piece in pieces(self.body(upload_limit)):
                upstream.send(piece)
            if self._unread:
                raise HungUp
            response = upstream.getresponse()
        except BaseException:
            upstream.close()
            raise
        return response

    def challenges(self) -> list[str]:
        """Return what the registry says to somebody without a login who sends this request."""
        upstream = self._upstream()
        try:
            upstream.request(self.request.method, self.request.target, headers={"Content-Length": "0"})
            response = upstream.getresponse()
            response.read()
        finally:
            upstream.close()
        return response.headers.get_all("WWW-Authenticate", [])

    def tell(self, method: str, target: str) -> int:
        """Send the registry a request of the front's own, and return the answer's status."""
        upstream = self._upstream()
        try:
            upstream.request(method, target)
            return upstream.getresponse().status
        finally:
            upstream.close()

    def _upstream(self) -> http.client.HTTPConnection:
        if self.front.upstream is None:
            raise RuntimeError("the front has no upstream")
        return http.client.HTTPConnection(self.front.upstream, timeout=60)

    def reply(
        self,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
        *,
        length: int | None = None,
    ) -> None:
        """Answer; `length` is the Content-Length where it is not the body's."""
        handler = self._handler
        self.request.status = status
        if self._unread:
            handler.close_connection = True
        pieces: Iterable[bytes] = (body,) if isinstance(body, bytes) else body
        if length is None and isinstance(body, bytes):
            length = len(body)
        handler.send_response_only(status)
        names = set()
        for name, value in headers:
            names.add(name.lower())
            if name.lower() == "content-length" and value.isdecimal():
                length = int(value)
            handler.send_header(name, value)
        if length is not None and "content-length" not in names and "transfer-encoding" not in names:
            handler.send_header("Content-Length", str(length))
        if handler.close_connection:
            handler.send_header("Connection", "close")
        if self.request.method == "HEAD" or length == 0:
            pieces = ()
            self.front.leave(self.request)
        handler.end_headers()
        for piece in pieces:
            if self.request.sent + len(piece) == length:
                self.front.leave(self.request)
            handler.wfile.write(piece)
            self.request.sent += len(piece)

    def pass_on(
        self,
        response: http.client.HTTPResponse,
        *,
        headers: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] = lambda names: names,
        pieces: Callable[[Iterable[bytes]], Iterable[bytes]] = lambda pieces: pieces,
    ) -> None:
        """Answer with the registry's response, its headers and the pieces of its body changed by these functions."""
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        with response:
            self.reply(response.status, headers(kept), pieces(iter(lambda: response.read1(_PIECE), b"")))

    def send(self, data: bytes) -> None:
        """Send something as it is, an answer's head or a part of one."""
        self._handler.wfile.write(data)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection, with a reset or in order."""
        connection = self._handler.connection
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.shutdown(socket.SHUT_RDWR)
        raise HungUp

    def stall(self, seconds: float | None = None) -> None:
        """Do nothing for so long; without an end, until the client hangs up or the front closes."""
        if seconds is not None:
            self.front.closing.wait(seconds)
            return
        poll = select.poll()
        poll.register(self._handler.connection, select.POLLRDHUP)
        while not self.front.closing.is_set() and not poll.poll(20):
            pass
        raise HungUp


Action = Callable[[Exchange], None]


def pass_through(exchange: Exchange) -> None:
    """Do what the front does without a rule."""
    if exchange.front.upstream is None:
        exchange.reply(404)
    else:
        exchange.pass_on(exchange.forward())


@dataclass
class _Rule:
    method: str | None
    pattern: re.Pattern[str]
    action: Action
    times: int | None
    skip: int
    when: Callable[[Request], bool] | None

    def applies(self, request: Request) -> bool:
        """Whether this rule is for a request; counts."""
        if self.method not in (None, request.method) or not self.pattern.search(request.target):
            return False
        if self.when is not None and not self.when(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass
class Front:
    """The front; a context manager. `upstream` is the registry's HOST:PORT, `tls` certificate and key of the front."""

    upstream: str | None = None
    tls: tuple[Path, Path] | None = None
    requests: list[Request] = field(default_factory=list)
    #: The most requests that were under way at once.
    most: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._under_way = 0
        self._server: _Server | None = None
        self._port = 0

    @property
    def host(self) -> str:
        """The address as it stands in image references."""
        if not self._port:
            raise RuntimeError("the front has not been started")
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def on(
        self,
        method: str | None,
        pattern: str,
        action: Action,
        *,
        times: int | None = None,
        skip: int = 0,
        when: Callable[[Request], bool] | None = None,
    ) -> None:
        """Add a rule: `pattern` is looked for in the target (path and query), `method` None means any."""
        with self._lock:
            self._rules.append(_Rule(method, re.compile(pattern), action, times, skip, when))

    def seen(self, method: str | None = None, pattern: str = "") -> list[Request]:
        """Return the recorded requests that match."""
        with self._lock:
            requests = list(self.requests)
        return [one for one in requests if method in (None, one.method) and re.search(pattern, one.target)]

    def forget(self) -> None:
        """Drop all rules and records."""
        with self._lock:
            for request in self.requests:
                request.under_way = False
            self._rules.clear()
            self.requests.clear()
            self.most = self._under_way = 0

    def start(self) -> Self:
        """Serve on a thread; after `refuse`, again at the same address."""
        if self._server is not None:
            return self
        server = _Server(("127.0.0.1", self._port), _handler(self))
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            server.tls = context
        self._server, self._port = server, server.server_port
        threading.Thread(target=server.serve_forever, args=(0.05,), name="front", daemon=True).start()
        return self

    def stop(self) -> None:
        """Take no more connections, and end those that stall."""
        self.closing.set()
        self._close()

    def refuse(self) -> None:
        """Close the port and every connection: clients are refused until the next `start`."""
        server = self._close()
        if server is not None:
            server.end_connections()

    def _close(self) -> _Server | None:
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        return server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def serve(self, handler: BaseHTTPRequestHandler, *, reused: bool = False) -> None:
        """Answer one request by the rules; `reused` says that its connection has carried others before."""
        request = Request(handler.command, handler.path, dict(handler.headers.items()), reused=reused)
        with self._lock:
            self.requests.append(request)
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            action = next((rule.action for rule in self._rules if rule.applies(request)), None)
        try:
            if action is None:
                action = pass_through
            action(Exchange(self, handler, request))
        except (HungUp, OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            self.leave(request)

    def leave(self, request: Request) -> None:
        """Count a request as answered: before its last byte goes out, since the client may be quicker than we are."""
        with self._lock:
            if request.under_way:
                request.under_way = False
                self._under_way -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        # The handshake is done here, on the connection's own thread.
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        with self._lock:
            self._connections.add(request)
        super().finish_request(request, client_address)

    def end_connections(self) -> None:
        """Shut every connection, whatever goes on there."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what this is for."""


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60

        used = False

        def handle_any(self) -> None:
            reused, self.used = self.used, True
            front.serve(self, reused=reused)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Say nothing: requests are recorded."""

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    return Handler
