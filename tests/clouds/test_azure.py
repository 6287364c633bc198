"""Microsoft's library and the provider's hook are the real ones; its identity platform is a stand-in on loopback."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import trustme
from airflow.providers.microsoft.azure.hooks import base_azure
from azure.identity import ClientSecretCredential

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.errors import ConfigError, TransportError, Unauthorized
from airflow_imagesync.hooks.azure import AcrLogin
from devtools import images
from devtools.distribution import DistributionRegistry, TokenAuth
from devtools.token_server import TokenServer
from tests.support import USER
from tests.support.faults import answer
from tests.support.front import Exchange, Front
from tests.support.world import World

REGISTRY = "example.azurecr.io"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
SECRET = "secret-of-the-principal"
PRINCIPAL = {"conn_type": "azure", "login": "client-id", "password": SECRET, "extra": {"tenantId": TENANT}}

SourceOf = Callable[..., CredentialSource]


def send(exchange: Exchange, content: object, status: int = 200) -> None:
    exchange.reply(status, [("Content-Type", "application/json")], json.dumps(content).encode())


class Acr:
    """What ACR answers to an exchange: numbered refresh tokens."""

    def __init__(self, front: Front) -> None:
        self.forms: list[dict[str, str]] = []
        front.on("POST", "/oauth2/exchange", self.exchange)

    def exchange(self, exchange: Exchange) -> None:
        self.forms.append(dict(parse_qsl(b"".join(exchange.body()).decode())))
        send(exchange, {"refresh_token": f"refresh-{len(self.forms)}"})


@pytest.fixture
def managed_identity(scripted: Front, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """An identity of the worker, as App Service gives it to what runs there; what it was asked for."""
    asked: list[dict[str, list[str]]] = []

    def token(exchange: Exchange) -> None:
        assert exchange.request.headers["X-IDENTITY-HEADER"] == "the-header"
        asked.append(parse_qs(urlsplit(exchange.request.target).query))
        send(
            exchange,
            {"access_token": "of-the-worker", "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"},
        )

    scripted.on("GET", "/msi/token", token)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{scripted.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "the-header")
    return asked


def at(front: Front, source: CredentialSource) -> AcrLogin:
    """Have the front stand for the registry."""
    assert isinstance(source, AcrLogin)
    assert source._registry_url == f"https://{REGISTRY}"
    source._registry_url = front.url
    return source


def test_the_workers_own_identity_is_exchanged(
    managed_identity: list[dict[str, list[str]]], scripted: Front, source_of: SourceOf
) -> None:
    acr = Acr(scripted)
    source = at(scripted, source_of(REGISTRY, conn_type="azure"))
    assert source.get() == source.get() == Credentials(identity_token="refresh-1")
    assert source.get(renew=True) == Credentials(identity_token="refresh-2")
    assert managed_identity[0]["resource"] == ["https://containerregistry.azure.net"]
    form = {"grant_type": "access_token", "service": scripted.host, "access_token": "of-the-worker"}
    assert acr.forms == [form, form]
    assert source._issue().seconds == 3 * 3600


def test_a_user_assigned_identity_is_named(
    managed_identity: list[dict[str, list[str]]], scripted: Front, source_of: SourceOf
) -> None:
    Acr(scripted)
    extra = {"managed_identity_client_id": "the-identity", "workload_identity_tenant_id": TENANT}
    at(scripted, source_of(REGISTRY, conn_type="azure", extra=extra)).get()
    assert managed_identity[0]["client_id"] == ["the-identity"]


@pytest.fixture
def identity_platform(
    certificate_authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Front]:
    """A stand-in for Microsoft's identity platform, which the library only speaks TLS with."""
    issued = certificate_authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    with Front(tls=(certificate, key)) as front:
        authority = f"https://{front.host}"
        document = {
            "issuer": f"{authority}/{TENANT}/v2.0",
            "authorization_endpoint": f"{authority}/{TENANT}/oauth2/v2.0/authorize",
            "token_endpoint": f"{authority}/{TENANT}/oauth2/v2.0/token",
        }
        front.on("GET", "/.well-known/openid-configuration", lambda exchange: send(exchange, document))

        def local(**arguments: Any) -> ClientSecretCredential:
            arguments["authority"] = authority
            return ClientSecretCredential(
                **arguments, disable_instance_discovery=True, connection_verify=str(ca_file), retry_total=0
            )

        monkeypatch.setattr(base_azure, "ClientSecretCredential", local)
        yield front


