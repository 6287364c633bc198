from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_imagesync.config import read_text
from airflow_imagesync.connections import (
    ConnectionValues,
    connection_from_environment,
    login_from_connection,
    login_from_environment,
)
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ConfigError

PLAIN = Login(key="quay.io", registry="quay.io")
QUAY = replace(PLAIN, conn_id="quay")


def fill(entry: Login = QUAY, **values: object) -> Login:
    given: dict[str, object] = {"host": None, "port": None, "login": None, "password": None, "extra": None}
    return login_from_connection(entry, conn_id="quay", **{**given, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "oci-registry://robot:pa%2Fss%40@quay.io:5000/?insecure=true&max_concurrent=4",
            ConnectionValues("quay.io", 5000, "robot", "pa/ss@", {"insecure": True, "max_concurrent": 4}),
            id="uri",
        ),
        pytest.param("oci-registry://", ConnectionValues(), id="uri-with-nothing"),
        pytest.param("oci-registry://quay.io", ConnectionValues("quay.io"), id="uri-with-host-only"),
        pytest.param("oci-registry://robot:secret@", ConnectionValues(None, None, "robot", "secret"), id="uri-no-host"),
        pytest.param("oci-registry://[::1]:5000", ConnectionValues("::1", 5000), id="uri-with-ipv6"),
        pytest.param(
            "oci-registry://quay.io?__extra__=%7B%22token_realm_hosts%22%3A%20%5B%22a.io%22%5D%7D",
            ConnectionValues("quay.io", extra={"token_realm_hosts": ["a.io"]}),
            id="uri-with-all-extras-in-one",
        ),
        pytest.param("http://https://quay.io", ConnectionValues("https://quay.io"), id="uri-two-schemes"),
        pytest.param(
            '{"conn_type": "oci_registry", "host": "quay.io", "port": "5000", "login": "robot",'
            ' "password": "s", "extra": {"ca_file": "ca.pem"}}',
            ConnectionValues("quay.io", 5000, "robot", "s", {"ca_file": "ca.pem"}),
            id="json",
        ),
        pytest.param(
            '{"password": "s", "extra": "{\\"insecure\\": true}"}',
            ConnectionValues(password="s", extra={"insecure": True}),
            id="json-with-extra-as-text",
        ),
    ],
)
def test_reads_what_airflow_reads(text: str, expected: ConnectionValues) -> None:
    assert connection_from_environment("quay", {"AIRFLOW_CONN_QUAY": text}) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("robot:hunter2@quay.io", id="no-scheme"),
        pytest.param("oci-registry://robot:hunter2/x@quay.io", id="unescaped-slash-in-the-password"),
        pytest.param('{"password": "hunter2"', id="broken-json"),
        pytest.param('{"password": ["hunter2"]}', id="wrong-type"),
        pytest.param('{"port": ["hunter2"]}', id="wrong-type-of-port"),
        pytest.param('{"extra": "hunter2"}', id="extra-not-json"),
        pytest.param('{"extra": ["hunter2"]}', id="extra-not-an-object"),
    ],
)
def test_a_damaged_variable_is_named_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_QUAY holds no connection") as caught:
        connection_from_environment("quay", {"AIRFLOW_CONN_QUAY": text})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unset_variable_is_named_with_the_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        login_from_environment(QUAY, {"AIRFLOW_CONN_OTHER": "oci-registry://"})
    message = str(caught.value)
    assert message.startswith("registries.quay.io: ")
    assert "set AIRFLOW_CONN_QUAY" in message
    assert "'airflow imagesync'" in message


def test_an_entry_without_connection_stays_as_it_is() -> None:
    assert login_from_environment(PLAIN, {}) is PLAIN


def test_the_environment_fills_in_an_entry() -> None:
    login = login_from_environment(QUAY, {"AIRFLOW_CONN_QUAY": "oci-registry://robot:secret@quay.io"})
    assert (login.username, login.password) == ("robot", "secret")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_QUAY", "oci-registry://robot:secret@quay.io")
    assert login_from_environment(QUAY).username == "robot"


def test_every_value_is_taken_from_the_connection() -> None:
    login = fill(
        host="quay.io",
        login="robot",
        password="secret",
        extra={
            "insecure": "true",
            "tls_verify": "false",
            "ca_file": "ca.pem",
            "identity_token": "token",
            "token_realm_hosts": "auth.example.com, Tokens.example.com,",
            "max_concurrent": "4",
            "auth_mode": "somebody else's",
        },
    )
    assert login == Login(
        key="quay.io",
        registry="quay.io",
        username="robot",
        password="secret",
        identity_token="token",
        insecure=True,
        tls_verify=False,
        ca_file="ca.pem",
        token_realm_hosts=("auth.example.com", "tokens.example.com"),
        max_concurrent=4,
        docker_config=False,
    )


def test_an_empty_form_changes_nothing() -> None:
    extra = dict.fromkeys(
        ("insecure", "tls_verify", "ca_file", "identity_token", "token_realm_hosts", "max_concurrent"), ""
    )
    nulls = dict.fromkeys(extra)
    nobody = replace(PLAIN, docker_config=False)
    assert fill(host="", login="", password="", extra=extra) == nobody
    assert fill(extra=nulls) == nobody


