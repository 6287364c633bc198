from __future__ import annotations

import socket
from pathlib import Path

import pytest
import requests

from devtools import distribution, install
from devtools.distribution import DistributionRegistry, RegistryFailedError
from devtools.images import image, layer, push
from tests.support import PASSWORD, USER


def test_a_registry_answers_only_on_loopback(source_registry: DistributionRegistry):
    assert source_registry.host.startswith("127.0.0.1:")
    assert requests.get(f"{source_registry.url}/v2/").status_code == 200


@pytest.mark.parametrize(
    ("login", "status"),
    [((USER, PASSWORD), 200), ((USER, "wrong"), 401), (None, 401)],
    ids=["right", "wrong", "none"],
)
def test_a_password_is_asked_for(htpasswd_registry: DistributionRegistry, login: tuple[str, str], status: int):
    assert requests.get(f"{htpasswd_registry.url}/v2/", auth=login).status_code == status


def test_a_certificate_is_shown(tls_registry: DistributionRegistry, ca_file: Path):
    assert tls_registry.url.startswith("https://")
    assert requests.get(f"{tls_registry.url}/v2/", verify=str(ca_file)).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{tls_registry.url}/v2/")


def test_the_log_has_every_request_once(source_registry: DistributionRegistry, repository_prefix: str):
    before = len(source_registry.requests_log())
    for number in range(50):
        requests.get(f"{source_registry.url}/v2/{repository_prefix}/tags/list?n={number}", headers={"User-Agent": "us"})
    requests.head(f"{source_registry.url}/v2/{repository_prefix}/manifests/gone")
    logged = source_registry.requests_log()[before:]
    assert [(entry.method, entry.status) for entry in logged] == [("GET", 404)] * 50 + [("HEAD", 404)]
    assert logged[7].path == f"/v2/{repository_prefix}/tags/list?n=7"
    assert logged[7].user_agent == "us"
    assert logged[7].size > 0


def test_a_restart_keeps_port_content_and_log():
    with DistributionRegistry() as registry:
        pushed = push(registry.url, "kept", image(), ["v1"])
        before, host, pid = len(registry.requests_log()), registry.host, registry.pid
        registry.restart()
        assert (registry.host, len(registry.requests_log())) == (host, before)
        assert registry.pid != pid
        answer = requests.head(f"{registry.url}/v2/kept/manifests/v1", headers={"Accept": image().media_type})
        assert answer.headers["Docker-Content-Digest"] == pushed


def test_nothing_is_left_after_it():
    with DistributionRegistry() as registry:
        home, host = registry.access_log.parent, registry.host
    assert not home.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{host}/v2/")


def test_stopping_twice_does_no_harm():
    registry = DistributionRegistry().start()
    registry.stop()
    registry.stop()
    registry.close()
    registry.close()


def test_a_taken_port_is_not_mistaken_for_ours(monkeypatch: pytest.MonkeyPatch):
    """Between choosing a port and using it somebody else may take it, another registry even."""
    with DistributionRegistry() as other, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        ports = [int(other.host.rpartition(":")[2]), free]
        monkeypatch.setattr(distribution, "_free_port", lambda address: ports.pop(0))
        with DistributionRegistry() as registry:
            assert registry.host == f"127.0.0.1:{free}"


def test_a_registry_that_dies_shows_its_log():
    with pytest.raises(RegistryFailedError, match="must provide exactly one storage type"):
        DistributionRegistry(settings={"storage": {"nonsense": {}}}).__enter__()


def test_two_registries_share_a_storage_one_of_them_readonly(tmp_path: Path):
    with (
        DistributionRegistry(storage=tmp_path) as writer,
        DistributionRegistry(storage=tmp_path, readonly=True) as reader,
    ):
        push(writer.url, "shared", image(), ["v1"])
        assert requests.get(f"{reader.url}/v2/shared/tags/list").json()["tags"] == ["v1"]
        assert requests.post(f"{reader.url}/v2/shared/blobs/uploads/").status_code == 405
    assert (tmp_path / "docker").exists()


@pytest.mark.parametrize(("enabled", "status"), [(True, 202), (False, 405)], ids=["allowed", "refused"])
def test_deleting_can_be_refused(enabled: bool, status: int):
    with DistributionRegistry(delete_enabled=enabled) as registry:
        digest = push(registry.url, "some", image(), ["v1"])
        assert requests.delete(f"{registry.url}/v2/some/manifests/{digest}").status_code == status


def test_ipv6_is_written_in_brackets():
    with DistributionRegistry(address="::1") as registry:
        assert registry.host.startswith("[::1]:")
        assert requests.get(f"{registry.url}/v2/").status_code == 200


def test_variables_of_the_machine_do_not_change_the_configuration(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")
    with DistributionRegistry() as registry:
        assert requests.post(f"{registry.url}/v2/some/blobs/uploads/").status_code == 202


def test_docker_runs_a_registry_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The engine is played by a script that starts the registry itself, from what it was told to mount."""
    registry_program = install.ensure("registry")
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        '[ "$1" = info ] && echo 28.0 && exit\n'
        f'echo "$@" > {tmp_path}/arguments\n'
        'while [ "$1" != registry:3 ]; do shift; done\n'
        f'shift; exec {registry_program} "$@"\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with DistributionRegistry() as registry:
        assert requests.get(f"{registry.url}/v2/").status_code == 200
        told = (tmp_path / "arguments").read_text()
        assert told.startswith("run --rm --init --network host ")
        assert f"--volume {registry.access_log.parent}:{registry.access_log.parent}" in told


def test_storage_can_seem_full_for_a_while() -> None:
    large = image([layer(300_000)])
    with DistributionRegistry() as registry:
        registry.limit_files(200_000)
        with pytest.raises(requests.HTTPError, match=r"500.*file too large"):
            push(registry.url, "a", large, ["v1"])
        registry.limit_files(None)
        assert push(registry.url, "a", large, ["v1"]) == large.digest
