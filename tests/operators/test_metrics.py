from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.operators import metrics
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.registry.statistics import RegistryStatistics
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer, change_headers
from tests.support.front import Front
from tests.support.statsd import StatsdSink
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
SIZE = sum(blob.size for blob in ONE.all_blobs())


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdSink]:
    """A StatsD server that Airflow's own client sends to, set up as it is in a task's process."""
    with StatsdSink() as sink:
        for name, value in sink.environ.items():
            monkeypatch.setenv(name, value)
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
        yield sink
        monkeypatch.undo()
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)


def wait_for(sink: StatsdSink, expected: dict[str, float], **tags: str) -> None:
    """Wait for UDP to bring metrics, and see that there are no others."""
    deadline = time.monotonic() + 5
    while sink.found("airflow.imagesync.", **tags) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sink.found("airflow.imagesync.", **tags) == expected


def result(host: str, state: ResultState, copied: int = 0, mounted: int = 0, skipped: int = 0) -> ImageResult:
    return ImageResult(0, "src.io/app:v1", f"{host}/app:v1", state, None, None, copied, mounted, skipped)


def test_counts_images_bytes_and_requests_for_each_registry(sink: StatsdSink) -> None:
    metrics.record(
        [
            result("a.io", ResultState.COPIED, 5, 6, 7),
            result("a.io", ResultState.COPIED, 10),
            result("[::1]:5000", ResultState.SAME),
            result("[::1]:5000", ResultState.FAILED, skipped=3),
        ],
        {"a.io": RegistryStatistics(9, 2), "docker.io": RegistryStatistics(4, 0, 76)},
    )
    # Another one may well have more requests.
    metrics.record([], {"docker.io": RegistryStatistics(1, 1, 75)})
    wait_for(
        sink,
        {
            "images.copied": 2,
            "bytes.copied": 15,
            "bytes.mounted": 6,
            "bytes.skipped": 7,
            "requests": 9,
            "retries": 2,
        },
        registry="a.io",
    )
    wait_for(sink, {"images.same": 1, "images.failed": 1, "bytes.skipped": 3}, registry="___1__5000")
    wait_for(sink, {"requests": 5, "retries": 1, "pulls_left": 75}, registry="docker.io")


def test_a_backend_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def incr(self, *arguments: object, **options: object) -> None:
            raise OSError("no route to host")

    stats.initialize(factory=Broken, export_legacy_names=True)  # type: ignore[arg-type]
    try:
        with caplog.at_level(logging.WARNING):
            metrics.record([result("a.io", ResultState.COPIED)])
    finally:
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
    assert "the metrics of this sync could not be sent" in caplog.text


def test_a_task_sends_what_each_of_its_tries_did(
    sink: StatsdSink,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    with Front(source_registry.host) as front:
        front.on(None, "/manifests/v1", answer(503), times=1)
        front.on("GET", "/manifests/", change_headers(RateLimit_Remaining="41;w=21600"))
        config = write_config(
            {"source": f"{front.host}/{name}:v1,v2", "destination": f"{destination_registry.host}/{name}"},
            registries={front.host: {"insecure": True}},
            retries=1,
        )
        operator = ImageSyncOperator(task_id="sync", config=config)
        run = Run()
        with pytest.raises(AirflowFailException, match="v2 does not exist"):
            run.execute(operator)
        source, destination = (one.replace(":", "_") for one in (front.host, destination_registry.host))
        asked = len(front.seen())
        wait_for(sink, {"requests": asked, "retries": 1, "pulls_left": 41}, registry=source)
        told = sink.found("airflow.imagesync.", registry=destination)
        assert told.pop("requests") >= 5
        assert told == {"images.copied": 1, "images.failed": 1, "bytes.copied": SIZE}

        # Another try finds the one that is there, and it was counted.
        images.push(source_registry.url, name, ONE, ["v2"])
        sink.forget()
        run.execute(operator)
        wait_for(sink, {"requests": len(front.seen()) - asked, "pulls_left": 41}, registry=source)
        told = sink.found("airflow.imagesync.", registry=destination)
        assert told.pop("requests") >= 2
        assert told == {"images.copied": 1, "bytes.skipped": SIZE}


def test_an_image_that_waits_for_more_pulls_has_not_failed(
    sink: StatsdSink,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    with Front(source_registry.host) as front:
        front.on("GET", "/manifests/", answer(429, {"Retry-After": "600"}), times=1)
        config = write_config(
            {"source": f"{front.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"},
            registries={front.host: {"insecure": True}},
        )
        operator = ImageSyncOperator(task_id="sync", config=config)
        run = Run()
        with pytest.raises(TaskDeferred) as caught:
            run.execute(operator)
        run.execute(operator, deferred=caught.value)
    destination = destination_registry.host.replace(":", "_")
    deadline = time.monotonic() + 5
    while "images.copied" not in sink.found("airflow.imagesync.") and time.monotonic() < deadline:
        time.sleep(0.02)
    told = sink.found("airflow.imagesync.", registry=destination)
    assert {key: value for key, value in told.items() if key != "requests"} == {
        "images.copied": 1,
        "bytes.copied": SIZE,
    }
