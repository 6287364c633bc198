"""Keeping secrets out of what is quoted from an answer: servers send back what they got, and signed addresses."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from urllib.parse import parse_qsl

import requests

_SECRET_FIELDS = frozenset({"refresh_token", "access_token", "password"})
# What is shorter is no secret, and stands in ordinary words.
_MIN_SECRET = 4
# Long enough for what is shown of it, short enough for the expressions.
_MAX_TEXT = 2000
_QUERY = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")
_NAMED = re.compile(r"\b([\w-]*(?:signature|credential|token|password|secret|sig))=[^\s&\"'<>,;]+", re.IGNORECASE)
_AUTHORIZATION = re.compile(r"\b(basic|bearer)\s+[A-Za-z0-9._~+/-]{16,}=*", re.IGNORECASE)


def sent_secrets(request: requests.PreparedRequest) -> tuple[str, ...]:
    """Return the secrets that a request held: its credentials, and those of a form."""
    scheme, _, value = (request.headers.get("Authorization") or "").partition(" ")
    found = [value]
    if scheme.lower() == "basic":
        with suppress(ValueError):
            found.append(base64.b64decode(value).decode().partition(":")[2])
    if isinstance(request.body, bytes) and "form" in request.headers.get("Content-Type", ""):
        with suppress(ValueError):
            found += [text for name, text in parse_qsl(request.body.decode()) if name in _SECRET_FIELDS]
    return tuple(one for one in found if len(one) >= _MIN_SECRET)


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return the beginning of `text` without `secrets`, queries of addresses and what looks like credentials."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _QUERY.sub("", text[:_MAX_TEXT])
    text = _NAMED.sub(r"\1=***", text)
    return _AUTHORIZATION.sub(r"\1 ***", text)
