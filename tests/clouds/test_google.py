"""Google's library and the provider's hook are the real ones, the token service a stand-in on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.errors import ConfigError, ImageSyncError, TransportError, Unauthorized
from tests.support.faults import answer
from tests.support.front import Exchange, Front

REGISTRY = "europe-west1-docker.pkg.dev"
ACCOUNT = "sync@project.iam.gserviceaccount.com"

SourceOf = Callable[..., CredentialSource]


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def connection(key: rsa.RSAPrivateKey, scripted: Front) -> dict[str, Any]:
    """A connection with a service account's key, whose token service is the front."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    keyfile = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"{scripted.url}/token",
    }
    return {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": json.dumps(keyfile)}}


def json_answer(status: int, content: object) -> Any:
    return answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


def test_an_access_token_is_the_password(
    key: rsa.RSAPrivateKey, connection: dict[str, Any], scripted: Front, source_of: SourceOf
) -> None:
    forms: list[dict[str, str]] = []

    def act(exchange: Exchange) -> None:
        forms.append(dict(parse_qsl(b"".join(exchange.body()).decode())))
        token = {"access_token": f"ya29.{len(forms)}", "expires_in": 3599, "token_type": "Bearer"}
        exchange.reply(200, [("Content-Type", "application/json")], json.dumps(token).encode())

    scripted.on("POST", "/token", act)
    source = source_of(REGISTRY, **connection)
    assert source.get() == source.get() == Credentials("oauth2accesstoken", "ya29.1")
    assert source.get(renew=True).password == "ya29.2"
    assert 3500 < source._issue().seconds <= 3600
    claims = jwt.decode(
        forms[0]["assertion"], key.public_key(), ["RS256"], audience="https://oauth2.googleapis.com/token"
    )
    assert claims["iss"] == ACCOUNT
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"


@pytest.mark.parametrize(
    ("status", "content", "kind", "message"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, Unauthorized, "Invalid JWT"),
        (401, {"error": "unauthorized_client"}, Unauthorized, "check its key, and that the account is enabled"),
        (200, {"token_type": "Bearer"}, ImageSyncError, "access token"),
        (400, "text", Unauthorized, "no access token from Google"),
    ],
)
def test_a_refusal_is_told(
    status: int,
    content: object,
    kind: type[ImageSyncError],
    message: str,
    connection: dict[str, Any],
    scripted: Front,
    source_of: SourceOf,
) -> None:
    scripted.on("POST", "/token", json_answer(status, content))
    with pytest.raises(kind, match=message) as caught:
        source_of(REGISTRY, **connection).get()
    assert "\n" not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)
    assert not caught.value.temporary


def test_a_token_service_that_does_not_answer_is_told(connection: dict[str, Any], source_of: SourceOf) -> None:
    keyfile = json.loads(connection["extra"]["keyfile_dict"])
    connection["extra"]["keyfile_dict"] = json.dumps({**keyfile, "token_uri": "http://127.0.0.1:1/token"})
    with pytest.raises(TransportError, match=r"no answer .*; check the network"):
        source_of(REGISTRY, **connection).get()


@pytest.mark.parametrize(
    "extra",
    [{"keyfile_dict": "{no json"}, {"keyfile_dict": "{}"}, {"key_path": "/missing.json"}, {"key_path": "/key.p12"}],
    ids=["no-json", "empty", "missing", "p12"],
)
def test_a_connection_that_is_wrong_is_told(extra: dict[str, Any], source_of: SourceOf) -> None:
    with pytest.raises(ConfigError, match="the connection 'account' can't be used") as caught:
        source_of(REGISTRY, conn_type="google_cloud_platform", extra=extra)
    assert "\n" not in str(caught.value)


def test_nobody_has_no_token(source_of: SourceOf) -> None:
    source = source_of(REGISTRY, conn_type="google_cloud_platform", extra={"is_anonymous": True})
    with pytest.raises(ConfigError, match="Anonymous credentials cannot be refreshed; give a key"):
        source.get()
