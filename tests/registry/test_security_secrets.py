"""Passwords, tokens and signed addresses stay out of logs and errors."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.manifest import Descriptor, parse_manifest
from airflow_imagesync.errors import ImageSyncError, TransportError
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.redaction import without_secrets
from airflow_imagesync.registry.transport import Transport
from devtools import images
from tests.support.clients import SHORT, client_for
from tests.support.faults import answer
from tests.support.front import Exchange, Front

SIGNATURE = "X-Amz-Signature=s1gnature&X-Amz-Credential=AKIAEXAMPLE"
SECRETS = ("hunter22", "s1gnature", "AKIAEXAMPLE", "refresh-me", "t0ken-of-the-run")
LOGIN: dict[str, Any] = {"username": "mover", "password": "hunter22"}
PAIR = base64.b64encode(b"mover:hunter22").decode()


def told(error: BaseException) -> str:
    """Everything that a log may show of an error: its traceback with all causes, its attributes."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


def no_secret_in(text: str) -> bool:
    return not any(secret in text for secret in (*SECRETS, PAIR))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "airflow_imagesync"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.fixture
def storage() -> Iterator[Front]:
    with Front() as front:
        yield front


def basic(front: Front) -> None:
    challenge = answer(401, {"WWW-Authenticate": "Basic"})
    front.on(None, "", challenge, when=lambda one: "Authorization" not in one.headers)
    front.on("GET", "/v2/$", answer(200))


# Errors that quote what was sent


def echo(exchange: Exchange) -> None:
    """Answer as a server that is too helpful: with the whole request."""
    body = b"".join(exchange.body()).decode()
    request = f"{exchange.request.method} {exchange.request.target} {dict(exchange.request.headers)} {body}"
    exchange.reply(400, [], json.dumps({"errors": [{"code": request, "message": request, "detail": request}]}).encode())


def echo_text(exchange: Exchange) -> None:
    sent = dict(exchange.request.headers).get("Authorization", "")
    exchange.reply(400, [], f"bad header Authorization: {sent}; password {'hunter22'}".encode())


def echo_xml(exchange: Exchange) -> None:
    sent = dict(exchange.request.headers).get("Authorization", "")
    exchange.reply(400, [], f"<Error><Code>X</Code><Message>{sent} {SIGNATURE}</Message></Error>".encode())


def echo_token_service(exchange: Exchange) -> None:
    body = b"".join(exchange.body()).decode()
    exchange.reply(400, [], json.dumps({"error": f"{exchange.request.headers} {body}"}).encode())


@pytest.mark.parametrize("action", [echo, echo_text, echo_xml], ids=lambda one: one.__name__)
@pytest.mark.parametrize("method", ["get", "put", "post", "list"])
def test_an_error_that_quotes_the_request_tells_no_secret(
    scripted: Front, action: Callable[[Exchange], None], method: str, log: pytest.LogCaptureFixture
) -> None:
    basic(scripted)
    scripted.on(None, "/v2/a", action)
    client = client_for(scripted, retries=0, **LOGIN)
    manifest = parse_manifest(images.image().body)
    ask: dict[str, Callable[[], object]] = {
        "get": lambda: client.get_manifest("a", "v1"),
        "list": lambda: client.list_tags("a"),
        "put": lambda: client.put_manifest("a", "v1", manifest),
        "post": lambda: client.put_blob("a", Descriptor("x", manifest.digest, 1), BlobSource(client, "a")),
    }
    with pytest.raises(ImageSyncError) as caught:
        ask[method]()
    assert no_secret_in(told(caught.value))
    assert no_secret_in(log.text)
    assert scripted.requests[-1].headers["Authorization"] == f"Basic {PAIR}"


@pytest.mark.parametrize("login", [LOGIN, {"identity_token": "refresh-me"}], ids=["password", "identity-token"])
def test_a_token_service_that_quotes_the_request_tells_no_secret(
    scripted: Front, login: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    scripted.on(None, "/token", echo_token_service)
    scripted.on(None, "/v2/", answer(401, {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'}))
    with pytest.raises(ImageSyncError) as caught:
        client_for(scripted, retries=0, **login).get_manifest("a", "v1")
    assert no_secret_in(told(caught.value))
    assert no_secret_in(log.text)


def test_a_registry_that_quotes_our_token_tells_no_secret(scripted: Front, log: pytest.LogCaptureFixture) -> None:
    scripted.on("GET", "/token", answer(200, body=b'{"token": "t0ken-of-the-run"}'))
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'})
    scripted.on(None, "/v2/", challenge, when=lambda one: "Authorization" not in one.headers)
    scripted.on(None, "/v2/", echo)
    with pytest.raises(ImageSyncError) as caught:
        client_for(scripted, retries=0, **LOGIN).get_manifest("a", "v1")
    assert scripted.requests[-1].headers["Authorization"] == "Bearer t0ken-of-the-run"
    assert no_secret_in(told(caught.value))
    assert no_secret_in(log.text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://s3/b?X-Amz-Signature=abc&x=1 now", "see https://s3/b now"),
        ("X-Amz-Signature=abc&x=1", "X-Amz-Signature=***&x=1"),
        ("sig=abc; se=2026", "sig=***; se=2026"),
        ("Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "Authorization: Bearer ***"),
        ("basic dXNlcjpwYXNzd29yZA==", "basic ***"),
        ("refresh_token=abc&password=def", "refresh_token=***&password=***"),
        ("Bearer authentication required", "Bearer authentication required"),
        ("invalid token", "invalid token"),
        ("repository a/b: token=", "repository a/b: token="),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize("text", ["a-" * 50_000, "?" * 50_000, "?a" * 50_000, "basic " * 20_000, "=token" * 20_000])
@pytest.mark.timeout(5)
def test_a_text_made_to_cost_costs_no_time(text: str) -> None:
    without_secrets(text)


# Errors of the connection


def test_no_cause_of_an_error_shows_a_signed_address(storage: Front) -> None:
    url = f"{storage.url}/b?{SIGNATURE}"
    storage.on("GET", "", lambda exchange: exchange.hang_up())
    for address in (url, f"http://127.0.0.1:1/b?{SIGNATURE}", f"http://no.invalid/b?{SIGNATURE}"):
        with pytest.raises(TransportError) as caught:
            Transport(timeouts=SHORT).send("GET", address, {})
        assert no_secret_in(told(caught.value))


@pytest.mark.parametrize("value", ["Bearer hunter22\r\nX: y", "Bearer hunter22\u20ac", "Bearer hunter22\x00\n"])
def test_a_header_that_can_not_be_sent_is_not_shown(storage: Front, value: str) -> None:
    with pytest.raises(TransportError) as caught:
        Transport(timeouts=SHORT).send("GET", storage.url, {"Authorization": value})
    assert no_secret_in(told(caught.value))
    assert storage.requests == []


def test_a_login_shows_no_secret() -> None:
    login = Login(username="mover", password="hunter22", identity_token="refresh-me", proxy="http://u:s1gnature@p:1")
    assert no_secret_in(repr(login))
    assert no_secret_in(str(login))
