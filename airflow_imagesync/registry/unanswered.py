"""Why there was no answer: exceptions of the libraries below, turned into one of ours that says it in a sentence."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import requests
import urllib3

from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.origin import redact
from airflow_imagesync.registry.sockets import EndlessHead, SlowAnswer

# How OpenSSL's releases name what is no TLS at all; and how a TLS alert looks to who expects HTTP.
_PLAIN_ANSWER = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST")
_TLS_ALERT = "\x15\x03"
# What servers say in TLS's words of who we are. Go's say "bad" where there is none, too.
_OUR_CERTIFICATE = re.compile("ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERT|CERTIFICATE_|UNKNOWN_CA|ACCESS_DENIED)")
_TUNNEL_FAILED = re.compile(r"Tunnel connection failed: ([0-9]{3})")


class _Reason(NamedTuple):
    sentence: str
    temporary: bool = True


class _Causes:
    """An exception and what is wrapped in it."""

    def __init__(self, error: BaseException) -> None:
        self.all = list(_unwrapped(error))

    def of(self, *types: type[BaseException]) -> BaseException | None:
        """Return the first that is of one of these types."""
        return next((one for one in self.all if isinstance(one, types)), None)

    def tls_reason(self) -> str | None:
        """Return OpenSSL's name for what went wrong, other than that the connection ended."""
        cause = self.of(ssl.SSLError)
        if cause is None or isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return None
        return getattr(cause, "reason", None) or str(cause)


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
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


def closed_unanswered(error: Exception) -> bool:
    """Whether the other side closed the connection without a word."""
    return _Causes(error).of(http.client.RemoteDisconnected) is not None


def transport_error(method: str, url: str, error: Exception, proxy: str | None = None) -> TransportError:
    """Return the error that says in one sentence why there was no answer; `proxy` is the one that was used."""
    causes = _Causes(error)
    at_proxy = proxy is not None and causes.of(urllib3.exceptions.ProxyError) is not None
    reason = _at_proxy(str(proxy), causes) if at_proxy else _at_registry(causes)
    return TransportError(f"{method} {redact(url)}: {reason.sentence}", temporary=reason.temporary)


def _at_registry(causes: _Causes) -> _Reason:
    if cause := causes.of(ssl.SSLCertVerificationError):
        return _Reason(f"the certificate is not trusted ({_certificate_problem(cause)} for this registry", False)
    if tls := causes.tls_reason():
        if _PLAIN_ANSWER.search(tls):
            return _Reason(
                "the registry answered plain HTTP on this port; set insecure: true for it if that is meant", False
            )
        if _OUR_CERTIFICATE.search(tls):
            return _Reason(
                f"the registry demands a client certificate that it trusts ({tls}); set client_cert and client_key",
                False,
            )
        return _Reason(f"TLS failed ({tls})")
    if causes.of(socket.gaierror):
        return _Reason("the host name is unknown; check the registry's name and the DNS")
    if causes.of(ConnectionRefusedError):
        return _Reason("the connection was refused; check that the registry runs on this port")
    if causes.of(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return _Reason("no connection in time; check the registry's address and firewalls")
    if cause := causes.of(SlowAnswer):
        return _Reason(f"the registry sends too slowly ({cause})")
    if causes.of(EndlessHead):
        return _Reason("the registry sends headers without end")
    if causes.of(requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        return _Reason("the registry did not answer in time")
    if causes.of(TimeoutError):
        return _Reason("the registry did not take the data in time")
    if (cause := causes.of(http.client.BadStatusLine)) and str(cause).startswith(_TLS_ALERT):
        return _Reason(
            "the registry answered TLS on this port: take out insecure: true "
            "(for a self-signed certificate set tls_verify: false)",
            False,
        )
    if causes.of(ConnectionError, ssl.SSLError, urllib3.exceptions.ProtocolError):
        return _Reason("the connection broke before the answer was complete")
    if any(str(one).startswith("Invalid header") for one in causes.all):  # what follows may be a password
        return _Reason("a header has a character that can't be sent; check the credentials", False)
    return _Reason(f"no answer ({_detail(causes)})")


def _at_proxy(proxy: str, causes: _Causes) -> _Reason:
    """Say why the proxy, whose address stands here without its login, gave no connection."""
    refused = next((match for one in causes.all if (match := _TUNNEL_FAILED.search(str(one)))), None)
    if refused is not None:
        status = int(refused[1])
        return _Reason(proxy_refusal(proxy, status), status >= 500 or status in (408, 429))
    if cause := causes.of(ssl.SSLCertVerificationError):
        return _Reason(f"the certificate of the proxy {proxy} is not trusted ({_certificate_problem(cause)}", False)
    if tls := causes.tls_reason():
        if _PLAIN_ANSWER.search(tls):
            return _Reason(f"the proxy {proxy} speaks plain HTTP; give it as http://", False)
        return _Reason(f"TLS failed with the proxy {proxy} ({tls})")
    if causes.of(socket.gaierror):
        return _Reason(f"the host name of the proxy {proxy} is unknown; check the setting proxy and the DNS")
    if causes.of(ConnectionRefusedError):
        return _Reason(f"the proxy {proxy} refused the connection; check the setting proxy, and that it runs")
    if cause := causes.of(SlowAnswer):
        return _Reason(f"the proxy {proxy} sends too slowly ({cause})")
    if causes.of(TimeoutError, urllib3.exceptions.TimeoutError):
        return _Reason(f"no connection in time through the proxy {proxy}; check the setting proxy and firewalls")
    if causes.of(ConnectionError):
        return _Reason(f"the connection through the proxy {proxy} broke before the answer was complete")
    return _Reason(f"the proxy {proxy} gave no connection ({_detail(causes)})")


def proxy_refusal(proxy: str, status: int) -> str:
    """Return the sentence for a proxy that answered in the registry's place."""
    if status == 407:
        return f"the proxy {proxy} wants a login (407); check the user and password in the setting proxy"
    if status >= 500:
        return f"the proxy {proxy} has no connection to it ({status})"
    return f"the proxy {proxy} does not connect to it ({status}); check what it allows"


def _detail(causes: _Causes) -> str:
    text = next((str(one) for one in reversed(causes.all) if str(one)), type(causes.all[0]).__name__)
    # What may be a query string is left out.
    return text.partition("?")[0][:200]


def _certificate_problem(error: BaseException) -> str:
    """Return OpenSSL's reason, a closing bracket, and what to do."""
    reason = getattr(error, "verify_message", "") or str(error)
    advice = "give the file with its authority as ca_file, or set tls_verify: false"
    if "mismatch" in reason.lower():
        advice = "check the name, or set tls_verify: false"
    elif "expired" in reason or "not yet valid" in reason:
        advice = "renew it, or set tls_verify: false"
    return f"{reason.rstrip('.')}); {advice}"
