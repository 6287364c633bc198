"""Connections to a host: TLS, timeouts, keep-alive, and shutting them from another thread.

requests' adapter is used without its Session: nothing then adds credentials from netrc, cookies, proxies
from the environment, or follows a redirect, and a small request costs a third less.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import weakref
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.origin import is_metadata_service


class _WithoutQueries(logging.Filter):
    """Cuts the queries of addresses, which may be secrets, from what urllib3 logs of each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                one.partition("?")[0] if isinstance(one, str) and "/" in one else one for one in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_WithoutQueries())

_MAX_ORIGINS = 64


@lru_cache(maxsize=64)
def ssl_context(tls_verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's and certifi's authorities, and those in `ca_file`."""
    context = ssl.create_default_context()
    if not tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TransportError(f"the CA file {ca_file} can't be used: {error}", temporary=False) from error
    return context


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


class _Connection(HTTPConnection):
    """What our plain and TLS connections add to urllib3's: a write timeout, and sockets that can be shut.

    urllib3 sends a body under the connect timeout, which is far too short for a registry that flushes parts
    to object storage while it takes a blob.
    """

    write_timeout: float
    sockets: Sockets

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.timeout = self.write_timeout
        super().request(*args, **kwargs)

    def connect(self) -> None:
        super().connect()
        if self.sock is not None:
            self.sockets.add(self.sock)

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but where `Sockets` sees it, and never to where clouds keep credentials."""
        host = self.host.strip("[]")
        failure: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM):
            if is_metadata_service(str(address[0])):
                raise TransportError(
                    f"{self.host} is at {address[0]}, a link-local address, which is never asked", temporary=False
                )
            with ExitStack() as stack:
                try:
                    sock = stack.enter_context(socket.socket(family, kind, protocol))
                    self.sockets.add(sock)
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    sock.settimeout(self.timeout)
                    sock.connect(address)
                except OSError as error:
                    failure = error
                else:
                    stack.pop_all()
                    return sock
        if isinstance(failure, TimeoutError):
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise failure or OSError("the name has no address")


class Adapter(HTTPAdapter):
    """An adapter for connections to hosts with the same settings of TLS and time."""

    def __init__(self, pool_size: int, timeouts: Timeouts, sockets: Sockets, context: ssl.SSLContext | None) -> None:
        class Plain(_Connection):
            write_timeout = timeouts.write

        class Secure(_Connection, HTTPSConnection):
            write_timeout = timeouts.write
            plain_socket: socket.socket | None = None

            def connect(self) -> None:
                try:
                    super().connect()
                finally:
                    if self.plain_socket is not None:
                        self.plain_socket.close()

            def _new_conn(self) -> socket.socket:
                sock = super()._new_conn()
                # The TLS layer takes the socket over and shows its own only after the handshake.
                self.plain_socket = sock.dup()
                self.sockets.add(self.plain_socket)
                return sock

        Plain.sockets = Secure.sockets = sockets

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

            def _validate_conn(self, conn: Any) -> None:
                # As urllib3's, but without its warning: whoever sets tls_verify: false knows.
                if conn.is_closed:
                    conn.connect()

        self._pools = {"http": PlainPool, "https": SecurePool}
        self._context = context
        # Never block for a connection: a transfer holds one to read from and one to write to.
        self._by_origin: dict[str, HTTPConnectionPool] = {}
        super().__init__(pool_connections=_MAX_ORIGINS, pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        options: list[tuple[int, int, int]] = [
            *HTTPConnection.default_socket_options,
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ]
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(connections, maxsize, block, socket_options=options, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ARG002  # TLS is the context's
        proxies: Any = None,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
    ) -> HTTPConnectionPool:
        url = request.url or ""
        end = url.find("/", len("https://"))
        origin = url[:end] if end > 0 else url
        pool = self._by_origin.get(origin)
        if pool is None:
            if len(self._by_origin) >= _MAX_ORIGINS:  # somebody redirects to ever new hosts
                self._by_origin.clear()
                self.poolmanager.clear()
            # The pool manager's own look-up takes a tenth of a small request.
            pool = self._by_origin[origin] = self.poolmanager.connection_from_url(url)
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave TLS to the context: requests would load its bundle again for each connection."""
