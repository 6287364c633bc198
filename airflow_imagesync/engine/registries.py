"""The registries of a run: one client for each registry and login, made when first needed."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.docker_config import DockerConfig
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.statistics import RegistryStatistics


class Registries:
    """Gives the client for a repository: that of its registry with the login whose key is the longest that applies.

    A login without credentials takes them from Docker's configuration where that is asked for.
    All clients of one registry share its limits: of requests in flight, and of those begun in a second.
    """

    def __init__(self, config: SyncConfig, retry: RetryPolicy, timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._retry = retry
        self._timeouts = timeouts
        self._docker = DockerConfig(config.docker)
        self._clients: dict[tuple[str, str | None, str | None], RegistryClient] = {}
        self._limiters: dict[str, Limiter] = {}
        self._lock = threading.Lock()

    def client(self, repository: Repository) -> RegistryClient:
        """Return the client for `repository`."""
        login = self._config.login_for(repository) or Login()
        if login.conn_id is not None:
            raise ConfigError(f"the connection {login.conn_id!r} of {login.key} was not looked up")
        docker = self._docker.find(login, repository)
        key = (repository.registry, login.key, docker.key if docker is not None else None)
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                limiter = self._limiters.get(repository.registry)
                if limiter is None:
                    limiter = self._limiters[repository.registry] = self._limiter(repository.registry)
                client = self._clients[key] = RegistryClient(
                    repository.registry,
                    login if docker is None else replace(login, source=docker.source),
                    retry=self._retry,
                    timeouts=self._timeouts,
                    # Each transfer may read from and write to the same registry.
                    connections=2 * self._config.concurrency + 2,
                    limiter=limiter,
                )
            return client

    def _limiter(self, registry: str) -> Limiter:
        """Return the limits of a registry: the least that any of its logins says."""
        logins = [login for login in self._config.logins if login.registry == registry]
        slots = [login.max_concurrent for login in logins if login.max_concurrent is not None]
        rates = [login.requests_per_second for login in logins if login.requests_per_second is not None]
        return Limiter(min(slots, default=None), registry=registry, requests_per_second=min(rates, default=None))

    def held(self) -> dict[str, float]:
        """Return the registries that asked to wait, each with the seconds that are left of that."""
        with self._lock:
            clients = list(self._clients.values())
        left = sorted((client.held_for, client.registry) for client in clients)
        return {registry: seconds for seconds, registry in left if seconds > 0}

    def statistics(self) -> dict[str, RegistryStatistics]:
        """Return what was asked of each registry so far, by any login."""
        with self._lock:
            clients = list(self._clients.values())
        parts: dict[str, list[RegistryStatistics]] = defaultdict(list)
        for client in clients:
            parts[client.registry].append(client.statistics)
        return {registry: RegistryStatistics.joined(found) for registry, found in parts.items()}

    def abort(self) -> None:
        """Shut every connection, so that whatever waits for a registry returns."""
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.abort()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.close()
