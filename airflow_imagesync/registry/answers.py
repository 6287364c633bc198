"""Turning a registry's error answers into errors of ours, with a sentence that says what to check.

Distribution specification, "Error Codes".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

import requests

from airflow_imagesync.errors import (
    Conflict,
    Denied,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RateLimited,
    RegistryError,
    Unauthorized,
)
from airflow_imagesync.registry.origin import redact
from airflow_imagesync.registry.redaction import sent_secrets, without_secrets
from airflow_imagesync.registry.transport import read_all

MAX_ERROR_BODY = 64 * 1024
_MAX_SHOWN = 300
#: 499 and 520 to 524 are what proxies answer when the registry behind them gave none.
_TEMPORARY_STATUSES = frozenset({408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524})
#: The session of an upload was lost: another replica has it, or the blob was committed already.
_LOST_UPLOAD = frozenset({"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"})
_TEMPORARY_CODES = _LOST_UPLOAD | {"UNAVAILABLE", "UNKNOWN"}
_RATE_CODES = frozenset({"TOOMANYREQUESTS", "ThrottlingException"})
#: How registries say so without a code: GitHub with 403 (refchecker#67), ECR with 400 or 503 (imgpkg#383).
_RATE_WORDS = re.compile(r"\brate limit|\brate exceeded|\btoo many requests|ThrottlingException", re.IGNORECASE)
_RATE_STATUSES = frozenset({400, 403, 503})
#: Distribution quotes its storage, in words or by the number of the system's error (ENOSPC, EDQUOT).
_STORAGE_FULL = re.compile(r'no space left on device|disk quota exceeded|"Err": ?(?:28|122)\b', re.IGNORECASE)
#: Harbor, with 403 or 412: "... will exceed the configured upper limit".
_QUOTA = re.compile(r"\bquota\b|exceed the configured upper limit", re.IGNORECASE)
_IMMUTABLE = re.compile(r"immutab|already ?exists|cannot be updated|failed_precondition|\boverwrit", re.IGNORECASE)
_HTTPS_ON_HTTP = re.compile(r"HTTP request (?:was sent )?to (?:an )?HTTPS", re.IGNORECASE)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_CERTIFICATE_WANTED = re.compile("No required SSL certificate was sent|SSL certificate error")
_XML_PART = re.compile(rb"<(?:Code|Message)>([^<]{1,200})<")


def error_of(
    response: requests.Response, method: str, url: str, *, logged_in: bool, body: bytes | None = None
) -> RegistryError:
    """Return the error that an answer stands for; its body is read and the connection given back.

    `logged_in` says whether credentials were sent, for the advice in the message. `body` replaces the answer's
    own where that was read before.
    """
    status = response.status_code
    if body is None:
        body = error_body(response, url)
    codes, text = _codes_and_text(body, sent_secrets(response.request))
    shown = redact(url)
    message = f"{method} {shown} answered {status}"
    if codes:
        message += f" {' '.join(codes)}"
    if text:
        message += f": {text}"
    wait = retry_after(response.headers)
    digests = tuple(dict.fromkeys(_DIGEST.findall(body.decode("utf-8", "replace"))))

    def error(kind: type[RegistryError], advice: str = "", temporary: bool | None = None) -> RegistryError:
        return kind(
            f"{message}; {advice}" if advice else message,
            method=method,
            url=shown,
            status=status,
            codes=codes,
            temporary=temporary,
            retry_after=wait,
            digests=digests,
        )

    pushing = method in ("POST", "PUT", "PATCH")
    if _HTTPS_ON_HTTP.search(body[:2048].decode("utf-8", "replace")):
        return error(
            ProtocolError,
            "the registry answers HTTPS on this port: take out insecure: true "
            "(for a self-signed certificate set tls_verify: false)",
        )
    # As nginx says it; others do in TLS's words.
    if status == 400 and _CERTIFICATE_WANTED.search(body[:2048].decode("utf-8", "replace")):
        return error(RegistryError, "it demands a client certificate that it trusts: set client_cert and client_key")
    throttled = status in _RATE_STATUSES and _RATE_WORDS.search(text)
    if status == 429 or _RATE_CODES.intersection(codes) or throttled:
        return error(RateLimited, f"it asks to wait {wait:.0f} s" if wait else "too many requests, try later")
    if status == 401 and logged_in:
        return error(Unauthorized, "check the username and password, and that they may use this repository")
    if status == 401:
        return error(Unauthorized, "it needs a login, or does not exist: check the credentials and the name")
    if status in (403, 412) and _QUOTA.search(text):
        return error(Denied if status == 403 else RegistryError, "a quota there is used up: raise it, or make room")
    if status == 403:
        return error(
            Denied,
            f"check that {'this login' if logged_in else 'somebody without a login'} may "
            f"{'push to' if pushing else 'read'} the repository",
        )
    if status == 404 and not _LOST_UPLOAD.intersection(codes):
        return error(NotFound, "check that the repository exists there" if pushing else "check the name")
    if 300 <= status < 400:
        return error(ProtocolError, "a redirect that is not followed here")
    if status == 413 or (status == 400 and "body too large" in text):
        return error(RegistryError, "check the size limits of the registry and of a proxy before it")
    if status == 507 or (status >= 500 and _STORAGE_FULL.search(body.decode("utf-8", "replace"))):
        return error(RegistryError, "the registry's storage is full", temporary=status != 507)
    if status == 200:
        return error(ProtocolError, "check that this is a registry, and what stands between it and here")
    if status in _TEMPORARY_STATUSES:
        return error(RegistryError, "the registry has a fault of its own: try later, or see its log", temporary=True)
    return error(RegistryError, temporary=bool(_TEMPORARY_CODES.intersection(codes)))


def error_body(response: requests.Response, url: str) -> bytes:
    """Return the body of an error answer; empty where there is none, or too much of it."""
    try:
        return read_all(response, MAX_ERROR_BODY, url)
    except ImageSyncError:  # distribution 2.8 announces a body for some errors and sends none
        return b""


def storage_error(response: requests.Response, method: str, url: str, registry: str) -> RegistryError:
    """Return the error for what another host answered that a registry had redirected to.

    Only the registry can say that something does not exist; what it sends to may have been signed for too short a
    time, and is signed anew when the registry is asked again.
    """
    error = error_of(response, method, url, logged_in=False)
    sentence = str(error).partition("; ")[0]
    return RegistryError(
        f"{sentence}; {registry} redirected there: check its storage",
        method=method,
        url=error.url,
        status=error.status,
        codes=error.codes,
        temporary=error.temporary or error.status in (400, 401, 403),
        retry_after=error.retry_after,
    )


def is_web_page(response: requests.Response) -> bool:
    """Whether an answer of success is that of something else than a registry, such as a network's sign-in page.

    Some registries have text/html on their empty answers, too, but with what they did in the headers.
    """
    headers = response.headers
    return (
        response.status_code == 200
        and headers.get("Content-Type", "").startswith("text/html")
        and "Docker-Content-Digest" not in headers
        and "Location" not in headers
    )


def may_be_immutable(error: RegistryError) -> bool:
    """Whether a refused manifest may mean that the tag exists and must not change.

    ECR answers 400 TAG_INVALID or ImageTagAlreadyExists, Harbor 412, Docker Hub 403, Artifactory 403 or 400 about a
    right to overwrite, zot 405, Google 400 or 409, Nexus 400 "cannot be updated". Harbor's 412 may be about a quota.
    """
    text = str(error)
    if error.status in (405, 409, 412) or "TAG_INVALID" in error.codes:
        return not _QUOTA.search(text)
    if error.status == 400 and "MANIFEST_INVALID" in error.codes and "HTTP 403" in text:
        return True  # Artifactory
    return error.status in (400, 403) and _IMMUTABLE.search(text) is not None


def conflict(error: RegistryError, destination: str) -> Conflict:
    """Return the error for a tag that the registry does not let be changed."""
    return Conflict(
        f"{destination} exists with another digest and the registry does not let it be changed "
        f"({error}); delete the tag there, or lift its immutability",
        method=error.method,
        url=error.url,
        status=error.status,
        codes=error.codes,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110 10.2.3: seconds or a date), or None."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _codes_and_text(body: bytes, secrets: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the error codes and the messages of an error body; of a body in another form, its beginning.

    `secrets` are left out: some servers quote the request.
    """
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        errors = document.get("errors") if isinstance(document, dict) else None
        entries = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
        if entries:
            codes = tuple(
                dict.fromkeys(_one_line(str(one["code"]), secrets)[:64] for one in entries if one.get("code"))
            )
            texts = []
            for one in entries[:3]:
                detail = one.get("detail")
                texts.append(str(one.get("message") or ""))
                if isinstance(detail, dict):
                    detail = detail.get("description")  # Artifactory's reason
                if isinstance(detail, str) and detail:
                    texts.append(detail)
            return codes, _one_line(", ".join(dict.fromkeys(text for text in texts if text)), secrets)
        if isinstance(document, dict):  # token services and cloud front ends have forms of their own
            known = (document.get(key) for key in ("details", "message", "error_description", "error"))
            text = next((one for one in known if isinstance(one, str) and one), None)
            kind = document.get("__type")  # AWS: perhaps with a namespace before a number sign
            codes = (_one_line(kind.rpartition("#")[2], secrets)[:64],) if isinstance(kind, str) and kind else ()
            if text is not None or codes:
                return codes, _one_line(text or "", secrets)
    if body.lstrip()[:1] == b"<":
        parts = [part.decode("utf-8", "replace") for part in _XML_PART.findall(body[:4096])]
        return (), _one_line(": ".join(parts), secrets) or "a web page"
    return (), _one_line(body[:1000].decode("utf-8", "replace"), secrets)


def _one_line(text: str, secrets: tuple[str, ...]) -> str:
    text = " ".join("".join(ch if ch.isprintable() else " " for ch in text).split())
    text = without_secrets(text, secrets)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
