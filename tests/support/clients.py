"""Clients of registries and fronts that wait for nothing long."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import RetryPolicy

#: Shorter than any test's patience, longer than a busy machine takes for an answer.
SHORT = Timeouts(connect=2.0, read=1.0, write=1.0, commit=2.0)


class Place(Protocol):
    """A registry or a front."""

    @property
    def host(self) -> str: ...

    @property
    def url(self) -> str: ...


def quick(retries: int = 3) -> RetryPolicy:
    """Return a policy that hardly waits between tries."""
    return RetryPolicy(retries=retries, first_wait=0.01, max_wait=0.05, cancelled=threading.Event())


def login_for(place: Place, **values: Any) -> Login:
    """Return a login for all of a place, over plain HTTP where it speaks that."""
    return Login(key=place.host, registry=place.host, insecure=place.url.startswith("http:"), **values)


def client_for(
    place: Place, *, retries: int = 3, timeouts: Timeouts | None = None, limiter: Any = None, **login: Any
) -> RegistryClient:
    """Return a client of a place, with the values of its login."""
    return RegistryClient(
        place.host, login_for(place, **login), retry=quick(retries), timeouts=timeouts, limiter=limiter
    )
