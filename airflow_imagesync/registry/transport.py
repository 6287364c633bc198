"""HTTP as bytes on a connection: TLS, timeouts, keep-alive, and no exception of a foreign library out of here.

requests' adapter is used without its Session: nothing then adds credentials from netrc, cookies, proxies
from the environment, or follows a redirect, and a small request costs a third less.
"""

from __future__ import annotations

import socket
import ssl
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_imagesync import __version__
from airflow_imagesync.errors import ProtocolError, TransportError
from airflow_imagesync.registry.origin import redact

USER_AGENT = f"airflow-imagesync/{__version__}"
#: Pieces a blob is moved in, in bytes: larger ones gain nothing and run into the write timeout.
CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    ``connect`` for a connection; ``read`` for the next piece of an answer; ``write`` for the peer to take the next
    piece of a body; ``commit`` for the answer to a whole blob, which a registry may first have to move and
    verify (GHCR takes 5 to 11 s for 700 MB).
    """

    connect: float = 10.0
    read: float = 60.0
    write: float = 90.0
    commit: float = 600.0


class Body(Protocol):
    """A body sent piece by piece: its length is known, and it has no ``read`` (that would mean 16 KiB pieces)."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...


@lru_cache(maxsize=64)
def _ssl_context(tls_verify: bool, ca_file: str | None) -> ssl.SSLContext:
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


