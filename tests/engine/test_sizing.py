"""What copying would send, held against what a run then really sends, by its report and by the registries' requests."""

from __future__ import annotations

import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_imagesync.domain.estimate import Estimate, ToRegistry
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import Destination, Rule
from airflow_imagesync.engine import sizing
from airflow_imagesync.engine.records import NO_RECORDS
from airflow_imagesync.engine.records_database import open_records
from devtools import images
from tests.support.faults import answer, change_headers, wait
from tests.support.front import Front
from tests.support.world import World, kinds

BASE = images.layer(300_000, "base")


def on_base(name: object, platform: str = "linux/amd64") -> images.BuiltManifest:
    return images.image([BASE, images.layer(5000, name)], platform)


def size_of(*built: images.BuiltManifest) -> int:
    """The bytes of all blobs of some images, each blob once."""
    return sum({blob.digest: blob.size for one in built for blob in one.all_blobs()}.values())


def estimated(world: World, *rules: Rule) -> tuple[Plan, Estimate]:
    """Plan, and return the plan with its estimate; what that asked for is what the fronts have seen."""
    with world.engine(*rules) as engine:
        plan = engine.plan()
        world.forget()
        return plan, engine.estimate(plan)


def received(front: Front) -> int:
    """The bytes of blobs that a registry was sent."""
    return sum(one.received for one in front.seen() if one.method in ("PATCH", "PUT") and "/uploads/" in one.path)


def run_and_compare(world: World, estimate: Estimate, *rules: Rule) -> None:
    """Do what was estimated, and see that it is just that."""
    world.forget()
    report = world.run(*rules)
    assert report.totals["failed"] == 0
    assert report.totals["bytes_copied"] == estimate.to_send == received(world.destination)
    for size, result in zip(estimate.sizes, report.images, strict=True):
        assert (size or 0) == result.bytes_copied + result.bytes_mounted + result.bytes_skipped


def test_shared_layers_are_counted_in_each_image_and_sent_once(world: World) -> None:
    built = [on_base(number) for number in range(5)]
    for number, one in enumerate(built):
        world.push(one, "v1", name=f"app{number}")
    rules = [world.rule(name=f"app{number}") for number in range(5)]
    plan, estimate = estimated(world, *rules)
    assert estimate.sizes == tuple(size_of(one) for one in built)
    assert estimate.registries == {world.destination.host: ToRegistry(images=5, to_send=size_of(*built))}
    assert estimate.size > estimate.to_send + 4 * BASE.size - 1
    assert kinds(world.source) == {"GET manifest": 5}
    assert kinds(world.destination) == {}
    assert plan.totals["new"] == 5
    run_and_compare(world, estimate, *rules)


def test_an_image_to_several_destinations_is_fetched_once_and_sent_once(world: World) -> None:
    built = world.push(on_base("a"), "v1", "v2")
    rule = world.rule(to=["one", "two", "three"])
    _, estimate = estimated(world, rule)
    assert estimate.sizes == (size_of(built),) * 6
    assert estimate.registries == {world.destination.host: ToRegistry(images=6, to_send=size_of(built))}
    # Both tags are the same image.
    assert kinds(world.source) == {"GET manifest": 1}
    run_and_compare(world, estimate, rule)


def test_each_registry_is_sent_each_blob_once(world: World) -> None:
    world.push(on_base("a"), "v1", name="a")
    world.push(on_base("b"), "v1", name="b")
    elsewhere = Repository("registry.invalid", "mirror/a")
    rule = world.rule(name="a")
    both = replace(rule, destinations=(*rule.destinations, Destination(elsewhere)))
    with world.engine(both, world.rule(name="b")) as engine:
        rows = [
            ImagePair(0, f"{rule.source}:v1", f"{world.at(world.destination, 'a')}:v1", PairState.NEW),
            ImagePair(0, f"{rule.source}:v1", f"{elsewhere}:v1", PairState.NEW),
            ImagePair(1, f"{world.at(world.source, 'b')}:v1", f"{world.at(world.destination, 'b')}:v1", PairState.NEW),
        ]
        estimate = engine.estimate(Plan(tuple(rows)))
    a, b = on_base("a"), on_base("b")
    assert estimate.registries == {
        world.destination.host: ToRegistry(images=2, to_send=size_of(a, b)),
        "registry.invalid": ToRegistry(images=1, to_send=size_of(a)),
    }
    assert estimate.to_send == size_of(a, b) + size_of(a)
    assert kinds(world.source) == {"GET manifest": 2}


