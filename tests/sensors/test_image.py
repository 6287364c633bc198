"""The sensor as a task runs it: one look, and then it leaves its worker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_imagesync.sensors.image import ImageSensor
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.faults import answer, too_many
from tests.support.front import Front
from tests.support.task import Run

ONE = images.image([images.Blob(b"one")], "linux/amd64")
INDEX = images.index([ONE, images.image([images.Blob(b"arm")], "linux/arm64")])

Make = Callable[..., ImageSensor]


@pytest.fixture(scope="module")
def lasting_front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def front(lasting_front: Front, monkeypatch: pytest.MonkeyPatch) -> Front:
    lasting_front.forget()
    connection = {"conn_type": "oci_registry", "host": lasting_front.host, "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_FRONT", json.dumps(connection))
    return lasting_front


@pytest.fixture
def sensor(front: Front, repository_prefix: str) -> Make:
    """Makes a sensor for the tag v1."""

    def make(**arguments: Any) -> ImageSensor:
        options: dict[str, Any] = {
            "image": f"{front.host}/{repository_prefix}:v1",
            "conn_id": "front",
            "poke_interval": 0.2,
            "timeout": 30,
            **arguments,
        }
        return ImageSensor(task_id="wait", **options)

    return make


@pytest.fixture
def pushed(source_registry: DistributionRegistry, repository_prefix: str) -> None:
    images.push(source_registry.url, repository_prefix, INDEX, ["v1"])


def defers(sensor: ImageSensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        Run().execute(sensor)
    return caught.value


def resume(sensor: ImageSensor, deferral: TaskDeferred) -> Any:
    """Run the trigger to its event, and the task with that."""

    async def event() -> Any:
        async for one in deferral.trigger.run():
            return one.payload
        raise AssertionError("no event")

    return sensor.resume_execution(deferral.method_name, {"event": asyncio.run(event())}, {})


@pytest.mark.usefixtures("pushed")
def test_an_image_that_is_there_is_returned_at_once(sensor: Make, front: Front, repository_prefix: str) -> None:
    run = Run()
    found = run.execute(sensor())
    image = f"{front.host}/{repository_prefix}:v1"
    assert found == {"image": image, "digest": INDEX.digest, "media_type": INDEX.media_type}
    assert run.xcom("wait") == found
    assert [one.method for one in front.seen()] == ["HEAD"]


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.usefixtures("pushed")
def test_a_platform_and_a_digest_are_looked_for(sensor: Make, deferrable: bool) -> None:
    found = Run().execute(sensor(digest=INDEX.digest, platform="linux/arm64", deferrable=deferrable))
    assert found["platforms"] == ["linux/amd64", "linux/arm64"]


def test_what_is_not_there_defers_the_task_which_returns_it_once_it_is(
    sensor: Make, front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    task = sensor()
    deferral = defers(task)
    assert deferral.timeout is not None
    assert deferral.timeout.total_seconds() == 90
    path, arguments = deferral.trigger.serialize()
    assert path.endswith(".ImageTrigger")
    assert 25 < arguments.pop("deadline") - time.time() <= 30
    assert arguments == {
        "image": task.image,
        "digest": None,
        "platform": None,
        "conn_id": "front",
        "poll_interval": 0.5,
        "not_before": None,
    }
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    assert resume(task, deferral)["digest"] == ONE.digest


def test_arguments_are_templates_and_one_that_comes_out_empty_says_nothing(
    sensor: Make, front: Front, repository_prefix: str
) -> None:
    task = sensor(
        image=front.host + "/{{ params.name }}:v1@" + ONE.digest,
        digest="{{ params.digest }}",
        platform="{{ params.platform }}",
        conn_id="{{ params.where }}",
    )
    params = {"name": repository_prefix, "digest": "", "platform": None, "where": "front"}
    with pytest.raises(TaskDeferred) as caught:
        Run().execute(task, params=params)
    _, arguments = caught.value.trigger.serialize()
    assert (arguments["digest"], arguments["platform"], arguments["conn_id"]) == (None, None, "front")
    assert arguments["image"] == f"{front.host}/{repository_prefix}:v1@{ONE.digest}"


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": "quay.io/a"}, "names no tag and no digest"),
        ({"image": "https://quay.io/a:v1"}, "begins with 'https://'"),
        ({"digest": "sha256:12"}, "is not a digest"),
        ({"platform": "linux"}, "is not a platform"),
        ({"conn_id": "nowhere"}, "there is no connection 'nowhere'; create it"),
        ({"image": "quay.io/a:v1"}, "is for 127.0.0.1:.*, not for quay.io"),
    ],
)
def test_a_mistake_fails_the_task_for_good(
    sensor: Make, front: Front, arguments: dict[str, Any], message: str, deferrable: bool
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        Run().execute(sensor(**arguments, deferrable=deferrable))
    with pytest.raises(AirflowSkipException):
        Run().execute(sensor(**arguments, deferrable=deferrable, soft_fail=True))
    assert front.seen() == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_login_that_is_refused_fails_the_task_for_good(
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
) -> None:
    values = {"host": htpasswd_registry.host, "login": USER, "password": f"not-{PASSWORD}", "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_GUARDED", json.dumps({"conn_type": "oci_registry", **values}))
    image = f"{htpasswd_registry.host}/{repository_prefix}:v1"
    task = ImageSensor(task_id="wait", image=image, conn_id="guarded", deferrable=deferrable)
    with pytest.raises(AirflowFailException, match="401") as caught:
        Run().execute(task)
    assert PASSWORD not in str(caught.value)


def test_a_fault_defers_the_task_and_the_trigger_keeps_to_what_was_asked(
    sensor: Make, front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    front.on("HEAD", "", too_many(2), times=1)
    task = sensor()
    deferral = defers(task)
    assert 0 < deferral.trigger.serialize()[1]["not_before"] - time.time() <= 2
    assert resume(task, deferral)["digest"] == ONE.digest
    assert front.seen()[1].at - front.seen()[0].at > 1.9


@pytest.mark.usefixtures("pushed")
def test_without_a_triggerer_faults_and_limits_are_waited_out_too(sensor: Make, front: Front) -> None:
    front.on("HEAD", "", answer(503), times=1)
    front.on("HEAD", "", too_many(1), times=1)
    assert Run().execute(sensor(deferrable=False))["digest"] == INDEX.digest
    times = [one.at for one in front.seen()]
    assert len(times) == 3
    assert times[2] - times[1] > 0.9


def test_the_end_of_the_time_fails_the_task_with_what_was_missing(
    sensor: Make, front: Front, repository_prefix: str
) -> None:
    missing = f"the image did not come within 1.0 s: {front.host}/{repository_prefix}:v1 is not there"
    task = sensor(timeout=1)
    with pytest.raises(AirflowSensorTimeout, match=missing):
        resume(task, defers(task))
    soft = sensor(timeout=1, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        resume(soft, defers(soft))
    with pytest.raises(AirflowSensorTimeout):
        Run().execute(sensor(timeout=0.3, deferrable=False))


def test_the_end_of_the_time_is_one_without_a_triggerer_too(sensor: Make) -> None:
    from airflow.sdk.bases.operator import TriggerFailureReason

    with pytest.raises(AirflowSensorTimeout):
        sensor().resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, {})
