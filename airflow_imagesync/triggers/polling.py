"""Asks one registry now and then from asyncio: in threads of our own, with short waits, and stopped at once."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.engine.failures import is_temporary, retry_time
from airflow_imagesync.errors import RegistryError, SyncCancelled
from airflow_imagesync.hooks.registry import RegistryHook
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import STOPPED, RetryPolicy

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for all polls of this process: of a registry that is slow, polls wait for one another, and nobody else does.
THREADS = 16
#: Whoever polls comes back anyway, so nothing is waited for long.
TIMEOUTS = Timeouts(connect=5.0, read=15.0, slow=30.0)
#: A poll that nothing but a person can mend is repeated less and less often, but at least once in so many seconds.
RAREST = 900.0


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="imagesync-poll")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Return what a function returns that is run in one of the threads for polls.

    :param function: something that blocks. It may look up connections: inside the triggerer Airflow answers such a
        question on the event loop, and below 3.3 finds that only from threads that were started this way
    """
    return await sync_to_async(function, thread_sensitive=False, executor=_threads())(*args, **kwargs)


class PolledRegistry:
    """
    A registry that is asked now and then, with the login of a connection; safe to use from many threads.

    :param registry: its normalised host
    :param conn_id: the connection with the login and how the registry is reached; None for anybody, over HTTPS
    """

    def __init__(self, registry: str, conn_id: str | None) -> None:
        self.registry = registry
        self.conn_id = conn_id
        self._client: RegistryClient | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def client(self) -> RegistryClient:
        """
        Return the client, the same one until `renew`; looks the connection up, which blocks.

        :raises ConfigError: when there is no such connection, or it is not for this registry
        """
        with self._lock:
            if self._client is None:
                login = Login(registry=self.registry, conn_id=self.conn_id)
                if self.conn_id is not None:
                    login = RegistryHook(self.conn_id).login(login)
                self._client = RegistryClient(
                    self.registry,
                    login,
                    # Nothing is tried again or waited for here: the next poll does that.
                    retry=RetryPolicy(retries=0, longest_wait=0.0, cancelled=self._stopped),
                    timeouts=TIMEOUTS,
                )
            client = self._client
        if self._stopped.is_set():
            client.close()
            raise SyncCancelled(STOPPED)
        return client

    def renew(self) -> None:
        """Look the connection up anew when the registry is asked next: somebody may have mended it."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def stop(self) -> None:
        """End what is under way, for good; does not block."""
        self._stopped.set()
        client = self._client
        if client is not None:
            client.abort()
            client.close()


def asked_wait(error: Exception) -> float:
    """
    Return how many seconds a registry asked to be left alone; 0 when it did not.

    :param error: what it answered
    """
    retry_at = retry_time(error)
    if retry_at is not None:
        return max(0.0, retry_at - time.time())
    return (error.retry_after or 0.0) if isinstance(error, RegistryError) else 0.0


def pause_after(error: Exception, interval: float, failures: int) -> float:
    """
    Return how many seconds to wait after a poll that failed.

    :param error: why it failed
    :param interval: seconds between polls otherwise
    :param failures: how many polls in a row have failed so that only a person can mend it, this one included
    """
    if is_temporary(error):
        return max(interval, asked_wait(error))
    return max(interval, min(RAREST, interval * 2.0 ** min(failures, 16)))