def test_an_index_is_all_that_the_platform_filter_leaves(world: World) -> None:
    children = [images.image([images.layer(4000, one)], one) for one in ("linux/amd64", "linux/arm64", "linux/s390x")]
    index = world.push(images.index(children, attestations=True), "v1")
    _, whole = estimated(world, world.rule())
    assert whole.sizes == (size_of(index),)
    assert kinds(world.source) == {"GET manifest": 1 + len(index.children)}
    rule = world.rule(platforms=["linux/amd64", "linux/arm64"])
    plan, estimate = estimated(world, rule)
    left = [one for one in index.children if one.platform != "linux/s390x"]
    dropped = children[2].digest
    kept = [one for one in left if one.annotations.get("vnd.docker.reference.digest") != dropped]
    assert len(kept) == 4
    assert estimate.sizes == (size_of(*kept),)
    assert plan.images[0].filtered_digest is not None
    # The index itself was fetched for the plan.
    assert kinds(world.source) == {"GET manifest": len(kept)}
    run_and_compare(world, estimate, rule)


def test_a_nested_index_and_a_child_in_two_places_are_gone_through_once(world: World) -> None:
    child = images.image(platform="linux/amd64")
    index = world.push(images.index([images.index([child]), child, images.image(platform="linux/arm64")]), "v1")
    _, estimate = estimated(world, world.rule())
    assert estimate.sizes == (size_of(index),)
    assert kinds(world.source) == {"GET manifest": 4}


def test_what_is_the_same_or_failed_is_not_asked_for(world: World) -> None:
    world.push(on_base("a"), "v1")
    world.run(world.rule())
    plan, estimate = estimated(world, world.rule(), world.rule("v1", name="never"))
    assert plan.totals == {"new": 0, "changed": 0, "same": 1, "failed": 1}
    assert estimate == Estimate(sizes=(None, None))
    assert world.source.requests == world.destination.requests == []


def test_a_second_tag_of_what_the_repository_has_sends_nothing(world: World) -> None:
    built = world.push(on_base("a"), "v1")
    world.run(world.rule())
    world.push(built, "latest")
    rule = world.rule()
    plan, estimate = estimated(world, rule)
    assert plan.totals["new"] == plan.totals["same"] == 1
    assert estimate.registries == {world.destination.host: ToRegistry(images=1, there=size_of(built))}
    run_and_compare(world, estimate, rule)


def test_what_is_forced_is_there(world: World) -> None:
    built = world.push(on_base("a"), "v1")
    world.run(world.rule())
    rule = world.rule(force=True)
    plan, estimate = estimated(world, rule)
    assert plan.totals["changed"] == 1
    assert (estimate.sizes, estimate.to_send, estimate.there) == ((size_of(built),), 0, size_of(built))
    run_and_compare(world, estimate, rule)


