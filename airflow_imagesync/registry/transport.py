"""One HTTP request and its answer: no exception of a foreign library comes out of here."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Protocol, Self

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from airflow_imagesync import __version__
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ProtocolError, TransportError
from airflow_imagesync.registry.connection import Adapter
from airflow_imagesync.registry.origin import realm_may_see_credentials, redact
from airflow_imagesync.registry.sockets import Sockets
from airflow_imagesync.registry.tls import Tls
from airflow_imagesync.registry.unanswered import closed_unanswered, proxy_refusal, transport_error

USER_AGENT = f"airflow-imagesync/{__version__}"
#: Pieces a blob is moved in, in bytes: larger ones gain nothing and run into the write timeout.
CHUNK = 256 * 1024
# A body up to this size is cheaper to read than a new connection.
_SHORT = 64 * 1024


class Body(Protocol):
    """A body sent piece by piece: its length is known, and it has no ``read`` (that would mean 16 KiB pieces)."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...


class Transport:
    """Sends requests on behalf of one registry.

    `tls` are the registry's settings of TLS, and `shows_certificate` says of an origin whether it may see the client
    certificate; `proxy` is a proxy's URL, PROXY_OF_ENVIRONMENT, or None for none. `pool_size` is how many connections
    to a host are kept open; `timeouts` how long to wait.
    """

    def __init__(
        self,
        *,
        tls: Tls | None = None,
        shows_certificate: Callable[[str], bool] = lambda _: True,
        proxy: str | None = None,
        pool_size: int = 18,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._sockets = Sockets()
        self._adapter = Adapter(pool_size, self.timeouts, self._sockets, tls, proxy, shows_certificate)
        self._aborted = threading.Event()
        #: How many requests were sent. Without a lock: a request lost in the count costs less.
        self.requests = 0

    @classmethod
    def of(cls, registry_url: str, login: Login, *, pool_size: int = 18, timeouts: Timeouts | None = None) -> Self:
        """Return a transport with the settings of a registry's `login`.

        The client certificate is shown where the password may be: at the registry, and at token services that belong
        to it.
        """
        return cls(
            tls=Tls(login.tls_verify, login.ca_file, login.client_cert, login.client_key),
            shows_certificate=lambda url: realm_may_see_credentials(registry_url, url, login.token_realm_hosts),
            proxy=login.proxy,
            pool_size=pool_size,
            timeouts=timeouts,
        )

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
        adapter = self._adapter
        timeout = (self.timeouts.connect, read_timeout or self.timeouts.read)
        self.requests += 1
        try:
            try:
                response = adapter.send(request, stream=True, timeout=timeout)
            except requests.ConnectionError as error:
                # The other side closed an idle connection just as it was used again: that says nothing about
                # the registry. A body that is read piece by piece may be partly used up.
                repeatable = isinstance(body, bytes | None)
                if self._aborted.is_set() or not repeatable or not closed_unanswered(error):
                    raise
                response = adapter.send(request, stream=True, timeout=timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # What foreign errors quote may be the query of a signed address, or a header that holds a login.
            quotes = "?" in url or isinstance(error, ValueError)
            raise transport_error(method, url, error, adapter.proxy_of(url)) from (None if quotes else error)
        if response.status_code == 407 and (proxy := adapter.proxy_of(url)) is not None:
            response.close()
            raise TransportError(f"{method} {redact(url)}: {proxy_refusal(proxy, 407)}", temporary=False)
        return response

    def abort(self) -> None:
        """Shut every open connection, for good; requests under way and later ones fail with TransportError."""
        self._aborted.set()
        self._sockets.shut()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._adapter.close()


def read_piece(response: requests.Response, size: int, url: str) -> bytes:
    """Read up to `size` bytes of a response's body; empty at its end. Raises TransportError."""
    try:
        return response.raw.read(size, decode_content=False) or b""
    except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
        # ValueError and AttributeError: another thread shut the connection.
        raise transport_error("GET", url, error) from error


def read_all(response: requests.Response, limit: int, url: str) -> bytes:
    """Read a whole body of at most `limit` bytes and give the connection back.

    Raises ProtocolError when there is more, or when it is compressed; TransportError when the connection breaks.
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
        if parts:
            check_encoding(response, url)
        return b"".join(parts)
    finally:
        if left <= 0:
            response.close()
        else:
            response.raw.release_conn()


def check_encoding(response: requests.Response, url: str) -> None:
    """Raise ProtocolError when a body is not sent as it is: that was asked for, and nothing here is unpacked."""
    encoding = response.headers.get("Content-Encoding", "identity")
    # S3 keeps the name of how something was once uploaded, and sends it plain.
    if encoding.strip().lower() not in ("", "identity", "aws-chunked"):
        raise ProtocolError(
            f"{redact(url)} sends its answer packed ({encoding[:40]!r}), although it was asked for as it is; "
            "check the proxy or cache before the registry",
            url=redact(url),
            status=response.status_code,
        )


def discard(response: requests.Response) -> None:
    """Let go of a response whose body does not matter; what is short is read, so that the connection can be kept."""
    with suppress(ProtocolError, TransportError):
        read_all(response, _SHORT, response.url)


def unread(response: requests.Response, body: bytes) -> requests.Response:
    """Return a response whose body was read as one that is yet to be read."""
    response.raw = urllib3.HTTPResponse(
        io.BytesIO(body),
        headers=response.raw.headers,
        status=response.status_code,
        preload_content=False,
        enforce_content_length=False,  # which is that of a body which a HEAD does not get
    )
    return response
