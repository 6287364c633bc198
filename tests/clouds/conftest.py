"""Connections of clouds; these tests run in an environment with the clouds' libraries, by ``make test-clouds``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_imagesync.domain.credentials import CredentialSource
from airflow_imagesync.domain.login import Login
from airflow_imagesync.hooks.registry import RegistryHook
from tests.support.front import Front

SourceOf = Callable[..., CredentialSource]


@pytest.fixture(autouse=True)
def no_account_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the accounts that the machine itself may have."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)


@pytest.fixture
def source_of(monkeypatch: pytest.MonkeyPatch) -> SourceOf:
    """Defines the connection "account" and returns the source of credentials that it is for a registry."""

    def source_of(registry: str, **connection: Any) -> CredentialSource:
        monkeypatch.setenv("AIRFLOW_CONN_ACCOUNT", json.dumps(connection))
        login = RegistryHook("account").login(Login(key=registry, registry=registry, conn_id="account"))
        assert login.source is not None
        assert (login.username, login.password) == (None, None)
        return login.source

    return source_of


@pytest.fixture(scope="session")
def lasting_script() -> Iterator[Front]:
    with Front() as front:
        yield front


@pytest.fixture
def scripted(lasting_script: Front) -> Front:
    """A front without a registry: the test's rules are all there is."""
    lasting_script.forget()
    return lasting_script
