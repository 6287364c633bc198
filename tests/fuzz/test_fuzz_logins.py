from __future__ import annotations

import base64
import json
import os
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_imagesync.connections import connection_from_environment, login_from_connection
from airflow_imagesync.domain.login import DockerLogins, Login, is_proxy_url
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.registry.docker_config import DockerConfig
from tests.fuzz.strategies import fuzz, json_bodies, objects, texts, values

REGISTRY = "registry.example.com"
REPOSITORY = Repository(REGISTRY, "team/app")
SECRET = "hunter22"
keys = st.sampled_from(
    [REGISTRY, f"https://{REGISTRY}/v1/", f"{REGISTRY}/team", "https://index.docker.io/v1/", "", "\ud800"]
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


auths = st.sampled_from([b64(f"mover:{SECRET}"), b64(SECRET), b64(f"m:{SECRET}\0").rstrip("="), f"{SECRET}!", "\ud800"])
secrets = st.sampled_from([SECRET, f"{SECRET}\r\nX: y", f"{SECRET}\u20ac"])
entries = objects(
    {
        "auth": auths,
        "username": st.just("mover"),
        "password": secrets,
        "identitytoken": secrets,
        "registrytoken": secrets,
    }
)
tables = st.dictionaries(keys, st.one_of(entries, values), max_size=3)
configs = objects(
    {
        "auths": tables,
        "credHelpers": st.dictionaries(keys, st.one_of(texts("ecr-login", "/", "..", ";"), values), max_size=2),
        "credsStore": st.one_of(texts("desktop", "../x"), values),
    }
)


@fuzz(150)
@given(json_bodies(st.one_of(configs, tables, values)))
def test_any_docker_configuration_has_credentials_or_is_a_config_error(body: bytes) -> None:
    text = body.decode("utf-8", "replace").replace("\0", "")
    environ = {"DOCKER_AUTH_CONFIG": text, "DOCKER_CONFIG": "/nowhere", "HOME": "/nowhere"}
    with mock.patch.dict(os.environ, environ, clear=True):
        for login in (Login(registry=REGISTRY), Login(registry=REGISTRY, docker_config=True)):
            try:
                found = DockerConfig(DockerLogins(everywhere=True)).find(login, REPOSITORY)
                credentials = found.source.get() if found is not None else None
            except ConfigError as error:
                assert SECRET not in str(error)
                assert b64(f"mover:{SECRET}") not in str(error)
            else:
                assert SECRET not in repr(credentials)


extras = objects(
    {
        "insecure": st.sampled_from([True, "true", "", "maybe"]),
        "tls_verify": st.booleans(),
        "ca_file": st.just("/ca.pem"),
        "client_cert": st.just("/c.pem"),
        "client_key": st.just("/k.pem"),
        "proxy": texts("http://", "proxy:3128", f"u:{SECRET}@", "environment", "/", ":0", "socks5://"),
        "identity_token": st.just(SECRET),
        "token_realm_hosts": st.one_of(st.just("a.example,b.example"), st.lists(texts("a.example", "/"), max_size=2)),
        "max_concurrent": st.sampled_from([1, "4", 0, -1]),
        "requests_per_second": st.sampled_from([1.5, "2", 0]),
        "min_remaining": st.sampled_from([0, "7", -1]),
    }
)


@fuzz(120)
@given(
    extras,
    st.one_of(st.none(), texts("https://", REGISTRY, ":5000", "/", "[::1]", "docker.io")),
    st.one_of(st.none(), st.integers(-1, 70000)),
)
def test_any_connection_is_a_login_or_a_config_error(extra: dict[str, Any], host: str | None, port: int | None) -> None:
    for entry in (Login(key="k", registry=REGISTRY), Login(conn_id="c")):
        try:
            login = login_from_connection(
                entry, conn_id="c", host=host, port=port, login="mover", password=SECRET, extra=extra
            )
        except ConfigError as error:
            assert SECRET not in str(error)
        else:
            assert SECRET not in repr(login)
            assert login.conn_id is None


URIS = texts(
    *("oci_registry://", "http://", "https://", "user", f":{SECRET}", "@", REGISTRY, ":5000", ":x", "/", "?", "&", "="),
    *("insecure=true", "__extra__=", "%7B%22insecure%22%3A+true%7D", "%zz", "[::1]", "[", "]", "{", "}", '"'),
)
documents = objects({"host": st.just(REGISTRY), "port": st.integers(), "login": st.just("u"), "extra": extras})


@fuzz(150)
@given(st.one_of(URIS, json_bodies(documents).map(lambda body: body.decode("utf-8", "replace"))))
@example('{"a":' * 5000)
def test_any_variable_holds_a_connection_or_is_a_config_error(text: str) -> None:
    try:
        connection_from_environment("c", {"AIRFLOW_CONN_C": text})
    except ConfigError as error:
        assert SECRET not in str(error)


@fuzz(150)
@given(URIS)
def test_any_text_is_a_proxy_or_none(text: str) -> None:
    assert is_proxy_url(text) in (True, False)


def test_the_strategies_find_a_login() -> None:
    body = json.dumps({"auths": {REGISTRY: {"auth": b64(f"mover:{SECRET}")}}})
    with mock.patch.dict(os.environ, {"DOCKER_AUTH_CONFIG": body, "HOME": "/nowhere"}, clear=True):
        found = DockerConfig(DockerLogins(everywhere=True)).find(Login(registry=REGISTRY), REPOSITORY)
    assert found is not None
    assert found.source.get().password == SECRET
