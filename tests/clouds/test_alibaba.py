"""Alibaba Cloud's SDK is the real one, its API a stand-in on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.errors import (
    ConfigError,
    Denied,
    ImageSyncError,
    ProtocolError,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
)
from airflow_imagesync.hooks.alibaba import TemporaryToken
from tests.support.front import Exchange, Front

REGISTRY = "example-registry.cn-hangzhou.cr.aliyuncs.com"
SECRET = "secret-of-the-account"
EXTRA = {"access_key_id": "LTAI5tExample", "access_key_secret": SECRET, "instance_id": "cri-xkx6vujuhay0****"}

SourceOf = Callable[..., CredentialSource]


def answering(front: Front, content: object, status: int = 200, seen: list[dict[str, str]] | None = None) -> None:
    """Have the API answer, after a look at the signature ("V3 request body & signature mechanism")."""

    def act(exchange: Exchange) -> None:
        request = exchange.request
        headers = {name.lower(): value for name, value in request.headers.items()}
        algorithm, _, rest = headers["authorization"].partition(" ")
        assert algorithm == "ACS3-HMAC-SHA256"
        parts = dict(part.split("=", 1) for part in rest.split(","))
        names = parts["SignedHeaders"].split(";")
        assert {"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date"} <= set(names)
        body = hashlib.sha256(b"".join(exchange.body())).hexdigest()
        signed = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
        query = dict(parse_qsl(urlsplit(request.target).query))
        canonical = "&".join(f"{quote(key, safe='~')}={quote(query[key], safe='~')}" for key in sorted(query))
        text = "\n".join(["POST", "/", canonical, signed, parts["SignedHeaders"], body])
        to_sign = f"{algorithm}\n{hashlib.sha256(text.encode()).hexdigest()}"
        assert hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest() == parts["Signature"]
        if seen is not None:
            seen.append({**query, **headers, "key": parts["Credential"]})
        exchange.reply(status, [("Content-Type", "application/json")], json.dumps(content).encode())

    front.on("POST", "/", act)


def at(front: Front, source_of: SourceOf, **extra: Any) -> TemporaryToken:
    """The source for a registry whose API is the front."""
    source = source_of(REGISTRY, conn_type="alibaba_cloud", extra={**EXTRA, "endpoint": front.host, **extra})
    assert isinstance(source, TemporaryToken)
    source._client._protocol = "http"
    return source


def granted(seconds: float = 3600) -> dict[str, Any]:
    """The documented answer of GetAuthorizationToken."""
    return {
        "Code": "success",
        "IsSuccess": True,
        "RequestId": "B9127F45-5DDF-1E6B-8D2B-1F6A5A3A9D06",
        "TempUsername": "cr_temp_user",
        "AuthorizationToken": "eyJ0aW1lIjoi",
        "ExpireTime": int((time.time() + seconds) * 1000),
    }


@pytest.mark.parametrize("token", [None, "token-of-session"])
def test_a_temporary_user_is_the_login(token: str | None, scripted: Front, source_of: SourceOf) -> None:
    seen: list[dict[str, str]] = []
    answering(scripted, granted(), seen=seen)
    source = at(scripted, source_of, security_token=token)
    assert source.get() == source.get() == Credentials("cr_temp_user", "eyJ0aW1lIjoi")
    assert 3500 < source._issue().seconds <= 3600
    wanted = {
        "x-acs-action": "GetAuthorizationToken",
        "x-acs-version": "2018-12-01",
        "InstanceId": EXTRA["instance_id"],
        "key": EXTRA["access_key_id"],
    }
    assert wanted.items() <= seen[0].items()
    assert seen[0].get("x-acs-security-token") == token


@pytest.mark.parametrize(
    ("host", "extra", "endpoint"),
    [
        (REGISTRY, {}, "cr.cn-hangzhou.aliyuncs.com"),
        ("example-registry-vpc.eu-central-1.cr.aliyuncs.com", {}, "cr-vpc.eu-central-1.aliyuncs.com"),
        ("my-registry-registry.cn-beijing.cr.aliyuncs.com", {}, "cr.cn-beijing.aliyuncs.com"),
        (REGISTRY, {"region": "cn-shanghai"}, "cr.cn-shanghai.aliyuncs.com"),
        (REGISTRY, {"endpoint": "cr.example.com"}, "cr.example.com"),
    ],
)
def test_the_api_is_that_of_the_registrys_region(
    host: str, extra: dict[str, str], endpoint: str, source_of: SourceOf
) -> None:
    source = source_of(host, conn_type="alibaba_cloud", extra={**EXTRA, **extra})
    assert source._client._endpoint == endpoint
    assert source._client._protocol is None  # which means HTTPS


@pytest.mark.parametrize("missing", EXTRA)
def test_what_the_connection_lacks_is_told(missing: str, source_of: SourceOf) -> None:
    with pytest.raises(ConfigError, match=f"the connection 'account' lacks {missing} in its extra"):
        source_of(REGISTRY, conn_type="alibaba_cloud", extra={**EXTRA, missing: " "})


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "expected"),
    [
        (403, "NoPermission", "You are not authorized.", Denied, "allow cr:GetAuthorizationToken to its user"),
        (404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.", Unauthorized, "its access key"),
        (400, "SignatureDoesNotMatch", f"server string to sign is: {SECRET}", Unauthorized, "check its access key"),
        (400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.", Unauthorized, "is expired"),
        (400, "INSTANCE_NOT_EXIST", "instance is not exist", RegistryError, "instance is not exist"),
        (400, "Throttling.User", "Request was denied due to user flow control.", RateLimited, "try later"),
        (503, "ServiceUnavailable", "The service is unavailable.", RegistryError, "ServiceUnavailable"),
    ],
)
def test_a_refusal_is_told(
    status: int,
    code: str,
    message: str,
    kind: type[ImageSyncError],
    expected: str,
    scripted: Front,
    source_of: SourceOf,
) -> None:
    answering(scripted, {"Code": code, "Message": message, "RequestId": "1"}, status)
    with pytest.raises(kind, match=expected) as caught:
        at(scripted, source_of).get()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.temporary == (expected in ("try later", "ServiceUnavailable"))


def test_an_answer_without_a_token_is_told(scripted: Front, source_of: SourceOf) -> None:
    answering(scripted, {"Code": "failed", "IsSuccess": False})
    with pytest.raises(ProtocolError, match="answered without a token"):
        at(scripted, source_of).get()


def test_an_api_that_does_not_answer_is_told(scripted: Front, source_of: SourceOf) -> None:
    source = at(scripted, source_of, endpoint="127.0.0.1:1")
    with pytest.raises(TransportError, match=r"no answer .*; check the network") as caught:
        source.get()
    assert "\n" not in str(caught.value)
