"""One HTTP request and its answer: no exception of a foreign library comes out of here."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Protocol

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from airflow_imagesync import __version__
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ProtocolError, TransportError
from airflow_imagesync.registry.connection import Adapter, Sockets, ssl_context
from airflow_imagesync.registry.origin import redact

USER_AGENT = f"airflow-imagesync/{__version__}"
#: Pieces a blob is moved in, in bytes: larger ones gain nothing and run into the write timeout.
CHUNK = 256 * 1024
# A body up to this size is cheaper to read than a new connection.
_SHORT = 64 * 1024
# How OpenSSL's releases name what is no TLS at all; and how a TLS alert looks to who expects HTTP.
_PLAIN_ANSWER = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST")
_TLS_ALERT = "\x15\x03"


class Body(Protocol):
    """A body sent piece by piece: its length is known, and it has no ``read`` (that would mean 16 KiB pieces)."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...


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
        self._sockets = Sockets()
        self._plain = Adapter(pool_size, self.timeouts, self._sockets, None)
        # Made when first needed: reading the authorities takes longer than a few requests.
        self._secure: Adapter | None = None
        self._lock = threading.Lock()
        self._aborted = threading.Event()

    def _adapter(self, url: str) -> Adapter:
        if not url.startswith("https:"):
            return self._plain
        if self._secure is None:
            with self._lock:
                if self._secure is None:
                    context = ssl_context(self._tls_verify, self._ca_file)
                    self._secure = Adapter(self._pool_size, self.timeouts, self._sockets, context)
        return self._secure

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
        if self._aborted.is_set():
            raise TransportError(f"{method} {redact(url)}: the run was stopped", temporary=False)
        adapter = self._adapter(url)
        timeout = (self.timeouts.connect, read_timeout or self.timeouts.read)
        try:
            try:
                return adapter.send(request, stream=True, timeout=timeout)
            except requests.ConnectionError as error:
                # The other side closed an idle connection just as it was used again: that says nothing about
                # the registry. A body that is read piece by piece may be partly used up.
                repeatable = isinstance(body, bytes | None)
                if self._aborted.is_set() or not repeatable or not _closed_unanswered(error):
                    raise
                return adapter.send(request, stream=True, timeout=timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _transport_error(method, url, error) from error

    def abort(self) -> None:
        """Shut every open connection, for good; requests under way and later ones fail with TransportError."""
        self._aborted.set()
        self._sockets.shut()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._plain.close()
        if self._secure is not None:
            self._secure.close()


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
        if left <= 0:
            response.close()
        else:
            response.raw.release_conn()


def discard(response: requests.Response) -> None:
    """Let go of a response whose body does not matter; what is short is read, so that the connection can be kept."""
    with suppress(ProtocolError, TransportError):
        read_all(response, _SHORT, response.url)


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


def _closed_unanswered(error: Exception) -> bool:
    return any(isinstance(one, http.client.RemoteDisconnected) for one in _causes(error))


def _transport_error(method: str, url: str, error: Exception) -> TransportError:
    """Return the error that says in one sentence why there was no answer."""
    causes = list(_causes(error))

    def found(*types: type[BaseException]) -> BaseException | None:
        return next((one for one in causes if isinstance(one, types)), None)

    def result(sentence: str, *, temporary: bool = True) -> TransportError:
        return TransportError(f"{method} {redact(url)}: {sentence}", temporary=temporary)

    if cause := found(ssl.SSLCertVerificationError):
        return result(_certificate_problem(cause), temporary=False)
    if cause := found(ssl.SSLError):
        reason = getattr(cause, "reason", None) or str(cause)
        if _PLAIN_ANSWER.search(reason):
            return result(
                "the registry answered plain HTTP on this port; set insecure: true for it if that is meant",
                temporary=False,
            )
        if not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return result(f"TLS failed ({reason})")
    if found(socket.gaierror):
        return result("the host name is unknown; check the registry's name and the DNS")
    if found(ConnectionRefusedError):
        return result("the connection was refused; check that the registry runs on this port")
    if found(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return result("no connection in time; check the registry's address and firewalls")
    if found(requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        return result("the registry did not answer in time")
    if found(TimeoutError):
        return result("the registry did not take the data in time")
    if (cause := found(http.client.BadStatusLine)) and str(cause).startswith(_TLS_ALERT):
        return result(
            "the registry answered TLS on this port: take out insecure: true "
            "(for a self-signed certificate set tls_verify: false)",
            temporary=False,
        )
    if found(ConnectionError, ssl.SSLError, urllib3.exceptions.ProtocolError):
        return result("the connection broke before the answer was complete")
    detail = next((str(one) for one in reversed(causes) if str(one)), type(error).__name__)
    # What may be a query string is left out.
    return result(f"no answer ({detail.partition('?')[0][:200]})")


def _certificate_problem(error: BaseException) -> str:
    reason = getattr(error, "verify_message", "") or str(error)
    advice = "give the file with its authority as ca_file, or set tls_verify: false for this registry"
    if "mismatch" in reason.lower():
        advice = "check the registry's name, or set tls_verify: false for this registry"
    elif "expired" in reason or "not yet valid" in reason:
        advice = "renew it, or set tls_verify: false for this registry"
    return f"the certificate is not trusted ({reason.rstrip('.')}); {advice}"
