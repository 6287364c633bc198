"""The trigger for asset watchers, run as the triggerer runs it: an asynchronous generator that may be cancelled."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_imagesync.errors import InvalidReference
from airflow_imagesync.registry import tags as tags_module
from airflow_imagesync.triggers import image_tag, polling
from airflow_imagesync.triggers.image_tag import ImageTagTrigger
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.faults import answer, errors, too_many, wait
from tests.support.front import Exchange, Front

ONE = images.image([images.Blob(b"one")], "linux/amd64")
TWO = images.image([images.Blob(b"two")], "linux/amd64")


class Store:
    """An asset's state store in memory; values go through JSON, as Airflow's do."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.writes = 0
        self.fails = False

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.fails:
            raise RuntimeError("the API server is away")
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        if self.fails:
            raise RuntimeError("the API server is away")
        self.values[key] = json.dumps(value)
        self.writes += 1


class Watch:
    """A trigger under way: what it has sent, and a way to wait for the next poll."""

    def __init__(self, trigger: ImageTagTrigger, front: Front) -> None:
        self.trigger = trigger
        self.front = front
        self.events: list[Any] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for event in self.trigger.run():
            self.events.append(event.payload)

    async def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert not self.task.done(), self.task.exception()
            assert time.monotonic() < deadline, (self.events, self.front.requests)
            await asyncio.sleep(0.01)

    async def polls(self, count: int, pattern: str = "") -> None:
        """Wait until so many more requests were answered, and what they tell is known."""
        done = len(self.answered(pattern))
        await self.until(lambda: len(self.answered(pattern)) >= done + count)
        await asyncio.sleep(0.1)

    def answered(self, pattern: str = "") -> list[str]:
        return [str(one) for one in self.front.seen(None, pattern) if not one.under_way]

    async def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task
        await self.trigger.cleanup()


@pytest.fixture(autouse=True)
def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tag, "HANDED_OVER", 0.05)


Session = Callable[[Watch], Awaitable[None]]


@pytest.fixture
def watching(front: Front) -> Callable[..., Watch]:
    """Runs a trigger and a session with it, and returns what was seen."""

    def run(session: Session, source: str, *, store: Any = None, at: Front = front, **arguments: Any) -> Watch:
        async def main() -> Watch:
            options: dict[str, Any] = {"conn_id": "front", "poll_interval": 0.25, **arguments}
            trigger = ImageTagTrigger(f"{at.host}/{source}", **options)
            trigger.asset_state_store = store  # type: ignore[assignment]
            watch = Watch(trigger, at)
            try:
                await session(watch)
            finally:
                await watch.stop()
            return watch

        return asyncio.run(main())

    return run


def test_a_named_tag_costs_one_head_a_poll_and_fires_when_it_names_another_image(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["latest", "other"])

    async def session(watch: Watch) -> None:
        await watch.polls(2)
        assert watch.events == []
        images.push(source_registry.url, repository_prefix, TWO, ["latest", "other"])
        await watch.until(lambda: bool(watch.events))
        await watch.polls(3)

    watch = watching(session, f"{repository_prefix}:latest")
    source = f"{front.host}/{repository_prefix}:latest"
    assert watch.events == [
        {"source": source, "tags": ["latest"], "new": [], "changed": ["latest"], "digests": {"latest": TWO.digest}}
    ]
    assert {str(one) for one in front.seen()} == {f"HEAD /v2/{repository_prefix}/manifests/latest"}


