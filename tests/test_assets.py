from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

import pytest
from airflow.sdk import Asset

from airflow_imagesync.assets import asset_uri, create_asset, repository_asset, sanitize_uri, to_openlineage
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.errors import InvalidReference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("oci://registry.example.com/team/app", "oci://registry.example.com/team/app"),
        ("oci://Registry.Example.com:5000/team/app/", "oci://registry.example.com:5000/team/app"),
        ("OCI://localhost/app", "oci://localhost/app"),
        ("oci://[::1]:5000/app", "oci://[::1]:5000/app"),
        ("oci://docker.io/nginx", "oci://docker.io/library/nginx"),
        ("oci://index.docker.io/library/nginx", "oci://docker.io/library/nginx"),
        ("oci://registry-1.docker.io/team/app", "oci://docker.io/team/app"),
    ],
)
def test_airflow_writes_a_repository_in_one_way(written: str, expected: str) -> None:
    asset = Asset(uri=written)
    assert asset.uri == expected
    assert asset.normalized_uri == expected
    assert Asset(uri=expected).uri == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("oci://registry.example.com/app:v1", "names a tag or a digest, but an asset is a repository; write oci://"),
        (f"oci://registry.example.com/app@{DIGEST}", "names a tag or a digest"),
        (f"oci://registry.example.com/app:v1@{DIGEST}", "names a tag or a digest"),
        ("oci://somebody@registry.example.com/app", "must not have a login"),
        ("oci://registry.example.com/app?tag=v1", "has a query or a fragment behind it"),
        ("oci://registry.example.com", "does not name a registry and a repository"),
        ("oci:///team/app", "does not name a registry and a repository"),
        ("oci://nginx", "does not name a registry and a repository"),
        ("oci://team/app", "with a registry such as"),
        ("oci://registry.example.com/Team/App", "repository names are in lower case"),
        ("oci://registry.example.com/team//app", "is not a repository"),
        ("oci://registry.example.com:99999/app", "is not a registry"),
        ("oci://registry_1.example.com/app", "is not a registry"),
    ],
)
def test_airflow_refuses_what_is_no_repository(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Asset(uri=written)


def test_no_secret_comes_into_a_message() -> None:
    """Airflow itself drops a user with a password and goes on; what else may hold one is refused."""
    with pytest.warns(UserWarning, match="should not contain a password"):
        asset = Asset(name="app", uri="oci://somebody:hunter2@registry.example.com/app")
    assert asset.uri == "oci://registry.example.com/app"
    for uri in (
        "oci://hunter2@registry.example.com/app",
        "oci://somebody:hunter2@registry.example.com/app",
        "oci://registry.example.com/app?token=hunter2",
        "oci://registry.example.com/app#hunter2",
    ):
        with pytest.raises(ValueError, match=r"registry\.example\.com") as caught:
            sanitize_uri(urlsplit(uri))
        assert "hunter2" not in str(caught.value)


def test_the_asset_of_a_repository_is_the_same_however_it_is_called() -> None:
    nginx = repository_asset("nginx")
    assert (nginx.name, nginx.uri) == ("oci://docker.io/library/nginx",) * 2
    assert repository_asset("index.docker.io/library/nginx") == nginx == repository_asset(Repository.parse("nginx"))
    assert Asset("oci://docker.io/library/nginx") == nginx
    assert asset_uri("Registry.Example.com/app") == "oci://registry.example.com/app"
    assert create_asset(repository="nginx", extra={"team": "web"}).extra == {"team": "web"}
    with pytest.raises(InvalidReference, match="is not a repository"):
        repository_asset("registry.example.com/app:v1")


def test_sanitizing_twice_changes_nothing() -> None:
    once = sanitize_uri(urlsplit("oci://Registry.Example.com/app/"))
    assert sanitize_uri(once) == once
    assert urlunsplit(once) == "oci://registry.example.com/app"


def test_airflow_knows_the_scheme() -> None:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager = ProvidersManagerTaskRuntime()
    assert manager.asset_uri_handlers["oci"] is sanitize_uri
    assert manager.asset_factories["oci"] is create_asset
    assert manager.asset_to_openlineage_converters["oci"] is to_openlineage


def test_a_hook_that_reports_a_repository_reports_its_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.lineage import HookLineageCollector

    asset = HookLineageCollector().create_asset(
        scheme="oci", uri=None, name=None, group=None, asset_kwargs={"repository": "nginx"}, asset_extra=None
    )
    assert asset == repository_asset("nginx")


def test_is_a_data_set_of_openlineage() -> None:
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset

    dataset = translate_airflow_asset(repository_asset("localhost:5000/team/app"), None)
    assert dataset is not None
    assert (dataset.namespace, dataset.name) == ("oci://localhost:5000", "team/app")


def test_importing_it_imports_nothing_of_airflow_and_nothing_slow() -> None:
    """Airflow imports it wherever a DAG with such an asset is parsed."""
    program = (
        "import sys; before = set(sys.modules); import airflow_imagesync.assets; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"airflow", "requests", "urllib3", "pydantic", "sqlalchemy", "tenacity", "yaml"} & set(
        done.stdout.split()
    )
