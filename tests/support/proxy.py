"""A small HTTP proxy: tunnels for HTTPS, forwarding for HTTP, a password if wanted, and a record of everything.

with Proxy(login=("user", "secret")) as proxy:
    Transport(proxy=f"http://user:secret@{proxy.host}").send("GET", url, {})
    proxy.requests
"""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

_PIECE = 64 * 1024
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-authorization"})


class ProxyRequest(NamedTuple):
    """What a client asked the proxy for; ``target`` is ``host:port`` for CONNECT and an address otherwise."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass
class Proxy:
    """The proxy; a context manager.

    `login` is the user and password it wants. `refusal` is a status that it answers instead of doing anything. `tls`
    has it speak TLS with its clients, by this certificate and key.
    """

    login: tuple[str, str] | None = None
    refusal: int | None = None
    tls: tuple[Path, Path] | None = None
    requests: list[ProxyRequest] = field(default_factory=list)
    #: Everything that clients sent through tunnels.
    tunnelled: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None

    @property
    def host(self) -> str:
        """Host and port."""
        if self._server is None:
            raise RuntimeError("the proxy has not been started")
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The address as it stands in settings, without a login."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def seen(self, method: str) -> list[ProxyRequest]:
        """Return the requests of one method."""
        return [one for one in list(self.requests) if one.method == method]

    def __enter__(self) -> Self:
        self._server = server = _Server(("127.0.0.1", 0), _handler(self))
        if self.tls is not None:
            server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.tls.load_cert_chain(*self.tls)
        threading.Thread(target=server.serve_forever, args=(0.05,), name="proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def refuses(self, handler: BaseHTTPRequestHandler) -> int | None:
        """Record a request; return the status it is refused with, or None."""
        self.requests.append(ProxyRequest(handler.command, handler.path, dict(handler.headers.items())))
        if self.login is not None:
            expected = base64.b64encode(":".join(self.login).encode()).decode()
            if handler.headers.get("Proxy-Authorization") != f"Basic {expected}":
                return 407
        return self.refusal


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60

        def do_CONNECT(self) -> None:
            self.close_connection = True
            refusal = proxy.refuses(self)
            if refusal is not None:
                self.answer(refusal)
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), 10) as upstream:
                self.send_response_only(200)
                self.end_headers()
                self.tunnel(upstream)

        def tunnel(self, upstream: socket.socket) -> None:
            other = {self.connection: upstream, upstream: self.connection}
            while True:
                pending = isinstance(self.connection, ssl.SSLSocket) and self.connection.pending()
                ready = [self.connection] if pending else select.select(list(other), [], [], 60)[0]
                for one in ready:
                    piece = one.recv(_PIECE)
                    if not piece:
                        return
                    if one is self.connection:
                        proxy.tunnelled += piece
                    other[one].sendall(piece)

        def forward(self) -> None:
            refusal = proxy.refuses(self)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if refusal is not None:
                self.answer(refusal)
                return
            target = urlsplit(self.path)
            upstream = http.client.HTTPConnection(target.netloc, timeout=60)
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, target._replace(scheme="", netloc="").geturl(), body, kept)
            with upstream.getresponse() as response:
                data = response.read()
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def answer(self, status: int) -> None:
            self.send_response_only(status)
            if status == 407:
                self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Say nothing: requests are recorded."""

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.forward)
    return Handler
