"""Runs whose logins are in Docker's configuration."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.domain.login import DockerLogins, Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.rules import Destination, Rule, SyncConfig, Tags
from airflow_imagesync.engine.sync import SyncEngine
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.clients import SHORT, quick
from tests.support.helper import HelperProgram
from tests.support.skopeo import Skopeo

ONE = images.image([images.Blob(b"one")])
Run = Callable[..., SyncReport]


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def run(
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Copies one image to the registry that wants a password, to each of some names there."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    images.push(source_registry.url, f"{repository_prefix}/app", ONE, ["v1"])

    def run(document: Any, *names: str, docker: DockerLogins | None = None, **login: Any) -> SyncReport:
        (tmp_path / "config.json").write_text(json.dumps(document))
        to = [Repository(htpasswd_registry.host, f"{repository_prefix}/{name}") for name in names or ("app",)]
        rule = Rule(
            0,
            Repository(source_registry.host, f"{repository_prefix}/app"),
            Tags(("v1",)),
            tuple(Destination(one) for one in to),
        )
        logins = (
            Login(source_registry.host, source_registry.host, insecure=True),
            Login(htpasswd_registry.host, htpasswd_registry.host, insecure=True, **login),
        )
        config = SyncConfig((rule,), logins, docker=docker or DockerLogins(everywhere=True))
        with SyncEngine(config, retry=quick(), timeouts=SHORT) as engine:
            return engine.run()

    return run


def test_a_registry_without_a_login_takes_dockers(run: Run, htpasswd_registry: DistributionRegistry) -> None:
    document = {"auths": {f"http://{htpasswd_registry.host}": auth(USER, PASSWORD)}}
    assert run(document).totals["copied"] == 1


def test_what_another_program_wrote_at_its_login_is_understood(
    run: Run, htpasswd_registry: DistributionRegistry, repository_prefix: str, skopeo: Skopeo, tmp_path: Path
) -> None:
    written = tmp_path / "auth.json"
    for key in (htpasswd_registry.host, f"{htpasswd_registry.host}/{repository_prefix}"):
        login = ["--authfile", written, "--username", USER, "--password", PASSWORD, "--tls-verify=false"]
        skopeo("login", *login, key)
        assert run(json.loads(written.read_text()), f"of-{key.count('/')}").totals["copied"] == 1
        written.unlink()


def test_an_entry_may_ask_for_it_alone(run: Run, htpasswd_registry: DistributionRegistry) -> None:
    document = {"auths": {htpasswd_registry.host: auth(USER, PASSWORD)}}
    assert run(document, docker=DockerLogins()).totals["failed"] == 1
    assert run(document, docker=DockerLogins(), docker_config=True).totals["copied"] == 1


def test_a_login_of_its_own_wins(run: Run, htpasswd_registry: DistributionRegistry) -> None:
    document = {"auths": {htpasswd_registry.host: auth("nobody", "wrong")}}
    assert run(document, username=USER, password=PASSWORD).totals["copied"] == 1


def test_namespaces_of_a_registry_have_logins_of_their_own(
    run: Run, htpasswd_registry: DistributionRegistry, repository_prefix: str
) -> None:
    key = f"{htpasswd_registry.host}/{repository_prefix}/ours"
    document = {"auths": {htpasswd_registry.host: auth("nobody", "wrong"), key: auth(USER, PASSWORD)}}
    theirs, ours = run(document, "theirs", "ours/app").images
    assert theirs.error is not None
    assert "401" in theirs.error
    assert (ours.state, ours.error) == ("copied", None)


def test_a_helper_logs_in(
    run: Run, htpasswd_registry: DistributionRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = HelperProgram.on_path(tmp_path / "bin", monkeypatch)
    helper.logins = {htpasswd_registry.host: (USER, PASSWORD)}
    document = {"credHelpers": {htpasswd_registry.host: "fake"}}
    assert run(document, docker=DockerLogins(everywhere=True, helpers=True)).totals["copied"] == 1
    assert helper.asked == [f"get {htpasswd_registry.host}"]


def test_a_helper_that_must_not_run_fails_the_image_with_the_way_to_allow_it(
    run: Run, htpasswd_registry: DistributionRegistry
) -> None:
    (image,) = run({"credHelpers": {htpasswd_registry.host: "fake"}}).images
    assert image.error is not None
    assert image.error.endswith("set credential_helpers: true under defaults, or --credential-helpers")
    assert not image.temporary


def test_a_helper_of_a_registry_that_asks_for_no_login_is_never_missed(
    run: Run, source_registry: DistributionRegistry, htpasswd_registry: DistributionRegistry
) -> None:
    document = {
        "credHelpers": {source_registry.host: "fake"},
        "auths": {htpasswd_registry.host: auth(USER, PASSWORD)},
    }
    assert run(document).totals["copied"] == 1


@pytest.mark.parametrize("document", [["no object"], {"auths": 7}])
def test_a_broken_configuration_fails_the_images_and_nothing_else(run: Run, document: Any) -> None:
    report = run(document, "a", "b")
    assert report.totals["failed"] == 2
    assert all("config.json" in (one.error or "") for one in report.images)