def test_what_the_records_know_to_be_in_the_registry_is_there_already(world: World, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        world.push(on_base(name), "v1", name=name)
    with open_records(str(tmp_path / "records.db"), run="test") as world.records:
        world.run(world.rule(name="a"))
        rules = [world.rule(name="b"), world.rule(name="c")]
        _, estimate = estimated(world, *rules)
        b, c = on_base("b"), on_base("c")
        known = size_of(on_base("a"), b, c) - size_of(on_base("a"))
        assert estimate.to_send == known
        assert estimate.there == size_of(b, c) - known >= BASE.size
        assert kinds(world.destination) == {}
        run_and_compare(world, estimate, *rules)


def test_what_is_in_the_registry_of_its_source_is_mounted(world: World) -> None:
    built = world.push(on_base("a"), "v1")
    rule = world.rule()
    rule = replace(rule, destinations=(Destination(world.at(world.source, "copy")),))
    _, estimate = estimated(world, rule)
    assert estimate.registries == {world.source.host: ToRegistry(images=1, there=size_of(built))}
    report = world.run(rule)
    assert (report.totals["bytes_copied"], report.totals["bytes_mounted"]) == (0, size_of(built))


# What is not known


def test_where_pulls_are_counted_nothing_is_fetched(world: World) -> None:
    world.push(on_base("a"), "v1", "v2")
    world.source.on("HEAD", "/manifests/", change_headers(ratelimit_remaining="76;w=21600"))
    plan, estimate = estimated(world, world.rule())
    assert plan.totals["new"] == 2
    assert world.source.requests == []
    assert estimate.sizes == (None, None)
    assert estimate.registries == {world.destination.host: ToRegistry(images=2, unknown=2)}
    assert estimate.unknown == {f"{world.source.host} counts pulls, so no manifest was fetched from there": 2}
    assert estimate.seconds is None


def test_docker_hub_is_never_asked() -> None:
    world = World(Front(), Front(), prefix="x")
    with world.source, world.destination:
        rule = replace(world.rule(), source=Repository("docker.io", "library/nginx"))
        with world.engine(rule) as engine:
            pair = ImagePair(0, "docker.io/library/nginx:1", f"{world.destination.host}/nginx:1", PairState.NEW)
            estimate = engine.estimate(Plan((pair,)))
            assert engine.statistics()["docker.io"].requests == 0
    assert list(estimate.unknown) == ["docker.io counts pulls, so no manifest was fetched from there"]


def test_one_bad_image_leaves_the_others_known(world: World) -> None:
    built = [world.push(on_base(number), f"v{number}") for number in range(3)]
    with world.engine(world.rule()) as engine:
        plan = engine.plan()
        world.source.on("GET", built[1].digest, answer(404))
        estimate = engine.estimate(plan)
    assert estimate.sizes == (size_of(built[0]), None, size_of(built[2]))
    assert estimate.registries == {
        world.destination.host: ToRegistry(images=3, unknown=1, to_send=size_of(built[0], built[2]))
    }
    ((reason, number),) = estimate.unknown.items()
    assert number == 1
    assert "404" in reason
    assert built[1].digest in reason


def test_a_registry_that_is_out_of_order_is_soon_asked_no_more(world: World) -> None:
    world.concurrency, world.retries = 1, 0
    for number in range(20):
        world.push(images.image([images.layer(2000, number)]), f"v{number:02}")
    with world.engine(world.rule()) as engine:
        plan = engine.plan()
        world.forget()
        world.source.on("GET", "/manifests/", answer(503))
        estimate = engine.estimate(plan)
    assert kinds(world.source) == {"GET manifest": 3}
    assert estimate.sizes == (None,) * 20
    (first, asked), (given_up, others) = estimate.unknown.items()
    assert (asked, others) == (3, 17)
    assert "503" in first
    assert first.endswith("(the first of them)")
    assert given_up == f"{world.source.host} was asked no more after 3 failures"


def test_a_hostile_image_is_not_gone_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "_MAX_MANIFESTS", 3)
    world.push(images.index([images.image([images.layer(2000, n)], f"linux/arch{n}") for n in range(5)]), "v1")
    _, estimate = estimated(world, world.rule())
    assert estimate.sizes == (None,)
    assert kinds(world.source) == {"GET manifest": 1}
    assert "more than 3 manifests" in next(iter(estimate.unknown))


def test_told_to_stop_it_ends_within_a_second(world: World) -> None:
    world.timeouts = replace(world.timeouts, read=60.0)
    for number in range(12):
        world.push(images.image([images.layer(2000, number)]), f"v{number:02}")
    with world.engine(world.rule()) as engine:
        plan = engine.plan()
        world.forget()
        world.source.on("GET", "/manifests/", wait())
        found: list[Estimate] = []
        thread = threading.Thread(target=lambda: found.append(engine.estimate(plan)))
        thread.start()
        while len(world.source.seen("GET", "/manifests/")) < world.concurrency:
            time.sleep(0.01)
        began = time.monotonic()
        engine.cancel()
        thread.join(10)
        assert time.monotonic() - began < 2
    assert found[0].sizes == (None,) * 12
    assert len(world.source.seen("GET", "/manifests/")) < 12
    assert found[0].unknown_images == 12


# What it costs


def test_it_takes_less_memory_than_the_plan_may() -> None:
    """Of two thousand images, each with a base and eight layers of its own."""
    count = 2000
    to = Repository("b.io", "app")
    plan = Plan(
        tuple(ImagePair(0, f"a.io/app:v{n}", f"{to}:v{n}", PairState.NEW, f"sha256:{n:064x}") for n in range(count))
    )
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tally = sizing._Tally(plan, NO_RECORDS)
        for n in range(count):
            tally.count(
                [n],
                Repository("a.io", "app"),
                {BASE.digest: BASE.size} | {f"sha256:{n:060x}{m:04x}": 5 for m in range(8)},
            )
        estimate = tally.estimate(None)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert estimate.to_send == BASE.size + count * 8 * 5
    assert (after - before) / count < 1000