def test_tags_of_a_pattern_cost_a_list_and_their_heads(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2", "nightly"])

    async def session(watch: Watch) -> None:
        await watch.polls(3)
        seen = watch.answered()
        assert [one.split()[0] for one in seen] == ["GET", "HEAD", "HEAD"]
        assert all(one.endswith(("tags/list", "v1", "v2")) for one in seen)
        images.push(source_registry.url, repository_prefix, TWO, ["v1", "v3", "other"])
        await watch.until(lambda: bool(watch.events))
        await watch.polls(4)

    watch = watching(session, f"{repository_prefix}:/^v/")
    (event,) = watch.events
    assert (event["new"], event["changed"], event["tags"]) == (["v3"], ["v1"], ["v1", "v3"])
    assert event["digests"] == {"v1": TWO.digest, "v3": TWO.digest}


def test_where_moved_tags_do_not_count_a_poll_is_a_list_and_a_head_for_each_new_tag(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2"])

    async def session(watch: Watch) -> None:
        await watch.polls(2)
        images.push(source_registry.url, repository_prefix, TWO, ["v1", "v3"])
        await watch.until(lambda: bool(watch.events))
        await watch.polls(2)

    watch = watching(session, repository_prefix, moved_tags=False)
    (event,) = watch.events
    assert (event["tags"], event["digests"]) == (["v3"], {"v3": TWO.digest})
    assert [one.path.rpartition("/")[2] for one in front.seen("HEAD")] == ["v3"]


@pytest.mark.parametrize(("select", "moved_tags"), [("", True), ("", False), (":v1,v2,v3", True)])
def test_where_the_list_tells_the_digests_a_poll_is_the_list_alone(
    watching: Callable[..., Watch],
    front: Front,
    repository_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    select: str,
    moved_tags: bool,
) -> None:
    """As Google's registries do, played by the front."""
    monkeypatch.setattr(tags_module, "tells_digests", lambda registry: registry == front.host)
    tags = {"v1": ONE.digest, "v2": ONE.digest}

    def listed(exchange: Exchange) -> None:
        manifests = {one: {"tag": [tag for tag in tags if tags[tag] == one]} for one in set(tags.values())}
        body = json.dumps({"name": repository_prefix, "tags": list(tags), "manifest": manifests})
        exchange.reply(200, [("Content-Type", "application/json")], body.encode())

    front.on("GET", "tags/list", listed)

    async def session(watch: Watch) -> None:
        await watch.polls(2)
        tags.update(v1=TWO.digest, v3=TWO.digest)
        await watch.until(lambda: bool(watch.events))
        await watch.polls(2)

    (event,) = watching(session, f"{repository_prefix}{select}", moved_tags=moved_tags).events
    assert event["new"] == ["v3"]
    assert event["changed"] == (["v1"] if moved_tags else [])
    assert {str(one) for one in front.seen()} == {f"GET /v2/{repository_prefix}/tags/list"}


def test_many_tags_are_asked_for_at_once(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    tags = [f"v{number}" for number in range(32)]
    images.push(source_registry.url, repository_prefix, ONE, tags)
    front.on("HEAD", "", wait(0.05))

    async def session(watch: Watch) -> None:
        await watch.until(lambda: len(watch.answered("manifests")) >= 64)

    watching(session, repository_prefix)
    assert front.most == 4
    assert {one.path.rpartition("/")[2] for one in front.seen("HEAD")} == set(tags)


def test_the_first_look_can_tell_all_that_is_there(
    watching: Callable[..., Watch], source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2"])
    store = Store()

    async def session(watch: Watch) -> None:
        await watch.polls(7)

    (event,) = watching(session, repository_prefix, initial=True, store=store).events
    assert (event["new"], event["changed"]) == (["v1", "v2"], [])
    # That was the first look, after a restart, too.
    assert watching(session, repository_prefix, initial=True, store=store).events == []


def test_what_is_known_outlives_a_restart_and_a_change_meanwhile_is_seen(
    watching: Callable[..., Watch], source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2"])
    store = Store()

    async def session(watch: Watch) -> None:
        await watch.polls(6)

    assert watching(session, repository_prefix, store=store).events == []
    assert store.writes == 1
    assert watching(session, repository_prefix, store=store).events == []
    assert store.writes == 1
    images.push(source_registry.url, repository_prefix, TWO, ["v2"])
    (event,) = watching(session, repository_prefix, store=store).events
    assert event["digests"] == {"v2": TWO.digest}
    assert store.writes == 2
    (value,) = [json.loads(one) for one in store.values.values()]
    assert value["source"].endswith(repository_prefix)
    assert ONE.digest.startswith(f"sha256:{value['tags']['v1']}")


def test_an_event_is_written_down_only_when_airflow_has_it(
    watching: Callable[..., Watch],
    source_registry: DistributionRegistry,
    repository_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A triggerer that dies between sends it again: an event may come twice, and is never lost."""
    monkeypatch.setattr(image_tag, "HANDED_OVER", 60.0)
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    store = Store()

    async def before(watch: Watch) -> None:
        await watch.until(lambda: store.writes == 1)
        images.push(source_registry.url, repository_prefix, TWO, ["v1"])
        await watch.until(lambda: bool(watch.events))

    async def after(watch: Watch) -> None:
        await watch.until(lambda: bool(watch.events))

    first = watching(before, f"{repository_prefix}:v1", store=store).events
    assert watching(after, f"{repository_prefix}:v1", store=store).events == first
    assert store.writes == 1


def test_while_the_store_fails_nothing_is_lost_and_nothing_is_told_twice(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    store = Store()

    async def remember(watch: Watch) -> None:
        await watch.until(lambda: store.writes == 1)

    watching(remember, f"{repository_prefix}:v1", store=store)
    images.push(source_registry.url, repository_prefix, TWO, ["v1"])
    front.forget()

    async def session(watch: Watch) -> None:
        store.fails = True
        await asyncio.sleep(0.6)
        assert front.seen() == []  # before it knows what it knew, it does not look
        store.fails = False
        await watch.until(lambda: bool(watch.events))
        store.fails = True
        await watch.polls(3)
        store.fails = False
        await watch.until(lambda: store.writes == 2)

    assert len(watching(session, f"{repository_prefix}:v1", store=store).events) == 1


def test_one_trigger_of_several_assets_keeps_what_it_knows_with_each(
    watching: Callable[..., Watch], source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    store = AssetStateStoreAccessors(inlets=[Asset("a"), Asset("b")])
    by_name = {"a": Store(), "b": Store()}
    store._by_name = by_name  # type: ignore[assignment]

    async def session(watch: Watch) -> None:
        await watch.until(lambda: by_name["b"].writes == 1)

    watching(session, f"{repository_prefix}:v1", store=store)
    assert by_name["a"].values == by_name["b"].values != {}


def test_a_tag_that_goes_and_comes_back_is_new(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])

    async def session(watch: Watch) -> None:
        await watch.polls(2)
        front.on(None, "manifests/v1", errors(404, "MANIFEST_UNKNOWN"), times=1)
        await watch.until(lambda: bool(watch.events))

    (event,) = watching(session, f"{repository_prefix}:v1").events
    assert event["new"] == ["v1"]


def test_a_repository_that_is_not_there_yet_is_waited_for_and_one_that_vanishes_is_no_event(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    async def session(watch: Watch) -> None:
        await watch.polls(2)
        images.push(source_registry.url, repository_prefix, ONE, ["v1"])
        await watch.until(lambda: bool(watch.events))
        front.on("GET", "tags/list", errors(404, "NAME_UNKNOWN"), times=2)
        await watch.polls(5)

    (event,) = watching(session, repository_prefix).events
    assert event["new"] == ["v1"]


def test_faults_are_waited_out_for_as_long_as_the_registry_asks(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])

    async def session(watch: Watch) -> None:
        await watch.polls(1)
        images.push(source_registry.url, repository_prefix, TWO, ["v1"])
        front.on("HEAD", "", answer(503), times=1)
        front.on("HEAD", "", too_many(1), times=1)
        await watch.until(lambda: bool(watch.events))

    watching(session, f"{repository_prefix}:v1")
    refused = [one.status for one in front.seen()].index(429)
    times = [one.at for one in front.seen()]
    assert times[refused + 1] - times[refused] > 0.9


def test_one_tag_that_fails_for_itself_hides_no_other(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2"])
    front.on(None, "manifests/v1", answer(500))

    async def session(watch: Watch) -> None:
        await watch.polls(3)
        images.push(source_registry.url, repository_prefix, TWO, ["v1", "v2"])
        await watch.until(lambda: bool(watch.events))
        front.forget()  # what v1 was before nobody knows, so it is learned in silence
        await watch.polls(6)

    (event,) = watching(session, repository_prefix).events
    assert event["tags"] == ["v2"]


def test_a_login_that_is_refused_is_told_and_tried_again_with_what_the_connection_says_then(
    watching: Callable[..., Watch],
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images.push(htpasswd_registry.url, repository_prefix, ONE, ["v1"], auth=(USER, PASSWORD))
    guarded = Front(htpasswd_registry.host)

    def connection(password: str) -> None:
        values = {"host": guarded.host, "login": USER, "password": password, "extra": {"insecure": True}}
        monkeypatch.setenv("AIRFLOW_CONN_GUARDED", json.dumps({"conn_type": "oci_registry", **values}))

    async def session(watch: Watch) -> None:
        await watch.until(lambda: "401" in caplog.text)
        connection(PASSWORD)
        await watch.until(lambda: bool(watch.events))

    with guarded, caplog.at_level(logging.WARNING):
        connection("mistyped-by-somebody")
        source = f"{repository_prefix}:v1"
        (event,) = watching(session, source, at=guarded, conn_id="guarded", initial=True).events
    assert event["digests"] == {"v1": ONE.digest}
    assert "can't be watched until that is mended" in caplog.text
    assert "mistyped-by-somebody" not in caplog.text


def test_a_missing_connection_is_told_and_no_busy_loop(
    watching: Callable[..., Watch], front: Front, repository_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def session(watch: Watch) -> None:
        await asyncio.sleep(1.2)

    with caplog.at_level(logging.ERROR):
        watching(session, f"{repository_prefix}:v1", conn_id="nowhere")
    lines = [one for one in caplog.messages if "there is no connection 'nowhere'" in one]
    assert 1 <= len(lines) <= 2  # after a quarter of a second, half a second, a second
    assert front.seen() == []


def test_the_loop_goes_on_while_a_registry_stalls_and_stopping_is_quick(
    watching: Callable[..., Watch], front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    front.on("HEAD", "", wait())
    gaps: list[float] = []
    stopping = 0.0

    async def heart() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def session(watch: Watch) -> None:
        nonlocal stopping
        beating = asyncio.create_task(heart())
        await watch.until(lambda: bool(front.seen("HEAD")))
        await asyncio.sleep(1.5)
        assert front.seen("HEAD")[0].under_way
        beating.cancel()
        stopping = time.monotonic()

    watching(session, f"{repository_prefix}:v1")
    assert time.monotonic() - stopping < 2
    assert len(gaps) > 40
    assert max(gaps) < 0.5
    deadline = time.monotonic() + 5
    while front.seen("HEAD")[0].under_way:  # the connection was shut, and its thread is free again
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_slow_registries_take_threads_of_ours_alone(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    """However many watchers wait for one, what others run in the loop's own threads is not held up."""
    images.push(source_registry.url, repository_prefix, ONE, ["v1"])
    front.on("HEAD", "", wait())

    async def main() -> float:
        triggers = [ImageTagTrigger(f"{front.host}/{repository_prefix}:v1", "front") for _ in range(30)]
        watches = [Watch(trigger, front) for trigger in triggers]
        while len(front.seen("HEAD")) < polling.THREADS:
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        await asyncio.to_thread(time.sleep, 0)
        took = time.monotonic() - begun
        for watch in watches:
            await watch.stop()
        return took

    assert asyncio.run(main()) < 1
    assert front.most == polling.THREADS


def test_goes_through_airflows_storage_and_back(front: Front) -> None:
    from airflow.sdk import Asset, AssetWatcher
    from airflow.sdk.serde import deserialize, serialize
    from airflow.serialization.encoders import encode_trigger

    trigger = ImageTagTrigger(f"{front.host}/a:v1", "front", timedelta(minutes=5), initial=True, moved_tags=False)
    path, arguments = trigger.serialize()
    assert path == "airflow_imagesync.triggers.image_tag.ImageTagTrigger"
    assert arguments["poll_interval"] == 300.0
    again = ImageTagTrigger(**deserialize(serialize(arguments)))
    assert again.serialize() == (path, arguments)
    Asset("oci://example.com/a", watchers=[AssetWatcher(name="tags", trigger=trigger)])
    assert encode_trigger(trigger)["classpath"] == path
    assert ImageTagTrigger.hash(path, arguments) == ImageTagTrigger.hash(*again.serialize())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://quay.io/a", "begins with 'https://'"),
        ("quay.io/a:/(/", "not a regular expression"),
        (f"quay.io/a@{ONE.digest}", "names a digest, which never changes"),
    ],
)
def test_a_mistake_shows_when_the_dag_is_parsed(source: str, message: str) -> None:
    with pytest.raises(InvalidReference, match=message):
        ImageTagTrigger(source)


def test_a_poll_needs_a_pause() -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        ImageTagTrigger("quay.io/a", poll_interval=0)
