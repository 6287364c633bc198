"""What a run tells of its registries in numbers."""

from __future__ import annotations

from airflow_imagesync.registry.statistics import RegistryStatistics
from devtools import images
from tests.support.faults import answer, change_headers, cut_answer
from tests.support.world import World

IMAGE = images.image([images.layer(300_000, 1)])


def test_counts_what_was_sent_to_each_registry(world: World) -> None:
    world.push(IMAGE, "v1", "v2")
    with world.engine(world.rule("v1", "v2")) as engine:
        assert engine.statistics() == {}
        assert engine.run().totals["copied"] == 2
        found = engine.statistics()
    assert found == {
        front.host: RegistryStatistics(requests=len(front.seen())) for front in (world.source, world.destination)
    }
    assert found[world.source.host].requests >= 4


def test_counts_what_was_asked_again(world: World) -> None:
    world.push(IMAGE, "v1")
    world.source.on(None, "/manifests/", answer(503), times=2)
    world.destination.on("PUT", "/manifests/v1", answer(500), times=1)
    with world.engine(world.rule("v1")) as engine:
        assert engine.run().totals["copied"] == 1
        found = engine.statistics()
    assert (found[world.source.host].retries, found[world.destination.host].retries) == (2, 1)


def test_a_try_that_is_not_made_any_more_is_none(world: World) -> None:
    world.push(IMAGE, "v1")
    world.source.on(None, "/manifests/", answer(503))
    world.retries = 2
    with world.engine(world.rule("v1")) as engine:
        assert engine.run().totals["failed"] == 1
        assert engine.statistics()[world.source.host].retries == 2


def test_a_download_that_goes_on_where_it_broke_was_asked_again(world: World) -> None:
    world.push(IMAGE, "v1")
    world.source.on("GET", "/blobs/", cut_answer(100), times=1)
    with world.engine(world.rule("v1")) as engine:
        assert engine.run().totals["copied"] == 1
        found = engine.statistics()
    assert (found[world.source.host].retries, found[world.destination.host].retries) == (1, 0)


def test_tells_the_pulls_that_are_left(world: World) -> None:
    world.push(IMAGE, "v1")
    world.source.on("GET", "/manifests/", change_headers(RateLimit_Remaining="41;w=21600"))
    with world.engine(world.rule("v1")) as engine:
        assert engine.run().totals["copied"] == 1
        found = engine.statistics()
    assert (found[world.source.host].pulls_left, found[world.destination.host].pulls_left) == (41, None)


def test_the_logins_of_a_registry_are_told_as_one() -> None:
    parts = [RegistryStatistics(5, 1, 40), RegistryStatistics(2, 0), RegistryStatistics(1, 3, 12)]
    assert RegistryStatistics.joined(parts) == RegistryStatistics(8, 4, 12)
    assert RegistryStatistics.joined([]) == RegistryStatistics()