def test_what_the_configuration_sets_wins() -> None:
    entry = Login(
        key="quay.io",
        registry="quay.io",
        conn_id="quay",
        username="mine",
        password="my own",
        ca_file="mine.pem",
        max_concurrent=2,
        token_realm_hosts=("mine.example.com",),
        insecure=True,
        tls_verify=False,
    )
    extra = {
        "ca_file": "other.pem",
        "identity_token": "other",
        "max_concurrent": 9,
        "token_realm_hosts": ["other.example.com"],
        "insecure": False,
        "tls_verify": True,
    }
    assert fill(entry, login="other", password="other", extra=extra) == replace(
        entry, conn_id=None, docker_config=False
    )


@pytest.mark.parametrize(
    ("setting", "said", "other"), [("insecure", False, True), ("tls_verify", True, False), ("min_remaining", 0, 9)]
)
def test_what_the_configuration_says_wins_also_where_that_is_the_usual(
    setting: str, said: object, other: object
) -> None:
    written = json.dumps({"registries": {"quay.io": {"conn_id": "quay", setting: said}}, "rules": []})
    (entry,) = read_text(written, environ={}).config.logins
    assert getattr(fill(entry, extra={setting: other}), setting) == said
    assert getattr(fill(extra={setting: other}), setting) == other


@pytest.mark.parametrize(
    "text",
    [
        "aws://KEYID:hunter2@",
        "google-cloud-platform://?keyfile_dict=hunter2",
        '{"conn_type": "aws", "login": "KEYID", "password": "hunter2"}',
    ],
)
def test_the_secrets_of_another_type_of_connection_go_to_no_registry(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"has the type '(aws|google_cloud_platform)' and no host; .*'airflow im"
    ) as e:
        login_from_environment(QUAY, {"AIRFLOW_CONN_QUAY": text})
    assert "hunter2" not in str(e.value)
    assert "KEYID" not in str(e.value)


def test_a_configured_identity_token_is_not_joined_by_a_password() -> None:
    entry = Login(key="quay.io", registry="quay.io", conn_id="quay", identity_token="mine")
    login = fill(entry, login="robot", password="other", extra={"identity_token": "other"})
    assert (login.identity_token, login.password) == ("mine", None)


@pytest.mark.parametrize(
    ("registry", "host", "port"),
    [
        pytest.param("quay.io", "quay.io", None, id="equal"),
        pytest.param("quay.io", "QUAY.io/", None, id="case-and-slash"),
        pytest.param("quay.io", None, 5000, id="no-host"),
        pytest.param("quay.io", "quay.io", 443, id="the-port-of-https"),
        pytest.param("localhost:5000", "localhost", 5000, id="port-apart"),
        pytest.param("localhost:5000", "localhost:5000", 5000, id="port-twice"),
        pytest.param("docker.io", "registry-1.docker.io", None, id="docker-hub-alias"),
        pytest.param("docker.io", "index.docker.io", 443, id="docker-hub-alias-with-port"),
        pytest.param("[::1]:5000", "::1", 5000, id="ipv6"),
    ],
)
def test_a_connection_for_the_same_registry_is_accepted(registry: str, host: str, port: int | None) -> None:
    entry = Login(key=registry, registry=registry, conn_id="quay")
    assert fill(entry, host=host, port=port, login="robot").username == "robot"


@pytest.mark.parametrize(
    ("registry", "host", "port"),
    [
        pytest.param("quay.io", "evil.example.com", None, id="another-host"),
        pytest.param("quay.io", "quay.io", 5000, id="another-port"),
        pytest.param("quay.io:443", "quay.io", 80, id="port-of-http-for-https"),
        pytest.param("quay.io", "docker.io", None, id="docker-hub"),
    ],
)
def test_credentials_go_only_to_their_registry(registry: str, host: str, port: int | None) -> None:
    entry = Login(key=registry, registry=registry, conn_id="quay")
    with pytest.raises(ConfigError, match=f"connection 'quay' is for {host}.*, not for {registry}"):
        fill(entry, host=host, port=port, password="secret")


@pytest.mark.parametrize("host", ["https://quay.io", "quay.io/team", "quay io", "quay.io:99999"])
def test_a_host_that_is_no_registry_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="connection 'quay': host: "):
        fill(host=host)


def test_an_entry_without_registry_takes_the_connections_host() -> None:
    assert fill(Login(), host="Quay.io", port=5000).registry == "quay.io:5000"
    assert fill(Login()).registry == ""


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"insecure": "perhaps"}, "insecure"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_concurrent": "many"}, "max_concurrent"),
        ({"token_realm_hosts": {"a": 1}}, "token_realm_hosts"),
        ({"token_realm_hosts": "https://auth.example.com"}, "token_realm_hosts"),
        ({"identity_token": ["hunter2"]}, "identity_token"),
    ],
)
def test_a_wrong_extra_is_named_and_not_quoted(extra: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=rf"registries\.quay\.io: connection 'quay': extra field '{field}'") as caught:
        fill(extra=extra)
    assert "hunter2" not in str(caught.value)
    assert "perhaps" not in str(caught.value)


def test_secrets_stay_out_of_what_is_printed() -> None:
    values = connection_from_environment(
        "quay",
        {"AIRFLOW_CONN_QUAY": json.dumps({"password": "hunter2", "extra": {"identity_token": "hunter3"}})},
    )
    assert values is not None
    assert "hunter" not in repr(values)
    assert "hunter" not in repr(fill(password="hunter2", extra={"identity_token": "hunter3"}))
