from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.errors import RateLimited, SyncCancelled
from airflow_imagesync.registry.pace import Pace
from airflow_imagesync.registry.retry import RetryPolicy


def patient(longest_wait: float = 60.0) -> RetryPolicy:
    return RetryPolicy(longest_wait=longest_wait, cancelled=threading.Event())


def begin_all(pace: Pace, count: int, retry: RetryPolicy) -> list[float]:
    """Begin so many requests from eight threads; return the moments, counted from now."""
    start = time.monotonic()

    def work(number: int) -> float:
        pace.begin(retry)
        return time.monotonic() - start

    with ThreadPoolExecutor(8) as pool:
        return sorted(pool.map(work, range(count)))


def test_without_a_bound_nobody_waits() -> None:
    assert begin_all(Pace(), 50, patient())[-1] < 1.0


def test_requests_are_spread_evenly_over_all_threads() -> None:
    moments = begin_all(Pace(per_second=50), 21, patient())
    # Never early: so many intervals of 20 ms have passed before each.
    assert all(moment >= number * 0.02 - 0.005 for number, moment in enumerate(moments))
    assert moments[-1] < 2.0


def test_time_that_nobody_used_is_not_saved_up() -> None:
    pace, retry = Pace(per_second=20), patient()
    pace.begin(retry)
    time.sleep(0.3)
    assert begin_all(pace, 3, retry)[-1] >= 0.095


def test_nothing_is_sent_before_the_time_that_was_named() -> None:
    pace, retry = Pace(), patient()
    pace.hold(0.3, retry)
    pace.hold(0.1, retry)  # a shorter one ends no longer one
    moments = begin_all(pace, 5, retry)
    assert moments[0] >= 0.25
    assert moments[-1] < 2.0
    assert begin_all(pace, 5, retry)[-1] < 0.2


def test_who_waited_for_a_hold_is_spread_anew() -> None:
    pace, retry = Pace(per_second=50), patient()
    pace.hold(0.2, retry)
    moments = begin_all(pace, 6, retry)
    assert moments[-1] - moments[0] >= 0.095


def test_a_hold_that_is_too_long_fails_at_once_and_says_until_when() -> None:
    pace, retry = Pace("quay.io"), patient(longest_wait=60)
    pace.hold(3600, retry)
    with pytest.raises(
        RateLimited, match=r"^quay\.io asked to be left alone until .* UTC, .*: nothing was sent"
    ) as caught:
        pace.begin(retry)
    assert caught.value.temporary
    assert 3590 < (caught.value.retry_after or 0) <= 3600


@pytest.mark.parametrize("held", [True, False], ids=["hold", "pace"])
def test_a_run_that_is_told_to_stop_waits_no_longer(held: bool) -> None:
    pace, retry = Pace(per_second=0.01), patient()
    pace.begin(retry)
    if held:
        pace.hold(50, retry)
    threading.Timer(0.1, retry.cancelled.set).start()
    begun = time.monotonic()
    with pytest.raises(SyncCancelled):
        pace.begin(retry)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("seconds", "level", "ending"),
    [
        (2, logging.INFO, "waiting"),
        (30, logging.WARNING, "waiting"),
        (3600, logging.WARNING, "what still needs it fails for now"),
    ],
)
def test_a_hold_is_told_once(seconds: float, level: int, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pace = Pace("quay.io")
    for _ in range(8):  # as many answers as there were requests under way
        pace.hold(seconds, patient())
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith("quay.io asks to wait ")
    assert record.getMessage().endswith(f"UTC: {ending}")
