from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import Denied, ImageSyncError, ProtocolError, RegistryError, TransportError, Unauthorized
from airflow_imagesync.registry.azure_exchange import exchange
from tests.support.faults import answer, errors
from tests.support.front import Exchange, Front

TOKEN = "token.of.the-identity"


def granted(seen: list[dict[str, str]]) -> object:
    """Answer with a refresh token, and note the form."""

    def act(one: Exchange) -> None:
        seen.append(dict(parse_qsl(b"".join(one.body()).decode(), strict_parsing=True)))
        one.reply(200, {"Content-Type": "application/json"}.items(), json.dumps({"refresh_token": "refresh"}).encode())

    return act


@pytest.mark.parametrize("tenant", ["72f988bf-0000", None])
def test_an_identitys_token_becomes_one_of_the_registry(scripted: Front, tenant: str | None) -> None:
    """https://azure.github.io/acr/AAD-OAuth.html, "Calling POST /oauth2/exchange"."""
    seen: list[dict[str, str]] = []
    scripted.on("POST", "/oauth2/exchange", granted(seen))
    assert exchange(scripted.url, Login(), TOKEN, tenant) == "refresh"
    assert seen == [
        {"grant_type": "access_token", "service": scripted.host, "access_token": TOKEN}
        | ({"tenant": tenant} if tenant else {})
    ]
    (request,) = scripted.seen()
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("action", "kind", "message"),
    [
        (errors(401, "UNAUTHORIZED", "authentication required"), Unauthorized, "such as AcrPull or AcrPush"),
        (errors(403, "DENIED", "client with IP is not allowed access"), Denied, "not allowed access"),
        (answer(302, {"Location": "https://example.com/"}), ProtocolError, "a redirect that is not followed"),
        (errors(429, "TOOMANYREQUESTS"), RegistryError, "too many requests"),
        (answer(503), RegistryError, "answered 503"),
        (answer(404), RegistryError, "answered 404"),
        (answer(200, body=b"<html>"), ProtocolError, "without a refresh token"),
        (answer(200, body=b'{"access_token": "a"}'), ProtocolError, "without a refresh token"),
        (answer(200, body=b'{"refresh_token": "a\\r\\nb"}'), ProtocolError, "without a refresh token"),
        (answer(200, body=b'{"refresh_token": 7}'), ProtocolError, "without a refresh token"),
        (answer(200, body=b"[" * 100_000), ProtocolError, "without a refresh token"),
        (answer(200, body=b" " * 200_000), ProtocolError, "more than"),
    ],
    ids=["401", "403", "302", "429", "503", "404", "page", "no-token", "CRLF", "number", "nested", "endless"],
)
def test_any_other_answer_is_an_error_of_one_sentence(
    scripted: Front, action: object, kind: type[ImageSyncError], message: str
) -> None:
    scripted.on("POST", "/oauth2/exchange", action)
    with pytest.raises(kind, match=message) as caught:
        exchange(scripted.url, Login(), TOKEN, None)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert caught.value.temporary == (message in ("too many requests", "answered 503"))


def test_a_registry_that_is_not_there_is_told() -> None:
    with pytest.raises(TransportError, match="refused"):
        exchange("http://127.0.0.1:1", Login(), TOKEN, None)


def test_the_registrys_settings_of_tls_hold(ca_file: Path, tls_registry: object) -> None:
    url = tls_registry.url
    with pytest.raises(TransportError, match="certificate is not trusted"):
        exchange(url, Login(), TOKEN, None)
    with pytest.raises(RegistryError, match="answered 404"):
        exchange(url, Login(ca_file=str(ca_file)), TOKEN, None)
