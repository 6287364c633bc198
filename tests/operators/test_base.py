from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.hooks import registry
from airflow_imagesync.operators.base import connection_logins, lines_for_log
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.task import Run

Connections = Callable[..., None]
ONE = images.image([images.Blob(b"one")])


def test_a_log_holds_the_beginning_and_the_totals_of_a_long_report() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    lines = lines_for_log(text).splitlines()
    assert len(lines) == 2002
    assert lines[:1] + lines[1999:] == ["line 0", "line 1999", "... and 7999 more lines", "line 9999"]
    assert lines_for_log("one\ntwo") == "one\ntwo"


def text(entry: dict[str, Any] | None = None, **defaults: Any) -> str:
    """Rules as somebody may write them into a form."""
    registries = {"quay.io": entry} if entry is not None else {}
    rules = [{"source": "quay.io/a:v1", "destination": "registry.example.com/a"}]
    return json.dumps({"registries": registries, "defaults": defaults, "rules": rules})


def read(rules: str) -> Any:
    return ImageSyncOperator(task_id="sync", rules=rules).read_config()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (text(docker_config=True), "rules: defaults has docker_config or credential_helpers, .*with conn_id"),
        (text(docker_config="/home/airflow/.docker"), "defaults has docker_config"),
        (text(credential_helpers=True), "defaults has docker_config or credential_helpers"),
        (text({"docker_config": True}), r"the entry quay\.io has docker_config, .*name an Airflow connection"),
        (text({"ca_file": "/etc/ssl/cert.pem"}), r"the entry quay\.io has ca_file, .*; set it in the connection"),
        (text({"ca_file": "/gone.pem"}), "has ca_file, which rules given as text must not have"),
        (text({"client_cert": "/etc/tls.pem", "client_key": "/etc/key.pem"}), "has client_cert"),
        (text({"proxy": "http://evil.example.com:3128"}), "has proxy"),
        (text({"proxy": "environment"}), "has proxy"),
        (text({"conn_id": "quay", "token_realm_hosts": ["evil.example.com"]}), "has token_realm_hosts"),
        (text({"conn_id": "quay", "allow_cross_host_upload": True}), "has allow_cross_host_upload"),
        (text({"conn_id": "quay", "insecure": True}), "has insecure, .* beside conn_id; set it in the connection"),
        (text({"conn_id": "quay", "tls_verify": False}), "has tls_verify, which rules .* beside conn_id"),
        (json.dumps({"registries": {"quay.io": {"insecure": True}, "quay.io/a": {"conn_id": "quay"}}, "rules": []}),
         "the entry quay.io/a has insecure"),
    ],
)  # fmt: skip
def test_rules_that_anybody_may_write_use_nothing_of_the_worker_and_weaken_no_connection(
    rules: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read(rules)
    assert "\n" not in str(caught.value)
    assert "No such file" not in str(caught.value)


def test_rules_that_anybody_may_write_say_the_rest() -> None:
    config = read(
        text({"conn_id": "quay", "max_concurrent": 2, "requests_per_second": 1.5}, retries=1, docker_config=False)
    )
    assert [(one.conn_id, one.max_concurrent) for one in config.logins] == [("quay", 2)]
    assert [one.insecure for one in read(text({"insecure": True, "docker_config": False})).logins] == [True]


@pytest.mark.parametrize("setting", [{"insecure": True}, {"tls_verify": False}])
def test_rules_that_anybody_may_write_do_not_weaken_the_connection_of_a_side(
    setting: dict[str, bool], connections: Connections
) -> None:
    connections(quay={"host": "quay.io", "login": "me", "password": "hunter22"})
    operator = ImageSyncOperator(task_id="sync", rules=text(setting), source_conn_id="quay")
    with pytest.raises(AirflowFailException) as caught:
        Run().execute(operator)
    (name,) = setting
    assert str(caught.value) == (
        f"the rules say {name} for quay.io, where the source connection 'quay' logs in; set it in the connection"
    )


def test_a_file_may_say_how_the_registry_of_a_connection_is_reached(
    connections: Connections,
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    connections(dst={"host": htpasswd_registry.host, "login": USER, "password": PASSWORD})
    (tmp_path / "sync.yaml").write_text(
        json.dumps(
            {
                "registries": {one.host: {"insecure": True} for one in (source_registry, htpasswd_registry)},
                "rules": [
                    {
                        "source": f"{source_registry.host}/{repository_prefix}:v1",
                        "destination": f"{htpasswd_registry.host}/{repository_prefix}",
                    }
                ],
            }
        )
    )
    operator = ImageSyncOperator(task_id="sync", config=tmp_path / "sync.yaml", destination_conn_id="dst")
    assert Run().execute(operator)["copied"] == 1


def test_a_file_may_use_dockers_logins_of_the_worker_and_they_are_blotted_out(
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masked: list[str] = []
    monkeypatch.setattr(registry, "mask_secret", masked.append)
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {htpasswd_registry.host: {"auth": pair}}}))
    (tmp_path / "sync.yaml").write_text(
        json.dumps(
            {
                "registries": {one.host: {"insecure": True} for one in (source_registry, htpasswd_registry)},
                "defaults": {"docker_config": "docker"},
                "rules": [
                    {
                        "source": f"{source_registry.host}/{repository_prefix}:v1",
                        "destination": f"{htpasswd_registry.host}/{repository_prefix}",
                    }
                ],
            }
        )
    )
    assert Run().execute(ImageSyncOperator(task_id="sync", config=tmp_path / "sync.yaml"))["copied"] == 1
    assert PASSWORD in masked


def test_a_clouds_connection_of_a_side_logs_in_to_that_clouds_registries_alone(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = object()
    monkeypatch.setattr(registry, "cloud_source", lambda *_: made)
    connections(cloud={"conn_type": "aws", "login": "key-id", "password": "secret-key"})
    ecr = Repository("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "app")
    logins = connection_logins(
        "cloud", [ecr, Repository("quay.io", "app")], "destination", SyncConfig(), must_fit=True, open_rules=True
    )
    assert [(one.registry, one.namespace, one.source, one.password) for one in logins] == [
        (ecr.registry, "app", made, None)
    ]
