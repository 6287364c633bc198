from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from airflow_imagesync.domain.rules import ByDigest
from airflow_imagesync.engine.records import KnownImage
from airflow_imagesync.registry import tags as tags_module
from devtools import images
from tests.support.faults import answer, errors
from tests.support.front import Front
from tests.support.memory_records import MemoryRecords
from tests.support.world import World, kinds

IMAGE, OTHER, INDEX = images.image(), images.image([images.layer(2000, "other")]), images.index()


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"v{number:03}" for number in range(start, start + count)]


def recorded(world: World, tags: Iterable[str], digest: str = IMAGE.digest) -> MemoryRecords:
    source, destination = world.at(world.source, "app"), world.at(world.destination, "app")
    return MemoryRecords({f"{destination}:{tag}": KnownImage(f"{source}:{tag}", digest, "", digest) for tag in tags})


# Missing tags


def test_a_new_repository_costs_a_head_for_each_thread_and_one_list(world: World) -> None:
    world.push(IMAGE, *numbered(200))
    world.concurrency = 8
    assert world.plan(world.rule()).totals["new"] == 200
    asked = kinds(world.destination)
    assert asked["GET tags"] == 1
    assert 1 <= asked["HEAD manifest"] <= 8
    assert asked["GET manifest"] <= 1  # which proves that HEAD can be trusted
    assert asked.total() <= 10


def test_tags_in_the_list_are_asked_for_and_others_are_not(world: World) -> None:
    world.push(IMAGE, *numbered(40))
    world.push(IMAGE, *numbered(10, 20), front=world.destination)
    world.push(OTHER, *numbered(10, 30), front=world.destination)
    world.concurrency = 1
    assert world.plan(world.rule()).totals == {"new": 20, "changed": 10, "same": 10, "failed": 0}
    assert kinds(world.destination) == Counter({"HEAD manifest": 21, "GET tags": 1, "GET manifest": 1})


@pytest.mark.parametrize(("count", "lists"), [(8, 0), (9, 1)])
def test_a_list_is_asked_for_when_it_spares_at_least_as_many_heads_as_it_may_cost(
    world: World, count: int, lists: int
) -> None:
    world.push(IMAGE, *numbered(count))
    world.concurrency = 1
    assert world.plan(world.rule()).totals["new"] == count
    assert kinds(world.destination)["GET tags"] == lists
    assert kinds(world.destination)["HEAD manifest"] == (1 if lists else count)


@pytest.mark.parametrize(
    "refusal",
    [answer(403), answer(404), errors(404, "NOT_FOUND"), answer(200, body=b"<html>")],
    ids=["refused", "no-such-page", "unsaid", "web-page"],
)
def test_without_a_list_tags_are_asked_for_one_by_one(world: World, refusal: object) -> None:
    world.push(IMAGE, *numbered(20))
    world.push(IMAGE, "v019", front=world.destination)
    world.destination.on("GET", "/tags/list", refusal)  # type: ignore[arg-type]
    assert world.plan(world.rule()).totals == {"new": 19, "changed": 0, "same": 1, "failed": 0}
    assert kinds(world.destination)["HEAD manifest"] == 20
    assert kinds(world.destination)["GET tags"] == 1


