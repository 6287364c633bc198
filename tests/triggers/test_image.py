"""The trigger that a deferred ImageSensor waits with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_imagesync.triggers.image import ImageTrigger
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer, errors, too_many, wait
from tests.support.front import Front

ONE = images.image([images.Blob(b"one")], "linux/amd64")
TWO = images.image([images.Blob(b"two")], "linux/amd64")
INDEX = images.index([ONE, images.image([images.Blob(b"arm")], "linux/arm64")])

Step = Callable[[], None]


@pytest.fixture
def waiting(front: Front) -> Callable[..., dict[str, Any]]:
    """Runs a trigger to its event; each step is taken after so many requests that were answered."""

    def run(image: str, steps: dict[int, Step] | None = None, **arguments: Any) -> dict[str, Any]:
        async def main() -> dict[str, Any]:
            options: dict[str, Any] = {"conn_id": "front", "poll_interval": 0.2, **arguments}
            trigger = ImageTrigger(f"{front.host}/{image}", **options)
            generator = trigger.run()
            event = asyncio.ensure_future(anext(generator))  # type: ignore[call-overload]
            for count, step in (steps or {}).items():
                while len([one for one in front.seen() if not one.under_way]) < count:
                    assert not event.done(), event.result()
                    await asyncio.sleep(0.01)
                step()
            payload: dict[str, Any] = (await asyncio.wait_for(event, 20)).payload
            with pytest.raises(StopAsyncIteration):
                await anext(generator)  # type: ignore[call-overload]
            await trigger.cleanup()
            return payload

        return asyncio.run(main())

    return run


def test_a_tag_is_waited_for_with_a_head_each_time(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    push = lambda: images.push(source_registry.url, repository_prefix, ONE, ["v1"])  # noqa: E731
    event = waiting(f"{repository_prefix}:v1", {5: push})
    assert event["status"] == "found"
    assert event["image"] == {
        "image": f"{front.host}/{repository_prefix}:v1",
        "digest": ONE.digest,
        "media_type": ONE.media_type,
    }
    # Once a GET, to see whether HEAD can be believed here.
    assert [one.method for one in front.seen()][:4] == ["HEAD", "GET", "HEAD", "HEAD"]
    assert len(front.seen("GET")) == 1


def test_a_digest_is_waited_for(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    push = lambda: images.push(source_registry.url, repository_prefix, TWO, ["v1"])  # noqa: E731
    event = waiting(f"{repository_prefix}:v1", {3: push}, digest=TWO.digest)
    assert event["image"]["digest"] == TWO.digest
    assert {one.method for one in front.seen()} == {"HEAD"}


def test_a_platform_is_waited_for_and_a_manifest_fetched_once_for_each_digest(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    push = lambda: images.push(source_registry.url, repository_prefix, INDEX, ["v1"])  # noqa: E731
    event = waiting(f"{repository_prefix}:v1", {6: push}, platform="linux/arm64")
    assert event["image"]["digest"] == INDEX.digest
    assert event["image"]["platforms"] == ["linux/amd64", "linux/arm64"]
    # The single image and its configuration, and then the index.
    assert [one.path.rpartition("/")[2] for one in front.seen("GET")] == [
        ONE.digest,
        one_config(front),
        INDEX.digest,
    ]


def one_config(front: Front) -> str:
    (blob,) = front.seen("GET", "/blobs/")
    return blob.path.rpartition("/")[2]


def test_faults_and_limits_are_waited_out(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    front.on("HEAD", "", answer(502), times=1)
    front.on("HEAD", "", too_many(1), times=1)
    assert waiting(f"{repository_prefix}:v1")["status"] == "found"
    times = [one.at for one in front.seen()]
    assert [one.status for one in front.seen()] == [502, 429, 200]
    assert 0.9 < times[2] - times[1] < 5


def test_a_registry_that_is_away_is_waited_for(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    front.on("HEAD", "manifests/v1", answer(503), times=1)

    def away() -> None:
        front.refuse()
        time.sleep(0.5)
        front.start()

    assert waiting(f"{repository_prefix}:v1", {1: away})["status"] == "found"


def test_what_was_asked_before_is_kept_to(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    begun = time.monotonic()
    assert waiting(f"{repository_prefix}:v1", not_before=time.time() + 0.8)["status"] == "found"
    assert front.seen()[0].at - begun > 0.7


def test_a_refusal_ends_the_wait_at_once(
    waiting: Callable[..., dict[str, Any]], front: Front, repository_prefix: str
) -> None:
    front.on(None, "", errors(403, "DENIED", "not for you"))
    event = waiting(f"{repository_prefix}:v1")
    assert event["status"] == "failed"
    assert "403" in event["message"]
    assert "not for you" in event["message"]


def test_a_connection_that_is_gone_ends_the_wait_once_that_is_sure(
    waiting: Callable[..., dict[str, Any]], front: Front, repository_prefix: str
) -> None:
    begun = time.monotonic()
    event = waiting(f"{repository_prefix}:v1", conn_id="nowhere")
    assert event == {
        "status": "failed",
        "message": "there is no connection 'nowhere'; create it under Admin, Connections",
    }
    assert time.monotonic() - begun > 0.35
    assert front.seen() == []


def test_the_end_of_the_time_says_what_was_missing(
    waiting: Callable[..., dict[str, Any]],
    front: Front,
    source_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, repository_prefix, INDEX, ["v1"])
    event = waiting(f"{repository_prefix}:v1", platform="windows/amd64", deadline=time.time() + 0.5)
    assert event["status"] == "timeout"
    assert event["message"] == (
        f"{front.host}/{repository_prefix}:v1 ({INDEX.digest}) has nothing for windows/amd64; "
        "its platforms: linux/amd64, linux/arm64"
    )


def test_a_limit_longer_than_the_time_ends_it_without_another_request(
    waiting: Callable[..., dict[str, Any]], front: Front, repository_prefix: str
) -> None:
    front.on(None, "", too_many(3600))
    event = waiting(f"{repository_prefix}:v1", deadline=time.time() + 0.6)
    assert event["status"] == "timeout"
    assert "429" in event["message"]
    assert len(front.seen()) == 1


def test_stopping_is_quick_while_a_registry_stalls(front: Front, repository_prefix: str) -> None:
    front.on(None, "", wait())

    async def main() -> float:
        trigger = ImageTrigger(f"{front.host}/{repository_prefix}:v1", conn_id="front")
        task = asyncio.ensure_future(anext(trigger.run()))  # type: ignore[call-overload]
        while not front.seen():
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trigger.cleanup()
        return time.monotonic() - begun

    assert asyncio.run(main()) < 1


def test_goes_through_airflows_storage_and_back() -> None:
    from airflow.sdk.serde import deserialize, serialize

    trigger = ImageTrigger("quay.io/a:v1", ONE.digest, "linux/amd64", "quay", 30.0, 1.5, 1.0)
    path, arguments = trigger.serialize()
    assert path == "airflow_imagesync.triggers.image.ImageTrigger"
    assert ImageTrigger(**deserialize(serialize(arguments))).serialize() == (path, arguments)
