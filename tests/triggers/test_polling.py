"""How registries are asked from asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time

import pytest
from asgiref.sync import async_to_sync

from airflow_imagesync.errors import ConfigError, Denied, RateLimited, SyncCancelled, TransportError
from airflow_imagesync.triggers.polling import PolledRegistry, in_thread, pause_after
from tests.support.front import Front


def test_what_is_polled_runs_in_threads_of_ours_with_the_context_of_the_trigger() -> None:
    bound = contextvars.ContextVar("bound", default="nothing")

    async def main() -> tuple[str, str]:
        bound.set("a trigger")
        return await in_thread(lambda: (threading.current_thread().name, bound.get()))

    name, context = asyncio.run(main())
    assert name.startswith("imagesync-poll")
    assert context == "a trigger"


def test_airflow_can_be_asked_from_there() -> None:
    """Below 3.3 the triggerer answers connections on its loop, to threads that asgiref knows."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()

        async def ask_supervisor() -> asyncio.AbstractEventLoop:
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        return await in_thread(async_to_sync(ask_supervisor)) is loop

    assert asyncio.run(main())


def test_a_client_is_kept_until_its_connection_is_to_be_read_anew(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = PolledRegistry(front.host, "front")
    first = registry.client()
    assert registry.client() is first
    assert first.url.startswith("http://")
    registry.renew()
    other = {"conn_type": "oci_registry", "host": "registry.example.com"}
    monkeypatch.setenv("AIRFLOW_CONN_FRONT", json.dumps(other))
    with pytest.raises(ConfigError, match=r"is for registry\.example\.com, not for"):
        registry.client()
    registry.stop()


def test_without_a_connection_it_is_anybody_over_https() -> None:
    registry = PolledRegistry("registry.example.com", None)
    assert registry.client().url == "https://registry.example.com"
    registry.stop()
    with pytest.raises(SyncCancelled):
        registry.client()


@pytest.mark.parametrize(
    ("error", "failures", "pause"),
    [
        (TransportError("no answer"), 0, 60.0),
        (RateLimited("slowly", retry_after=5), 0, 60.0),
        (RateLimited("slowly", retry_after=300), 0, 300.0),
        (Denied("no"), 1, 120.0),
        (Denied("no"), 2, 240.0),
        (Denied("no"), 50, 900.0),
        (KeyError("a bug"), 1, 120.0),
    ],
)
def test_how_long_a_failed_poll_waits(error: Exception, failures: int, pause: float) -> None:
    assert pause_after(error, 60.0, failures) == pause


def test_a_wait_that_was_asked_for_until_some_time() -> None:
    error = RateLimited("slowly", retry_after=1)
    error.retry_at = time.time() + 200
    assert 199 < pause_after(error, 60.0, 0) <= 200
    assert pause_after(Denied("no"), 3600.0, 1) == 3600.0
