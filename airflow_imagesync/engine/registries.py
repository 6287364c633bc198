"""The registries of a run: one client for each registry and login, made when first needed."""

from __future__ import annotations

import threading

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.retry import RetryPolicy


class Registries:
    """Gives the client for a repository: that of its registry with the login whose key is the longest that applies.

    All clients of one registry share its limit of requests in flight.
    """

    def __init__(self, config: SyncConfig, retry: RetryPolicy, timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._retry = retry
        self._timeouts = timeouts
        self._clients: dict[tuple[str, str | None], RegistryClient] = {}
        self._limiters: dict[str, Limiter] = {}
        self._lock = threading.Lock()

    def client(self, repository: Repository) -> RegistryClient:
        """Return the client for `repository`."""
        login = self._config.login_for(repository) or Login()
        if login.conn_id is not None:
            raise ConfigError(f"the connection {login.conn_id!r} of {login.key} was not looked up")
        key = (repository.registry, login.key)
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                limiter = self._limiters.get(repository.registry)
                if limiter is None:
                    limiter = self._limiters[repository.registry] = Limiter(self._slots(repository.registry))
                client = self._clients[key] = RegistryClient(
                    repository.registry,
                    login,
                    retry=self._retry,
                    timeouts=self._timeouts,
                    # Each transfer may read from and write to the same registry.
                    connections=2 * self._config.concurrency + 2,
                    limiter=limiter,
                )
            return client

    def _slots(self, registry: str) -> int | None:
        """Return the number of requests that may be in flight to a registry: the least that any of its logins says."""
        limits = [login.max_concurrent for login in self._config.logins if login.registry == registry]
        return min((limit for limit in limits if limit is not None), default=None)

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