def test_a_list_that_may_be_cut_off_says_nothing_of_missing_tags(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(IMAGE, *numbered(20))
    world.push(IMAGE, "v019", "other", front=world.destination)
    monkeypatch.setattr(tags_module, "may_be_cut_off", lambda registry, count: True)
    world.destination.on("GET", "/tags/list", answer(200, body=b'{"tags": ["other"]}'))
    assert world.plan(world.rule()).totals == {"new": 19, "changed": 0, "same": 1, "failed": 0}
    assert kinds(world.destination)["HEAD manifest"] == 20


def test_a_destination_digest_is_always_asked_for(world: World) -> None:
    world.push(IMAGE, *numbered(20))
    world.push(OTHER)
    world.push(OTHER, front=world.destination)
    world.concurrency = 1
    plan = world.plan(world.rule(), world.rule(select=ByDigest(OTHER.digest)))
    assert plan.totals == {"new": 20, "changed": 0, "same": 1, "failed": 0}
    assert len(world.destination.seen("HEAD", OTHER.digest)) == 1


def test_a_few_new_tags_among_known_ones_cost_no_list(world: World) -> None:
    world.push(IMAGE, *numbered(40))
    world.push(IMAGE, *numbered(37, 3), front=world.destination)
    world.records = recorded(world, numbered(37, 3))
    assert world.plan(world.rule()).totals == {"new": 3, "changed": 0, "same": 37, "failed": 0}
    assert kinds(world.destination)["GET tags"] == 0


def test_a_repository_that_was_deleted_behind_the_records_is_noticed_by_its_list(world: World) -> None:
    world.push(IMAGE, *numbered(40))
    world.records = recorded(world, numbered(40))
    world.concurrency = 1
    assert world.plan(world.rule()).totals["new"] == 40
    assert kinds(world.destination) == Counter({"HEAD manifest": 1, "GET manifest": 1, "GET tags": 1})


# Lists that tell digests


@pytest.fixture
def google(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Both sides are taken for Google's."""
    hosts = {world.source.host, world.destination.host}
    monkeypatch.setattr(tags_module, "tells_digests", lambda registry: registry in hosts)
    return world


def telling(front: Front, *manifests: tuple[images.BuiltManifest, list[str]], media_types: bool = True) -> None:
    """Answer lists as Google does."""
    document = {
        "name": "app",
        "tags": [tag for _, tags in manifests for tag in tags],
        "manifest": {
            one.digest: {"tag": tags, "imageSizeBytes": "1", "timeUploadedMs": "1"}
            | ({"mediaType": one.media_type} if media_types else {})
            for one, tags in manifests
        },
    }
    front.on("GET", "/tags/list", answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode()))


def test_google_tells_all_digests_in_one_list_on_each_side(google: World) -> None:
    telling(google.source, (IMAGE, numbered(10)))
    telling(google.destination, (IMAGE, numbered(5)), (OTHER, numbered(3, 5)))
    plan = google.plan(google.rule())
    assert plan.totals == {"new": 2, "changed": 3, "same": 5, "failed": 0}
    assert (plan.images[5].source_digest, plan.images[5].destination_digest) == (IMAGE.digest, OTHER.digest)
    assert kinds(google.source) == Counter({"GET tags": 1})
    assert kinds(google.destination) == Counter({"GET tags": 1})


def test_two_tags_at_google_are_cheaper_asked_for_than_listed(google: World) -> None:
    google.push(IMAGE, *numbered(2))
    google.push(IMAGE, *numbered(2), front=google.destination)
    assert google.plan(google.rule(*numbered(2))).totals["same"] == 2
    assert kinds(google.source) == kinds(google.destination) == Counter({"HEAD manifest": 2})


def test_a_list_without_types_is_not_enough_for_a_filter(google: World) -> None:
    for front in (google.source, google.destination):
        google.push(INDEX, *numbered(3), front=front)
        telling(front, (INDEX, numbered(3)), media_types=False)
    assert google.plan(google.rule()).totals["same"] == 3
    assert kinds(google.source) == Counter({"GET tags": 1})
    google.source.requests.clear()
    plan = google.plan(google.rule(platforms=["linux/amd64"]))
    assert plan.totals["changed"] == 3
    assert plan.images[0].filtered_digest not in (None, INDEX.digest)
    assert kinds(google.source) == Counter({"GET tags": 1, "HEAD manifest": 3, "GET manifest": 1})


def test_a_tag_with_two_digests_in_a_list_is_asked_for(google: World) -> None:
    for front in (google.source, google.destination):
        google.push(IMAGE, *numbered(4), front=front)
    telling(google.source, (IMAGE, numbered(4)))
    telling(google.destination, (IMAGE, numbered(4)), (OTHER, ["v000"]))
    assert google.plan(google.rule()).totals["same"] == 4
    assert kinds(google.destination) == Counter({"GET tags": 1, "HEAD manifest": 1})


def test_tags_beyond_the_end_of_googles_list_are_asked_for(google: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags_module, "GOOGLE_LIST_END", 3)
    for front in (google.source, google.destination):
        google.push(IMAGE, *numbered(5), front=front)
    telling(google.destination, (IMAGE, numbered(3)))
    assert google.plan(google.rule(*numbered(5))).totals["same"] == 5
    assert kinds(google.destination) == Counter({"GET tags": 1, "HEAD manifest": 2})