def test_a_service_principals_token_is_exchanged(
    identity_platform: Front, scripted: Front, source_of: SourceOf
) -> None:
    forms: list[dict[str, str]] = []

    def token(exchange: Exchange) -> None:
        forms.append(dict(parse_qsl(b"".join(exchange.body()).decode())))
        send(exchange, {"access_token": "of-the-principal", "expires_in": 3599, "token_type": "Bearer"})

    identity_platform.on("POST", f"/{TENANT}/oauth2/v2.0/token", token)
    acr = Acr(scripted)
    assert at(scripted, source_of(REGISTRY, **PRINCIPAL)).get() == Credentials(identity_token="refresh-1")
    wanted = {
        "grant_type": "client_credentials",
        "client_id": "client-id",
        "client_secret": SECRET,
        "scope": "https://containerregistry.azure.net/.default",
    }
    assert wanted.items() <= forms[0].items()
    assert acr.forms == [
        {
            "grant_type": "access_token",
            "service": scripted.host,
            "access_token": "of-the-principal",
            "tenant": TENANT,
        }
    ]


def test_a_wrong_secret_is_told(identity_platform: Front, scripted: Front, source_of: SourceOf) -> None:
    text = "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1\r\nCorrelation ID: 2"
    refusal = {"error": "invalid_client", "error_description": text, "error_codes": [7000215]}
    identity_platform.on("POST", "/oauth2/v2.0/token", lambda exchange: send(exchange, refusal, 401))
    with pytest.raises(Unauthorized, match=r"AADSTS7000215: Invalid client secret provided; check its login") as caught:
        at(scripted, source_of(REGISTRY, **PRINCIPAL)).get()
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not caught.value.temporary
    assert scripted.seen() == []


def test_a_platform_that_does_not_answer_is_told(
    identity_platform: Front, scripted: Front, source_of: SourceOf
) -> None:
    identity_platform.refuse()
    with pytest.raises(TransportError, match=r"no answer .*; check the network") as caught:
        at(scripted, source_of(REGISTRY, **PRINCIPAL)).get()
    assert "\n" not in str(caught.value)


def test_a_worker_without_an_identity_is_told(
    scripted: Front, source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.on("GET", "/msi/token", answer(400, body=b'{"error": "no identity"}'))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{scripted.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "the-header")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    with pytest.raises(Unauthorized, match="no token from Azure for the connection 'account'") as caught:
        at(scripted, source_of(REGISTRY, conn_type="azure")).get()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ({"login": "client-id", "password": SECRET}, "is incomplete: give login, password and tenantId"),
        ({"login": "client-id", "extra": {"tenantId": TENANT}}, "is incomplete"),
        ({"extra": {"key_path": "/key.json"}}, "has a key_path, which is not read here"),
        ({"extra": {"key_json": {"clientId": "1"}}}, "has a key_json, which is not read here"),
    ],
    ids=["no-tenant", "no-secret", "key-path", "key-json"],
)
def test_the_workers_identity_never_stands_in_for_another(
    connection: dict[str, Any], message: str, source_of: SourceOf
) -> None:
    with pytest.raises(ConfigError, match=message):
        source_of(REGISTRY, conn_type="azure", **connection)


def test_a_sync_to_acr_renews_its_refresh_token(
    managed_identity: list[dict[str, list[str]]],
    source_registry: DistributionRegistry,
    source_of: SourceOf,
    repository_prefix: str,
) -> None:
    tokens = TokenServer(access={USER: {"*": ("pull", "push", "delete")}}, identity_tokens={"refresh-2": USER})
    with Front() as acr, Front(source_registry.host) as source:
        realm = TokenAuth(f"{acr.url}/oauth2/token", *tokens_of(tokens))
        with tokens, DistributionRegistry(token_auth=realm, in_shared_memory=True) as registry:
            acr.upstream = registry.host
            exchanges = Acr(acr)
            acr.on("POST", "/oauth2/token", functools.partial(token_service, tokens))
            world = World(source, acr, prefix=repository_prefix)
            world.logins["destination"] = {"source": at(acr, source_of(REGISTRY, conn_type="azure"))}
            image = images.image()
            images.push(source_registry.url, f"{repository_prefix}/app", image, ["v1"])
            result = world.one(world.rule("v1"))
            assert result.error is None
            assert result.digest == image.digest
            # The first refresh token has ended by the time it is used.
            assert len(exchanges.forms) == 2
            assert [one.grant_type for one in tokens.requests] == ["refresh_token"] * len(tokens.requests)


def tokens_of(tokens: TokenServer) -> tuple[str, str, Path]:
    """What a registry must know besides the realm; the service need not run for that."""
    return tokens.service, tokens.issuer, tokens._certificates


def token_service(tokens: TokenServer, exchange: Exchange) -> None:
    pairs = parse_qsl(b"".join(exchange.body()).decode())
    status, content = tokens.answer("POST", exchange.request.headers.get("Authorization"), pairs)
    send(exchange, content, status)
