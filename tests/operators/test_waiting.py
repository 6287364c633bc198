"""Tasks that wait for a registry's limit without holding a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_imagesync.errors import ImagesFailed
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer, pull_quota
from tests.support.front import Front
from tests.support.skopeo import Skopeo
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")
THREE = images.image([images.Blob(b"three" * 1000)], "linux/amd64")


@pytest.fixture(scope="module")
def lasting_front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def front(lasting_front: Front) -> Front:
    """A front before the source."""
    lasting_front.forget()
    return lasting_front


@pytest.fixture
def sync(
    front: Front,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> Callable[..., ImageSyncOperator]:
    """Makes a task that copies the tag v1 from the source, and v2 or others from the same through the front."""
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    images.push(source_registry.url, name, TWO, ["v2"])
    images.push(source_registry.url, name, THREE, ["v3"])

    def make(tags: str = "v2", **arguments: Any) -> ImageSyncOperator:
        config = write_config(
            *(
                {"source": f"{source}/{name}:{those}", "destination": f"{destination_registry.host}/{name}"}
                for source, those in ((source_registry.host, "v1"), (front.host, tags))
            ),
            registries={front.host: {"insecure": True}},
            retries=1,
        )
        return ImageSyncOperator(task_id="sync", config=config, **arguments)

    return make


def defers(run: Run, operator: ImageSyncOperator, **more: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        run.execute(operator, **more)
    return caught.value


def states(run: Run) -> list[str]:
    return [one["state"] for one in run.xcom("sync", "result")["images"]]


def manifests_read(registry: DistributionRegistry, since: int) -> list[str]:
    """Return the tags whose manifests were fetched."""
    return [
        one.path.rpartition("/")[2]
        for one in registry.requests_log()[since:]
        if one.method == "GET" and "/manifests/" in one.path
    ]


def seconds_until(deferral: TaskDeferred) -> float:
    moment: datetime = deferral.trigger.moment
    return moment.timestamp() - time.time()


@pytest.mark.parametrize("store", [True, False], ids=["with-a-state-store", "without"])
def test_a_long_wait_defers_the_task_which_then_does_what_is_left(
    sync: Callable[..., ImageSyncOperator],
    front: Front,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
    skopeo: Skopeo,
    store: bool,
) -> None:
    front.on("GET", "/manifests/v2", answer(429, {"Retry-After": "3600"}), times=1)
    run, operator = Run(), sync()
    deferral = defers(run, operator, store=store)
    assert 3590 < seconds_until(deferral) < 3600 + 61
    assert deferral.timeout is not None
    assert 3600 < deferral.timeout.total_seconds() < 5000
    # What was done so far is there for the report, should the task never go on.
    assert states(run) == ["copied", "failed"]
    moved = run.xcom("sync", "result")["images"][0]["bytes_copied"]

    front.forget()
    before = len(source_registry.requests_log())
    totals = run.execute(operator, store=store, deferred=deferral)
    assert totals["copied"] == 2
    assert states(run) == ["copied", "copied"]
    assert run.xcom("sync", "result")["images"][0]["bytes_copied"] == moved
    assert manifests_read(source_registry, before) == ["v2"]
    assert skopeo.digest(f"{destination_registry.host}/{repository_prefix}/app:v2") == TWO.digest


def test_docker_hubs_limit_defers_until_there_may_be_pulls_again(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    front.on(None, "/manifests/", pull_quota(0))
    run, operator = Run(), sync()
    deferral = defers(run, operator)
    assert 890 < seconds_until(deferral) < 900 + 61
    assert states(run) == ["copied", "failed"]
    assert len(front.seen("GET", "/manifests/")) == 1  # which told that pulls are counted here
    front.forget()
    front.on(None, "/manifests/", pull_quota(1))
    assert run.execute(operator, deferred=deferral)["copied"] == 2


def test_forced_images_are_not_copied_again_after_a_wait(sync: Callable[..., ImageSyncOperator], front: Front) -> None:
    front.on("GET", "/manifests/v3", answer(429, {"Retry-After": "3600"}, after=0.7), times=1)
    run, config = Run(), sync("v2,v3").config
    units = run.execute(ImageSyncPlanOperator(task_id="plan", config=config, force=True))
    (unit,) = [unit for unit in units if front.host in unit["label"]]
    operator = ImageSyncOperator(task_id="sync", config=config, unit=unit)
    deferral = defers(run, operator, store=False)
    assert states(run) == ["copied", "failed"]
    front.forget()
    assert run.execute(operator, store=False, deferred=deferral)["copied"] == 2
    assert len(front.seen("GET", "/manifests/")) == 1


def test_how_long_a_worker_is_held_can_be_set_below_a_minute(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    front.on("GET", "/manifests/v2", answer(429, {"Retry-After": "2"}), times=1)
    run, operator = Run(), sync()
    operator.longest_wait = 1.0
    deferral = defers(run, operator)
    assert 0 < seconds_until(deferral) < 2.5
    time.sleep(max(0.0, seconds_until(deferral)))
    assert run.execute(operator, deferred=deferral)["copied"] == 2


def test_a_short_wait_is_sat_out(sync: Callable[..., ImageSyncOperator], front: Front) -> None:
    front.on("GET", "/manifests/v2", answer(429, {"Retry-After": "1"}), times=1)
    assert Run().execute(sync())["copied"] == 2


@pytest.mark.parametrize("longest", [3600, timedelta(hours=1), 3600.0])
def test_the_waits_of_one_try_are_bounded(
    sync: Callable[..., ImageSyncOperator], front: Front, longest: float | timedelta
) -> None:
    front.on("GET", "/manifests/", answer(429, {"Retry-After": "1500"}))
    run, operator = Run(), sync(max_wait=longest)
    first = defers(run, operator)
    second = defers(run, operator, deferred=first)
    assert second.kwargs is not None
    assert 3000 < second.kwargs["waited"] < 3130
    with pytest.raises(ImagesFailed, match=r"429|left alone"):
        run.execute(operator, deferred=second)
    # Airflow's next try begins anew.
    assert defers(run, operator).kwargs["waited"] < 1600  # type: ignore[index]


def test_with_no_max_wait_a_task_is_never_deferred(sync: Callable[..., ImageSyncOperator], front: Front) -> None:
    front.on("GET", "/manifests/", answer(429, {"Retry-After": "3600"}))
    with pytest.raises(ImagesFailed):
        Run().execute(sync(max_wait=0))


def test_waits_that_are_over_when_the_rest_is_done_are_bounded_too(
    sync: Callable[..., ImageSyncOperator], front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.on("GET", "/manifests/", answer(429, {"Retry-After": "61"}))
    later = SimpleNamespace(time=lambda: time.time() + 300)
    monkeypatch.setattr("airflow_imagesync.operators.image_sync.time", later)
    run, operator = Run(), sync(max_wait=150)
    first = defers(run, operator)
    assert seconds_until(first) < 1
    second = defers(run, operator, deferred=first)
    with pytest.raises(ImagesFailed):
        run.execute(operator, deferred=second)


def test_what_failed_for_good_fails_the_task_once_the_rest_was_waited_for(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    front.on("GET", "/manifests/v2", answer(429, {"Retry-After": "3600"}), times=1)
    run, operator = Run(), sync("v2,missing")
    deferral = defers(run, operator)
    assert states(run) == ["copied", "failed", "failed"]
    front.forget()
    with pytest.raises(AirflowFailException, match="missing does not exist"):
        run.execute(operator, deferred=deferral)
    assert states(run) == ["copied", "copied", "failed"]


def test_where_something_else_may_pass_too_airflow_tries_again(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    front.on(None, "/manifests/other", answer(500))
    front.on("GET", "/manifests/v2", answer(429, {"Retry-After": "3600"}, after=1.5))
    with pytest.raises(ImagesFailed):
        Run().execute(sync("v2,other"))


def test_a_rule_that_could_not_be_planned_for_a_limit_waits_in_its_own_task(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    front.on(None, "", answer(429, {"Retry-After": "3600"}))
    run, config = Run(), sync().config
    units = run.execute(ImageSyncPlanOperator(task_id="plan", config=config))
    (limited,) = [unit for unit in units if front.host in unit["label"]]
    operator = ImageSyncOperator(task_id="sync", config=config, unit=limited)
    deferral = defers(run, operator, map_index=1)
    front.forget()
    assert run.execute(operator, map_index=1, deferred=deferral)["copied"] == 1


def test_what_a_deferred_task_leaves_can_be_stored_by_airflow(
    sync: Callable[..., ImageSyncOperator], front: Front
) -> None:
    from airflow.sdk.serde import deserialize, serialize

    front.on("GET", "/manifests/", answer(429, {"Retry-After": "3600"}))
    deferral = defers(Run(), sync())
    name, arguments = deferral.trigger.serialize()
    assert name == "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
    assert deserialize(serialize(arguments)) == arguments
    assert deserialize(serialize(deferral.kwargs)) == deferral.kwargs
