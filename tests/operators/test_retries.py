"""When a task that failed is tried again, on Airflow 3.3."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, RetryAction

from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.errors import ImagesFailed, NotFound, RateLimited, TransportError
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.retries import RegistryRetryPolicy, images_failed
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer
from tests.support.front import Front
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")
HOUR = 3600.0
USUAL: Any = {"task": SimpleNamespace(retry_delay=timedelta(minutes=5))}


@pytest.fixture
def front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


def failed(*, temporary: bool = True, retry_at: float | None = None) -> ImageResult:
    return ImageResult(
        rule=0,
        source="a.io/b:1",
        destination="c.io/b:1",
        state=ResultState.FAILED,
        temporary=temporary,
        retry_at=retry_at,
    )


def decide(error: BaseException) -> tuple[RetryAction, float | None]:
    found = RegistryRetryPolicy().evaluate(error, 1, 3, USUAL)
    return found.action, found.retry_delay.total_seconds() if found.retry_delay is not None else None


def test_the_error_tells_the_latest_time() -> None:
    now = time.time()
    error = images_failed("two", [failed(retry_at=now + 5), failed(retry_at=now + 9), failed(temporary=False)])
    assert (error.retry_at, error.only_time) == (now + 9, True)
    mixed = images_failed("two", [failed(retry_at=now + 5), failed()])
    assert (mixed.retry_at, mixed.only_time) == (now + 5, False)
    none = images_failed("one", [failed()])
    assert (none.retry_at, none.only_time) == (None, False)
    again = pickle.loads(pickle.dumps(mixed))
    assert (str(again), again.retry_at, again.only_time) == ("two", now + 5, False)


@pytest.mark.parametrize("wait", [3.0, HOUR])
def test_a_retry_waits_as_long_as_the_registry_asks(wait: float) -> None:
    action, delay = decide(ImagesFailed("failed", retry_at=time.time() + wait, only_time=True))
    assert action is RetryAction.RETRY
    assert delay is not None
    assert wait - 1 < delay < wait * 1.1 + 1


def test_a_time_that_is_over_needs_no_wait() -> None:
    assert decide(ImagesFailed("failed", retry_at=time.time() - HOUR, only_time=True)) == (RetryAction.RETRY, 0.0)


def test_no_wait_is_longer_than_a_day() -> None:
    assert decide(ImagesFailed("failed", retry_at=1e15, only_time=True)) == (RetryAction.RETRY, 86400.0)


def test_what_failed_for_other_reasons_has_its_usual_wait() -> None:
    assert decide(ImagesFailed("failed")) == (RetryAction.DEFAULT, None)
    assert decide(ImagesFailed("failed", retry_at=time.time() + 3)) == (RetryAction.DEFAULT, None)
    action, delay = decide(ImagesFailed("failed", retry_at=time.time() + HOUR))
    assert (action, (delay or 0) > HOUR - 1) == (RetryAction.RETRY, True)


def test_errors_of_this_package_are_judged_wherever_they_are_raised() -> None:
    assert decide(NotFound("gone"))[0] is RetryAction.FAIL
    assert decide(TransportError("no answer"))[0] is RetryAction.DEFAULT
    limited = RateLimited("wait", retry_after=90)
    limited.retry_at = time.time() + 90
    assert decide(limited)[0] is RetryAction.RETRY
    assert decide(ValueError("somebody else's"))[0] is RetryAction.DEFAULT


class Other(RegistryRetryPolicy):
    pass


def test_the_operator_has_it_unless_told_otherwise() -> None:
    sides = {"source": "a.io/b", "destination": "c.io/b"}
    assert type(ImageSyncOperator(task_id="a", **sides).retry_policy) is RegistryRetryPolicy
    assert type(ImageSyncOperator(task_id="b", retry_policy=Other(), **sides).retry_policy) is Other
    with DAG("d", schedule=None, default_args={"retry_policy": Other()}):
        assert type(ImageSyncOperator(task_id="c", **sides).retry_policy) is Other
        mapped = ImageSyncOperator.partial(task_id="e").expand_kwargs([sides])
    assert type(mapped.unmap(sides).retry_policy) is Other
    with DAG("n", schedule=None):
        mapped = ImageSyncOperator.partial(task_id="e").expand_kwargs([sides])
    assert type(mapped.unmap(sides).retry_policy) is RegistryRetryPolicy


def test_a_task_that_may_not_be_deferred_fails_with_the_time(
    front: Front, destination_registry: DistributionRegistry, write_config: WriteConfig, repository_prefix: str
) -> None:
    images.push(f"http://{front.upstream}", f"{repository_prefix}/app", ONE, ["v1", "v2"])
    front.on("GET", "/manifests/", answer(429, {"Retry-After": "3600"}))
    config = write_config(
        {
            "source": f"{front.host}/{repository_prefix}/app",
            "destination": f"{destination_registry.host}/{repository_prefix}",
        },
        registries={front.host: {"insecure": True}},
    )
    with pytest.raises(ImagesFailed) as caught:
        Run().execute(ImageSyncOperator(task_id="sync", config=config, max_wait=0))
    action, delay = decide(caught.value)
    assert action is RetryAction.RETRY
    assert HOUR - 30 < (delay or 0) < HOUR + 61


def test_a_retry_forces_nothing_that_was_copied_by_a_rule_carried_whole(
    front: Front, destination_registry: DistributionRegistry, write_config: WriteConfig, repository_prefix: str
) -> None:
    """Without a unit every rule is, and a unit carries whole what could not be planned."""
    name = f"{repository_prefix}/app"
    for url in (f"http://{front.upstream}", destination_registry.url):
        images.push(url, name, ONE, ["v1"])
        images.push(url, name, TWO, ["v2"])
    config = write_config(
        {"source": f"{front.host}/{name}", "destination": f"{destination_registry.host}/{name}", "force": True},
        registries={front.host: {"insecure": True}},
        retries=0,
    )
    front.on("GET", "/manifests/", answer(500), skip=1, times=1)
    run, operator = Run(), ImageSyncOperator(task_id="sync", config=config, concurrency=1)
    with pytest.raises(ImagesFailed):
        run.execute(operator)
    copied, undone = sorted(run.xcom("sync", "result")["images"], key=lambda one: one["state"])
    assert (copied["state"], undone["state"]) == ("copied", "failed")
    before = len(destination_registry.requests_log())
    front.forget()
    assert run.execute(operator)["copied"] == 2
    tag = copied["source"].rpartition(":")[2]
    later = [one for one in destination_registry.requests_log()[before:] if one.path.startswith(f"/v2/{name}/")]
    assert [one.method for one in later if one.path.endswith(f"/manifests/{tag}")] == ["HEAD"]
    assert len(front.seen("GET", "/manifests/")) == 1  # that of the other one
