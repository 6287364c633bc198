from __future__ import annotations

import logging
import threading
import time

import pytest

from airflow_imagesync.errors import RateLimited, SyncCancelled
from airflow_imagesync.registry import quota as quota_module
from airflow_imagesync.registry.quota import Quota
from airflow_imagesync.registry.retry import RetryPolicy


def patient(longest_wait: float = 60.0) -> RetryPolicy:
    return RetryPolicy(longest_wait=longest_wait, cancelled=threading.Event())


def says(remaining: str) -> dict[str, str]:
    return {"ratelimit-remaining": remaining}


def pull(quota: Quota, answer: str | None = None, retry: RetryPolicy | None = None) -> None:
    with quota.pull(retry or patient()):
        if answer is not None:
            quota.read(says(answer))


def test_pulls_go_on_until_none_is_left() -> None:
    quota = Quota("docker.io")
    for left in (2, 1, 0):
        pull(quota, f"{left};w=21600")
    with pytest.raises(RateLimited) as caught:
        pull(quota)
    assert str(caught.value).startswith(
        "docker.io has 0 pulls left for this login: no manifest was asked for; try again in"
    )
    assert 890 < (caught.value.retry_after or 0) <= 900


def test_what_is_to_be_left_is_left_by_those_under_way_too() -> None:
    quota = Quota("docker.io", min_remaining=10)
    quota.read(says("12;w=21600"))
    refusal = pytest.raises(RateLimited, match=r"of which 10 are not to be used \(min_remaining\)")
    with quota.pull(patient()), quota.pull(patient()), refusal:
        pull(quota)
    pull(quota)  # those two failed before they reached the registry


def test_an_answer_with_more_lets_pulls_go_on() -> None:
    quota = Quota("docker.io")
    quota.read(says("0;w=21600"))
    with pytest.raises(RateLimited):
        pull(quota)
    quota.read(says("3;w=21600"))
    pull(quota, "2;w=21600")


def test_a_window_shorter_than_the_hold_is_waited_for_and_the_next_answer_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quota = Quota("docker.io")
    quota.read(says("0;w=1"))
    begun = time.monotonic()
    pull(quota, "0;w=1")
    assert 0.9 < time.monotonic() - begun < 3
    with pytest.raises(RateLimited):
        pull(quota, retry=patient(longest_wait=0.5))
    monkeypatch.setattr(quota_module, "LONGEST_HOLD", 0.1)
    quota.read(says("0;w=21600"))
    pull(quota)


def test_a_run_that_is_told_to_stop_waits_no_longer() -> None:
    quota, retry = Quota(), patient()
    quota.read(says("0;w=50"))
    threading.Timer(0.1, retry.cancelled.set).start()
    with pytest.raises(SyncCancelled):
        pull(quota, retry=retry)


@pytest.mark.parametrize(
    "text", ["0", "", "many;w=21600", "0;w=", "-1;w=5", "0;q=21600", "9" * 40 + ";w=1", "0;w=1;x=2"]
)
def test_what_is_not_docker_hubs_form_says_nothing(text: str) -> None:
    quota = Quota()
    quota.read(says(text))
    pull(quota)


def test_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quota = Quota("docker.io", min_remaining=5)
    quota.read(says("5;w=21600"))
    for _ in range(4):
        with pytest.raises(RateLimited):
            pull(quota)
    (record,) = caplog.records
    assert record.getMessage().startswith("docker.io has 5 pulls left for this login, of which 5 are not to be used")
