"""Keeps the tests apart from the machine they run on, and gives them real registries."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import trustme

from devtools import install
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.postgres import PostgresServer
from tests.support.skopeo import Skopeo

# What a developer or a CI machine may have set, and what would then decide what a test sees.
_FOREIGN = re.compile(
    r"(all|ftp|https?|no)_proxy|(requests|curl)_ca_bundle|ssl_cert_(file|dir)|netrc"
    r"|airflow_.*|_airflow_.*|default_(registry|namespace)|docker_(auth_)?config|registry_.*",
    re.IGNORECASE,
)


def _foreign_variables() -> list[str]:
    return [name for name in os.environ if _FOREIGN.fullmatch(name)]


# Airflow reads its settings when it is imported, which any test module may do: so they are made here, before.
for _name in _foreign_variables():
    del os.environ[_name]
if "airflow" in sys.modules:
    raise RuntimeError("a pytest plugin imports airflow before these tests could give it a home of its own")
_AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
_AIRFLOW_SETTINGS = {
    "AIRFLOW_HOME": str(_AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}
os.environ.update(_AIRFLOW_SETTINGS)

_numbers = itertools.count(1)


def pytest_unconfigure() -> None:
    shutil.rmtree(_AIRFLOW_HOME, ignore_errors=True)


def pytest_report_header() -> str:
    found = {name: install.find(name) for name in ("registry", "skopeo")}
    programs = ", ".join(f"{name}: {path or 'not yet found'}" for name, path in found.items())
    return f"apache-airflow: {version('apache-airflow')}, requests: {version('requests')}, {programs}"


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin every test with the same environment, whatever the ones before it left."""
    for name in _foreign_variables():
        if name not in _AIRFLOW_SETTINGS:
            monkeypatch.delenv(name)
    for name, value in _AIRFLOW_SETTINGS.items():
        monkeypatch.setenv(name, value)
    # What one test's syncs learned is not for the next one.
    state = _AIRFLOW_HOME / "state" / str(next(_numbers))
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("AIRFLOW__IMAGESYNC__RECORDS", str(state / "imagesync.db"))


@pytest.fixture
def repository_prefix(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses in the registries they share; repositories go below it."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{words[:60].rstrip('-')}-{next(_numbers)}"


@pytest.fixture(scope="session")
def source_registry() -> Iterator[DistributionRegistry]:
    """A registry that anybody may read and write, over plain HTTP."""
    with DistributionRegistry(in_shared_memory=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def destination_registry() -> Iterator[DistributionRegistry]:
    """A second one like it."""
    with DistributionRegistry(in_shared_memory=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def htpasswd_registry() -> Iterator[DistributionRegistry]:
    """A registry that asks for a password (Basic); USER and PASSWORD of tests.support are let in."""
    with DistributionRegistry(htpasswd={USER: PASSWORD}, in_shared_memory=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def token_server() -> Iterator[TokenServer]:
    """The token service of ``token_registry``: USER may do all, anybody may pull from ``public/``."""
    with TokenServer(
        users={USER: PASSWORD},
        access={USER: {"*": ("pull", "push", "delete")}, None: {"public/*": ("pull",)}},
        identity_tokens={f"identity-of-{USER}": USER},
    ) as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(token_server: TokenServer) -> Iterator[DistributionRegistry]:
    """A registry that asks for a token (Bearer)."""
    with DistributionRegistry(token_auth=token_server.token_auth, in_shared_memory=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def certificate_authority() -> trustme.CA:
    """An authority that no machine trusts by itself."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(certificate_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate, to be trusted by those who shall."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    certificate_authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def tls_registry(
    certificate_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DistributionRegistry]:
    """A registry over HTTPS with a certificate of ``certificate_authority``."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "registry.pem", directory / "registry.key"
    issued = certificate_authority.issue_cert("127.0.0.1", "localhost")
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    with DistributionRegistry(tls=(certificate, key), in_shared_memory=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Skopeo:
    """Skopeo, ready to run; without it tests fail, since nothing else here judges independently."""
    return Skopeo(install.ensure("skopeo"), tmp_path_factory.mktemp("skopeo"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that all tests share; each makes databases of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The Airflow home of this test run; its DAGs folder is ``dags`` below it."""
    (_AIRFLOW_HOME / "dags").mkdir(exist_ok=True)
    return _AIRFLOW_HOME


@pytest.fixture(scope="session")
def airflow_database(airflow_home: Path) -> Path:
    """Airflow's SQLite database in that home, with its tables."""
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, **_AIRFLOW_SETTINGS},
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    return airflow_home / "airflow.db"
