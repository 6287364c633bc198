"""What a task's log tells while the work goes on."""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_imagesync.operators import progress
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy
from tests.support.faults import answer
from tests.support.front import Front
from tests.support.task import Run

WriteConfig = Callable[..., Path]

LAYERS = [images.Blob(f"layer {number}".encode() * 1000) for number in range(6)]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE", 0.3)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 1.0)
    monkeypatch.setattr(progress, "_LOOK_EVERY", 0.1)


@pytest.fixture
def config(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> Iterator[Path]:
    """A configuration whose destination is far away: 12 images, one after the other."""
    for number, layer in enumerate(LAYERS):
        image = images.image([layer], "linux/amd64")
        images.push(source_registry.url, f"{repository_prefix}/app", image, [f"a{number}", f"b{number}"])
    with LatencyProxy(destination_registry.host, delay=0.15) as far:
        yield write_config(
            {
                "source": f"{source_registry.host}/{repository_prefix}/app",
                "destination": f"{far.host}/{repository_prefix}/app",
            },
            registries={far.host: {"insecure": True}},
            concurrency=1,
        )


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.threadName == "imagesync-progress"]
    assert all(one.levelno == logging.INFO for one in caplog.records if one.threadName == "imagesync-progress")
    return found


def test_a_long_task_tells_now_and_then_how_far_it_is(
    soon: None, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert Run().execute(ImageSyncOperator(task_id="sync", config=config))["copied"] == 12
    told = lines(caplog)
    times = [one.created for one in caplog.records if one.threadName == "imagesync-progress"]
    assert len(told) > 2
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(times))
    pattern = r"\d+ of 12 images done; [\d.]+ (B|KiB) of [\d.]+ (B|KiB), [\d.]+ (B|KiB)/s; about [\d.]+ s left"
    assert any(re.fullmatch(pattern, one) for one in told), told
    assert "imagesync-progress" not in {one.name for one in threading.enumerate()}


def test_planning_tells_too(soon: None, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    Run().execute(ImageSyncOperator(task_id="sync", config=config))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        Run().execute(ImageSyncPlanOperator(task_id="plan", config=config))
    told = lines(caplog)
    assert any(re.match(r"\d+ of 12 images compared", one) for one in told), told


def test_a_registry_that_wants_to_be_waited_for_is_named(
    soon: None,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, images.image(), ["v1"])
    with Front(source_registry.host) as front, caplog.at_level(logging.INFO):
        front.on("GET", "/manifests/", answer(429, {"Retry-After": "3"}), times=1)
        config = write_config(
            {"source": f"{front.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"},
            registries={front.host: {"insecure": True}},
        )
        Run().execute(ImageSyncOperator(task_id="sync", config=config))
    told = lines(caplog)
    assert any(re.search(rf"{front.host} to be waited for: [\d.]+ s", one) for one in told), told


def test_a_quick_task_tells_nothing(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, images.image(), ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"}
    )
    with caplog.at_level(logging.INFO):
        assert Run().execute(ImageSyncOperator(task_id="sync", config=config))["copied"] == 1
    assert lines(caplog) == []
    assert "imagesync-progress" not in {one.name for one in threading.enumerate()}
