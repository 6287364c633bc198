from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.hooks import registry
from airflow_imagesync.hooks.registry import RegistryHook
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER

Define = Callable[..., RegistryHook]


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Define:
    """Defines the default connection and returns its hook."""

    def define(**values: Any) -> RegistryHook:
        values = {"conn_type": "oci_registry", **values}
        monkeypatch.setenv("AIRFLOW_CONN_OCI_REGISTRY_DEFAULT", json.dumps(values))
        return RegistryHook()

    return define


INSECURE = {"extra": {"insecure": True}}


def test_the_test_button_says_who_the_registry_answers(
    define: Define, source_registry: DistributionRegistry, htpasswd_registry: DistributionRegistry
) -> None:
    ok, message = define(host=source_registry.host, **INSECURE).test_connection()
    assert (ok, message) == (True, f"{source_registry.url} is a registry and accepts requests of anybody")
    ok, message = define(host=htpasswd_registry.host, login=USER, password=PASSWORD, **INSECURE).test_connection()
    assert (ok, message) == (True, f"{htpasswd_registry.url} is a registry and accepts requests of {USER}")


def test_a_port_of_its_own_counts(define: Define, source_registry: DistributionRegistry) -> None:
    host, _, port = source_registry.host.rpartition(":")
    assert define(host=host, port=int(port), **INSECURE).test_connection()[0]


def test_a_token_service_is_asked(define: Define, token_registry: DistributionRegistry) -> None:
    ok, message = define(host=token_registry.host, login=USER, password=PASSWORD, **INSECURE).test_connection()
    assert ok, message
    extra = {"insecure": True, "identity_token": f"identity-of-{USER}"}
    ok, message = define(host=token_registry.host, extra=extra).test_connection()
    assert (ok, message) == (
        True,
        f"{token_registry.url} is a registry and accepts requests of the holder of the token",
    )


def test_a_certificate_is_verified_with_the_authority_given(
    define: Define, tls_registry: DistributionRegistry, ca_file: Path
) -> None:
    ok, message = define(host=tls_registry.host).test_connection()
    assert not ok
    assert "certificate" in message
    assert define(host=tls_registry.host, extra={"ca_file": str(ca_file)}).test_connection()[0]
    assert define(host=tls_registry.host, extra={"tls_verify": False}).test_connection()[0]


@pytest.mark.parametrize("registry", ["htpasswd_registry", "token_registry"])
def test_a_wrong_password_is_told_and_not_repeated(
    registry: str, define: Define, request: pytest.FixtureRequest
) -> None:
    host = request.getfixturevalue(registry).host
    ok, message = define(host=host, login=USER, password="mistyped-password", **INSECURE).test_connection()
    assert not ok
    assert "401" in message
    assert "mistyped-password" not in message


def test_a_registry_that_speaks_the_other_protocol_is_told(
    define: Define, source_registry: DistributionRegistry, tls_registry: DistributionRegistry
) -> None:
    ok, message = define(host=source_registry.host).test_connection()
    assert not ok
    assert "insecure" in message
    ok, message = define(host=tls_registry.host, **INSECURE).test_connection()
    assert not ok
    assert "HTTPS" in message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"host": "registry.invalid"}, "registry.invalid", id="unknown-host"),
        pytest.param({"host": "127.0.0.1:1"}, "127.0.0.1:1", id="refused"),
        pytest.param({}, "names no registry; give its host, like registry.example.com", id="no-host"),
        pytest.param({"host": "https://quay.io"}, "begins with 'https://'", id="scheme"),
        pytest.param({"host": "quay.io/team"}, "is not a registry", id="path"),
        pytest.param({"conn_type": "aws", "login": "key"}, "has the type 'aws' and no host", id="other-type"),
        pytest.param({"host": "quay.io", "extra": {"insecure": "perhaps"}}, "extra field 'insecure'", id="extra"),
        pytest.param({"host": "quay.io", "extra": "[1]"}, "its extra is no JSON object", id="extra-no-object"),
        pytest.param({"host": "127.0.0.1:1", "extra": {"ca_file": "/gone.pem"}}, "/gone.pem", id="ca-file"),
    ],
)
def test_what_is_wrong_is_told_at_once(values: dict[str, Any], expected: str, define: Define) -> None:
    """Nobody waits at a button for tries again."""
    began = time.monotonic()
    ok, message = define(**values).test_connection()
    assert not ok
    assert expected in message
    assert "\n" not in message
    assert time.monotonic() - began < 5


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no connection 'nowhere'; create it under Admin, Connections"):
        RegistryHook("nowhere").login()
    ok, message = RegistryHook("nowhere").test_connection()
    assert not ok
    assert "nowhere" in message


def test_gives_one_client_for_the_registry(
    define: Define, htpasswd_registry: DistributionRegistry, repository_prefix: str
) -> None:
    hook = define(host=htpasswd_registry.host, login=USER, password=PASSWORD, **INSECURE)
    client = hook.get_conn()
    assert client is hook.get_conn()
    assert client.head_manifest(repository_prefix, "v1") is None
    client.close()


def test_a_host_of_another_type_of_connection_is_used_for_that_host_alone(
    define: Define, htpasswd_registry: DistributionRegistry
) -> None:
    hook = define(conn_type="docker", host=htpasswd_registry.host, login=USER, password=PASSWORD, **INSECURE)
    assert hook.test_connection()[0]


def test_a_connection_of_a_cloud_logs_in_to_its_registries_and_its_keys_go_nowhere(
    define: Define, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def source(*arguments: Any) -> object:
        asked.append(arguments)
        return made

    made = object()
    monkeypatch.setattr(registry, "cloud_source", source)
    extra = {"region_name": "eu-west-1", "insecure": True}
    hook = define(conn_type="aws", login="key-id", password="secret-key", extra=extra)
    entry = Login(key="ecr", registry="1.dkr.ecr.eu-west-1.amazonaws.com", conn_id="oci_registry_default")
    login = hook.login(entry)
    assert (login.source, login.username, login.password, login.conn_id) == (made, None, None, None)
    assert not login.insecure
    assert asked == [("oci_registry_default", "aws", entry.registry, extra, entry)]


def test_a_connection_of_a_cloud_is_refused_for_other_registries(define: Define) -> None:
    hook = define(conn_type="aws", login="key-id", password="secret-key")
    with pytest.raises(ConfigError, match=r"registries\.evil: the connection .* not to evil\.example\.com") as caught:
        hook.login(Login(key="evil", registry="evil.example.com", conn_id="oci_registry_default"))
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("conn_type", ["http", "docker"])
def test_another_type_without_a_host_is_refused_for_every_registry(define: Define, conn_type: str) -> None:
    hook = define(conn_type=conn_type, login="user", password="secret")
    with pytest.raises(ConfigError, match=f"has the type '{conn_type}' and no host; expected the type 'oci_registry'"):
        hook.login(Login(key="quay.io", registry="quay.io", conn_id="oci_registry_default"))


def test_secrets_of_a_login_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr(registry, "mask_secret", masked.append)
    registry.mask_login(
        Login(username="u", password="pass", identity_token="token", proxy="http://me:pr%40xy@proxy.test:3128")
    )
    assert sorted(masked) == ["pass", "pr%40xy", "pr@xy", "token"]
    masked.clear()
    registry.mask_login(Login(proxy="environment"))
    registry.mask_login(Login(proxy="http://[::1"))
    registry.mask_credentials(Credentials(registry_token="own"))
    assert masked == ["own"]
