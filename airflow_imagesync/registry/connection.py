"""Connections to a host: TLS, proxies, timeouts, and keep-alive.

requests' adapter is used without its Session: nothing then adds credentials from netrc, cookies, proxies
from the environment, or follows a redirect, and a small request costs a third less.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import urldefragauth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssltransport import SSLTransport

from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.origin import is_metadata_service
from airflow_imagesync.registry.proxy import Proxy, proxy_for
from airflow_imagesync.registry.sockets import Drip, PlainSocket, Sockets
from airflow_imagesync.registry.tls import Tls, ssl_context


class _WithoutQueries(logging.Filter):
    """Cuts the queries of addresses, which may be secrets, from what urllib3 logs of each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                one.partition("?")[0] if isinstance(one, str) and "/" in one else one for one in record.args
            )
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_WithoutQueries())

_MAX_ORIGINS = 64
#: Of the addresses of a name so many are tried: each may take the whole time to connect.
_MAX_ADDRESSES = 6


class _Connection(HTTPConnection):
    """What our plain and TLS connections add to urllib3's.

    A write timeout: urllib3 sends a body under the connect timeout, which is far too short for a registry that
    flushes parts to object storage while it takes a blob. Sockets that can be shut, and that notice a peer that drips.
    """

    timeouts: Timeouts
    sockets: Sockets
    drip: Drip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drip = Drip(self.timeouts)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.drip.restart()
        self.timeout = self.timeouts.write
        super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        response = super().getresponse()
        self.drip.past_head = True
        return response

    def connect(self) -> None:
        super().connect()
        # Through a proxy that speaks TLS itself, TLS is spoken over its socket.
        sock: Any = self.sock.socket if isinstance(self.sock, SSLTransport) else self.sock
        if sock is not None:
            sock.drip = self.drip
            self.sockets.add(sock)

    def _tunnel(self) -> None:
        """Ask a proxy for a connection, as urllib3 does, but let its failures be known for the proxy's."""
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as error:
            raise urllib3.exceptions.ProxyError("no tunnel", error) from error

    def _new_conn(self) -> socket.socket:
        """Connect as urllib3 does, but where `Sockets` sees it, and never to where clouds keep credentials."""
        host = self.host.strip("[]")
        failure: OSError | None = None
        found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found[:_MAX_ADDRESSES]:
            if is_metadata_service(str(address[0])):
                raise TransportError(
                    f"{self.host} is at {address[0]}, a cloud's metadata service or another link-local address, "
                    "which is never asked",
                    temporary=False,
                )
            with ExitStack() as stack:
                try:
                    sock = stack.enter_context(PlainSocket(family, kind, protocol))
                    self.sockets.add(sock)
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    sock.settimeout(self.timeout)
                    sock.connect(address)
                except OSError as error:
                    failure = error
                else:
                    stack.pop_all()
                    # For the answer of a proxy to CONNECT.
                    self.drip.restart()
                    sock.drip = self.drip
                    return sock
        if isinstance(failure, TimeoutError):
            raise urllib3.exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise failure or OSError("the name has no address")