class _Adapter(HTTPAdapter):
    """An adapter whose connections have a write timeout of their own and can be shut from another thread.

    urllib3 sends a body under the connect timeout, which is far too short for a registry that flushes parts
    to object storage while it takes a blob.
    """

    def __init__(self, pool_size: int, timeouts: Timeouts, context: ssl.SSLContext | None) -> None:
        live: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()

        class Plain(HTTPConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:
                if self.sock is None:
                    self.connect()
                live.add(self)
                self.timeout = timeouts.write
                super().request(*args, **kwargs)

        class Secure(HTTPSConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:
                if self.sock is None:
                    self.connect()
                live.add(self)
                self.timeout = timeouts.write
                super().request(*args, **kwargs)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._live = live
        self._pools = {"http": PlainPool, "https": SecurePool}
        self._context = context
        # Never block for a connection: a transfer holds one to read from and one to write to.
        super().__init__(pool_connections=16, pool_maxsize=pool_size, max_retries=0, pool_block=False)

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
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        pool: HTTPConnectionPool = self.poolmanager.connection_from_url(request.url or "")
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave TLS to the context: requests would load its bundle again for each connection."""

    def abort(self) -> None:
        """Shut every open connection, so that threads that wait on one return at once."""
        for connection in list(self._live):
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):
                    # Past SSLSocket.shutdown, which is not made to be called while another thread reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Transport:
    """Sends requests on behalf of one registry.

    `tls_verify` and `ca_file` are the registry's settings; `pool_size` is how many connections to a host are
    kept open; `timeouts` how long to wait.
    """

    def __init__(
        self,
        *,
        tls_verify: bool = True,
        ca_file: str | None = None,
        pool_size: int = 18,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._tls_verify = tls_verify
        self._ca_file = ca_file
        self._pool_size = pool_size

    @cached_property
    def _plain(self) -> _Adapter:
        return _Adapter(self._pool_size, self.timeouts, None)

    @cached_property
    def _secure(self) -> _Adapter:
        return _Adapter(self._pool_size, self.timeouts, _ssl_context(self._tls_verify, self._ca_file))

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None = None,
        *,
        read_timeout: float | None = None,
    ) -> requests.Response:
        """Send one request and return the response with its body unread.

        `read_timeout` in seconds replaces the usual wait for the answer. Raises TransportError when no answer came;
        errors of ours that a body raises while it is read pass through as they are.
        """
        request = requests.PreparedRequest()
        request.method = method
        request.url = url
        request.headers = CaseInsensitiveDict(headers)
        request.headers["User-Agent"] = USER_AGENT
        request.headers["Accept-Encoding"] = "identity"
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        elif method in ("POST", "PUT", "PATCH"):
            request.headers["Content-Length"] = "0"
        request.body = body  # type: ignore[assignment]
        adapter = self._secure if url.startswith("https:") else self._plain
        timeout = (self.timeouts.connect, read_timeout or self.timeouts.read)
        try:
            return adapter.send(request, stream=True, timeout=timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _transport_error(method, url, error) from error

    def abort(self) -> None:
        """Shut every open connection; requests under way fail with TransportError."""
        for name in ("_plain", "_secure"):
            if name in self.__dict__:
                self.__dict__[name].abort()

    def close(self) -> None:
        """Close the connections that are not in use."""
        for name in ("_plain", "_secure"):
            if name in self.__dict__:
                self.__dict__[name].close()


def read_piece(response: requests.Response, size: int, url: str) -> bytes:
    """Read up to `size` bytes of a response's body; empty at its end. Raises TransportError."""
    try:
        return response.raw.read(size, decode_content=False) or b""
    except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
        # ValueError and AttributeError: another thread shut the connection.
        raise _transport_error("GET", url, error) from error


def read_all(response: requests.Response, limit: int, url: str) -> bytes:
    """Read a whole body of at most `limit` bytes and give the connection back.

    Raises ProtocolError when there is more, TransportError when the connection breaks.
    """
    parts: list[bytes] = []
    left = limit + 1
    try:
        while left > 0:
            piece = read_piece(response, min(left, CHUNK), url)
            if not piece:
                break
            parts.append(piece)
            left -= len(piece)
        if left <= 0:
            raise ProtocolError(
                f"{redact(url)} sent more than {limit} bytes where at most that many are expected",
                url=redact(url),
                status=response.status_code,
            )
        return b"".join(parts)
    finally:
        response.close() if left <= 0 else response.raw.release_conn()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what is wrapped in it, innermost last."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *getattr(one, "args", ())]
        queue.extend(item for item in inner if isinstance(item, BaseException))


def _transport_error(method: str, url: str, error: Exception) -> TransportError:
    """Return the error that says in one sentence why there was no answer."""
    where = f"{method} {redact(url)}"
    causes = list(_causes(error))

    def found(*types: type[BaseException]) -> BaseException | None:
        return next((one for one in causes if isinstance(one, types)), None)

    if cause := found(ssl.SSLCertVerificationError):
        reason = getattr(cause, "verify_message", "") or str(cause)
        return TransportError(
            f"{where}: the certificate is not trusted ({reason}); give its authority as ca_file, "
            "or set tls_verify: false for this registry",
            temporary=False,
        )
    if (cause := found(ssl.SSLError)) and "WRONG_VERSION_NUMBER" in str(cause):
        return TransportError(
            f"{where}: the registry answered plain HTTP on this port; set insecure: true for it if that is meant",
            temporary=False,
        )
    if (cause := found(ssl.SSLError)) and "EOF" not in str(cause):
        return TransportError(f"{where}: TLS failed ({getattr(cause, 'reason', None) or cause})")
    if found(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return TransportError(f"{where}: the host name is unknown; check the registry's name and the DNS")
    if found(ConnectionRefusedError):
        return TransportError(f"{where}: the connection was refused; check that the registry runs on this port")
    if found(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return TransportError(f"{where}: no connection in time; check the registry's address and firewalls")
    if found(requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return TransportError(f"{where}: the registry did not answer in time")
    if found(ConnectionResetError, BrokenPipeError, urllib3.exceptions.ProtocolError):
        return TransportError(f"{where}: the connection broke before the answer was complete")
    detail = next((str(one) for one in reversed(causes) if str(one)), type(error).__name__)
    return TransportError(f"{where}: no answer ({redact_text(detail)})")


def redact_text(text: str) -> str:
    """Return the text of a foreign library's error without anything that may be a query string."""
    return text.partition("?")[0][:200]
