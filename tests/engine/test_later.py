from __future__ import annotations

import logging
import threading
import time

import pytest

from airflow_imagesync.engine.later import Later

pytestmark = pytest.mark.timeout(20)


def test_calls_come_after_their_time_the_earliest_first() -> None:
    later, came, done = Later(), [], threading.Event()
    begun = time.monotonic()
    for seconds in (0.09, 0.03, 0.06):
        later.call(seconds, lambda seconds=seconds: came.append((seconds, time.monotonic() - begun)))
    later.call(0.1, done.set)
    assert done.wait(10)
    later.close()
    assert [seconds for seconds, _ in came] == [0.03, 0.06, 0.09]
    assert all(after >= seconds for seconds, after in came)


def test_calls_of_one_time_come_in_their_order() -> None:
    later, came, done = Later(), [], threading.Event()
    for number in range(300):
        later.call(0.0, lambda number=number: came.append(number))
    later.call(0.01, done.set)
    assert done.wait(10)
    later.close()
    assert came == list(range(300))


def test_one_thread_is_enough_and_there_is_none_before_the_first_call() -> None:
    before = threading.active_count()
    later = Later()
    assert threading.active_count() == before
    for _ in range(100):
        later.call(60, lambda: None)
    assert threading.active_count() == before + 1
    later.close()
    assert threading.active_count() == before


def test_a_call_that_was_cancelled_does_not_come() -> None:
    later, came, done = Later(), [], threading.Event()
    handle = later.call(0.02, lambda: came.append("cancelled"))
    later.call(0.04, done.set)
    handle.cancel()
    handle.cancel()
    assert done.wait(10)
    later.close()
    assert came == []


def test_closing_drops_what_has_not_begun() -> None:
    later, came = Later(), []
    later.call(0.05, lambda: came.append("too late"))
    later.close()
    later.call(0.0, lambda: came.append("after that"))
    later.close()
    time.sleep(0.1)
    assert came == []


def test_closing_waits_for_a_call_under_way() -> None:
    later, begun, came = Later(), threading.Event(), []

    def slow() -> None:
        begun.set()
        time.sleep(0.1)
        came.append("finished")

    later.call(0.0, slow)
    assert begun.wait(10)
    later.close()
    assert came == ["finished"]


def test_a_call_may_ask_for_another_one_and_may_close() -> None:
    later, done = Later(), threading.Event()

    def end() -> None:
        later.close()
        done.set()

    later.call(0.0, lambda: later.call(0.0, end))
    assert done.wait(10)


def test_a_call_that_fails_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    later, done = Later(), threading.Event()
    with caplog.at_level(logging.ERROR):
        later.call(0.0, lambda: 1 // 0)
        later.call(0.01, done.set)
        assert done.wait(10)
        later.close()
    assert "ZeroDivisionError" in caplog.text
