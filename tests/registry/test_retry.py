from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from airflow_imagesync.errors import (
    ContentError,
    DigestMismatch,
    ImageSyncError,
    NotFound,
    RateLimited,
    RegistryError,
    SyncCancelled,
    TransportError,
)
from airflow_imagesync.registry.retry import MAX_RETRY_AFTER, RetryPolicy

POLICY = {"first_wait": 0.001, "max_wait": 0.002}


def failing(times: int, error: Callable[[], BaseException]) -> tuple[Callable[[], str], list[float]]:
    """Return a function that fails so many times, and the list of the moments it was called."""
    calls: list[float] = []

    def function() -> str:
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error()
        return "done"

    return function, calls


@pytest.mark.parametrize("times", [0, 1, 3])
def test_what_fails_temporarily_is_tried_again(times: int) -> None:
    function, calls = failing(times, lambda: TransportError("no answer"))
    assert RetryPolicy(retries=3, **POLICY).call(function, "it") == "done"
    assert len(calls) == times + 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_last_error_is_raised_after_as_many_tries_as_allowed(retries: int) -> None:
    numbers = iter(range(100))
    function, calls = failing(100, lambda: TransportError(f"failure {next(numbers)}"))
    with pytest.raises(TransportError, match=f"failure {retries}$"):
        RetryPolicy(retries=retries, **POLICY).call(function, "it")
    assert len(calls) == retries + 1


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no"),
        ContentError("no"),
        TransportError("no", temporary=False),
        RegistryError("no", temporary=False),
        RateLimited("no", retry_after=MAX_RETRY_AFTER + 1),
        ValueError("a bug"),
    ],
    ids=["not-found", "content", "certificate", "refused", "wait-too-long", "bug"],
)
def test_what_does_not_pass_by_itself_is_tried_once(error: BaseException) -> None:
    function, calls = failing(100, lambda: error)
    with pytest.raises(type(error)):
        RetryPolicy(**POLICY).call(function, "it")
    assert len(calls) == 1


def test_what_was_tried_enough_below_is_not_tried_again_above() -> None:
    policy = RetryPolicy(retries=2, **POLICY)
    function, calls = failing(100, lambda: TransportError("no answer"))
    with pytest.raises(TransportError):
        policy.call(lambda: policy.call(function, "inner"), "outer")
    assert len(calls) == 3


@pytest.mark.parametrize(
    "error",
    [lambda: DigestMismatch("wrong"), lambda: RegistryError("wrong", codes=["DIGEST_INVALID"])],
    ids=["by-us", "by-the-registry"],
)
def test_wrong_content_is_asked_for_once_more_and_then_final(error: Callable[[], ImageSyncError]) -> None:
    function, calls = failing(1, error)
    assert RetryPolicy(**POLICY).call(function, "it") == "done"
    function, calls = failing(9, error)
    with pytest.raises(ImageSyncError) as caught:
        RetryPolicy(**POLICY).call(function, "it")
    assert (len(calls), caught.value.temporary) == (2, False)


def test_waits_double_up_to_a_limit_and_differ() -> None:
    policy = RetryPolicy(first_wait=1.0, max_wait=5.0)
    for attempt, full in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (5000, 5.0)]:
        waits = {policy.wait_before(attempt) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 10


@pytest.mark.parametrize("asked", [0.0, 7.0, MAX_RETRY_AFTER])
def test_at_least_what_a_registry_asks_for_is_waited(asked: float) -> None:
    policy = RetryPolicy(first_wait=0.5)
    waits = [policy.wait_before(1, RateLimited("slow down", retry_after=asked)) for _ in range(20)]
    assert all(asked + 0.25 <= wait <= asked + 0.5 for wait in waits)


@pytest.mark.parametrize("before", [True, False], ids=["told-before", "told-while-waiting"])
def test_a_run_that_is_told_to_stop_tries_no_more(before: bool) -> None:
    policy = RetryPolicy(first_wait=60.0, max_wait=60.0)
    function, calls = failing(100, lambda: TransportError("no answer"))
    if before:
        policy.cancelled.set()
    else:
        threading.Timer(0.1, policy.cancelled.set).start()
    begun = time.monotonic()
    with pytest.raises(SyncCancelled):
        policy.call(function, "it")
    assert time.monotonic() - begun < 5
    assert len(calls) == (0 if before else 1)


def test_an_error_that_came_of_stopping_is_reported_as_that() -> None:
    policy = RetryPolicy(**POLICY)

    def function() -> None:
        policy.cancelled.set()
        raise NotFound("the connection was shut")

    with pytest.raises(SyncCancelled):
        policy.call(function, "it")


def test_no_error_becomes_its_own_cause() -> None:
    with pytest.raises(ImageSyncError) as caught:
        RetryPolicy(retries=1, **POLICY).call(failing(9, lambda: TransportError("no"))[0], "it")
    assert caught.value.__cause__ is not caught.value