class Adapter(HTTPAdapter):
    """An adapter for the connections of one registry.

    `tls` are its settings of TLS; the client certificate is shown at origins for which `shows_certificate` is true.
    `proxy` is its setting of a proxy, see `proxy_for`.
    """

    def __init__(
        self,
        pool_size: int,
        timeouts: Timeouts,
        sockets: Sockets,
        tls: Tls | None = None,
        proxy: str | None = None,
        shows_certificate: Callable[[str], bool] = lambda _: False,
    ) -> None:
        class Plain(_Connection):
            pass

        class Secure(_Connection, HTTPSConnection):
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
        Plain.timeouts = Secure.timeouts = timeouts

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

            def _validate_conn(self, conn: Any) -> None:
                # As urllib3's, but without its warning: whoever sets tls_verify: false knows.
                if conn.is_closed:
                    conn.connect()

        self._pools = {"http": PlainPool, "https": SecurePool}
        self._tls = tls or Tls()
        self._proxy = proxy
        self._shows_certificate = shows_certificate
        self._by_origin: dict[str, HTTPConnectionPool] = {}
        self._lock = threading.Lock()
        # Never block for a connection: a transfer holds one to read from and one to write to.
        super().__init__(pool_connections=_MAX_ORIGINS, pool_maxsize=pool_size, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self._options: dict[str, Any] = {
            "num_pools": connections,
            "maxsize": maxsize,
            "block": block,
            "socket_options": [
                *HTTPConnection.default_socket_options,
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            ],
        }
        self.poolmanager: urllib3.PoolManager = urllib3.PoolManager(**self._options, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,  # noqa: ARG002  # TLS is the registry's
        proxies: Any = None,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
    ) -> HTTPConnectionPool:
        url = request.url or ""
        origin = _origin(url)
        pool = self._by_origin.get(origin)
        # The pool manager's own look-up takes a tenth of a small request.
        return pool if pool is not None else self._new_pool(origin)

    def _new_pool(self, origin: str) -> HTTPConnectionPool:
        with self._lock:
            pool = self._by_origin.get(origin)
            if pool is not None:
                return pool
            if len(self._by_origin) >= _MAX_ORIGINS:  # somebody redirects to ever new hosts
                self._by_origin.clear()
                for manager in (self.poolmanager, *self.proxy_manager.values()):
                    manager.clear()
            options: dict[str, Any] = {}
            if origin.startswith("https:"):
                # Made when first needed: reading the authorities takes longer than a few requests.
                shown = self._tls.client_cert is not None and self._shows_certificate(origin)
                options["ssl_context"] = ssl_context(self._tls if shown else self._tls.anonymous())
            manager = self._manager(origin)
            pool = self._by_origin[origin] = manager.connection_from_url(origin, pool_kwargs=options)
            return pool

    def _manager(self, origin: str) -> urllib3.PoolManager:
        """Return what makes the connections to an origin: directly, or through its proxy."""
        proxy = proxy_for(self._proxy, origin)
        if proxy is None:
            return self.poolmanager
        host = urlsplit(origin).hostname or ""
        if is_metadata_service(host):  # who connects is the proxy, so nothing else would look
            raise TransportError(
                f"{host} is a cloud's metadata service or another link-local address, which is never asked",
                temporary=False,
            )
        manager: urllib3.PoolManager | None = self.proxy_manager.get(proxy.url)
        if manager is None:
            manager = self.proxy_manager[proxy.url] = self._proxy_manager(proxy)
        return manager

    def _proxy_manager(self, proxy: Proxy) -> urllib3.ProxyManager:
        # A proxy that speaks TLS is trusted as the registry is, and is shown no certificate.
        context = ssl_context(self._tls.anonymous()) if proxy.url.startswith("https:") else None
        manager = urllib3.ProxyManager(
            proxy.url, proxy_headers=proxy.headers, proxy_ssl_context=context, **self._options
        )
        manager.pool_classes_by_scheme = self._pools
        return manager

    def proxy_of(self, url: str) -> str | None:
        """Return the proxy that requests to `url` went through, without a login; None where there was none."""
        pool = self._by_origin.get(_origin(url))
        return str(pool.proxy) if pool is not None and pool.proxy is not None else None

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:  # noqa: ARG002
        """Return what stands in the request line: for a proxy that forwards, the whole address."""
        url = request.url or ""
        if self._proxy is not None and not url.startswith("https:") and self.proxy_of(url) is not None:
            return str(urldefragauth(url))
        return request.path_url

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave TLS to the context: requests would load its bundle again for each connection."""


def _origin(url: str) -> str:
    end = url.find("/", len("https://"))
    return url[:end] if end > 0 else url
