"""Each byte once, over images, destinations, runs and tasks: shown by what the registries were asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_imagesync.domain.rules import Destination
from airflow_imagesync.engine import blobs
from airflow_imagesync.engine.records import Records
from airflow_imagesync.engine.records_database import open_records
from airflow_imagesync.engine.sync import SyncEngine
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer, wait
from tests.support.front import Exchange, Front
from tests.support.tree import whole_tree
from tests.support.world import World, kinds

MIB = 1 << 20
BASE = images.layer(2 * MIB, "base")


@contextmanager
def remembering(world: World, file: Path) -> Iterator[Records]:
    """Have the runs of `world` use records in a file, as one process does."""
    before = world.records
    with open_records(str(file), run="test") as world.records:
        yield world.records
    world.records = before


def on_base(name: object) -> images.BuiltManifest:
    return images.image([BASE, images.layer(3000, name)])


# Runs and tasks, one after the other


def test_what_an_earlier_run_brought_into_a_registry_is_mounted(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        world.push(on_base(name), "v1", name=name)
        with remembering(world, tmp_path / "records.db"):
            assert world.one(world.rule(name=name)).state == "copied"
    got = [one.path for one in world.source.seen("GET", "/blobs/") if BASE.digest in one.path]
    assert len(got) == 1
    mounts = world.destination.seen("POST", f"mount={BASE.digest}")
    assert [one.status for one in mounts] == [201]


def test_a_record_of_a_blob_that_is_gone_costs_a_request_and_is_forgotten(world: World, tmp_path: Path) -> None:
    world.push(on_base("a"), "v1", name="a")
    with remembering(world, tmp_path / "records.db") as records:
        for place in ("never", "was"):
            records.note_blobs(world.at(world.destination, place), [BASE.digest], referenced=True)
            assert records.blobs(world.at(world.destination, "a"), [BASE.digest])[BASE.digest].home is not None
        result = world.one(world.rule(name="a"))
        assert (result.state, result.error) == ("copied", None)
        (mount,) = world.destination.seen("POST", "mount=")
        assert mount.status == 202  # and its upload was used
        known = records.blobs(world.at(world.destination, "x"), [BASE.digest])[BASE.digest]
        assert {known.home, known.referenced} <= {f"{world.prefix}/a", f"{world.prefix}/never", f"{world.prefix}/was"}
    whole_tree(world.upstream(world.destination).url, f"{world.prefix}/a", "v1")


def test_a_record_that_a_repository_has_what_it_lacks_is_not_believed(world: World, tmp_path: Path) -> None:
    """Deleted by another hand: repository, manifests and blobs."""
    image = world.push(on_base("a"), *(f"v{number}" for number in range(10)), name="a")
    with remembering(world, tmp_path / "records.db") as records:
        here = world.at(world.destination, "a")
        records.note_blobs(here, [one.digest for one in image.all_blobs()], referenced=True)
        report = world.run(world.rule(name="a"))
    assert report.totals["copied"] == 10
    whole_tree(world.upstream(world.destination).url, f"{world.prefix}/a", "v1")


def test_what_an_interrupted_run_left_is_not_sent_again(world: World, tmp_path: Path) -> None:
    image = world.push(images.image([images.layer(3000, number) for number in range(4)]), *"abcdefghij", name="app")
    last = image.blobs[-1]
    with remembering(world, tmp_path / "records.db"):
        world.destination.on("PUT", f"digest={last.digest}", answer(403), times=1)
        assert world.run(world.rule()).totals["failed"] == 10
    sent = Counter(one.path for one in world.destination.seen("PUT", "/uploads/"))
    assert sent
    world.forget()
    with remembering(world, tmp_path / "records.db"):
        assert world.run(world.rule()).totals["copied"] == 10
    assert kinds(world.destination)["PUT upload"] == 1


def test_a_new_repository_is_not_asked_for_what_the_records_do_not_know(world: World, tmp_path: Path) -> None:
    world.concurrency = 1
    for number in range(20):
        world.push(images.image([images.layer(3000, number)]), f"v{number:02}")
    with remembering(world, tmp_path / "records.db"):
        assert world.run(world.rule()).totals["copied"] == 20
    assert kinds(world.source) == {"GET tags": 1, "GET manifest": 20, "GET blob": 40}
    # One tag is asked for, then the list is.
    wanted = {"HEAD manifest": 1, "GET manifest": 1, "GET tags": 1, "POST upload": 40, "PUT upload": 40}
    assert kinds(world.destination) == {**wanted, "PUT manifest": 20}


# Tasks that run at the same time


def test_a_task_waits_for_what_another_one_brings_and_mounts_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "LOOK_EVERY", 0.05)
    for name in ("a", "b"):
        world.push(on_base(name), "v1", name=name)
    go_on, begun = threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> None:
        begun.set()
        assert go_on.wait(20)
        exchange.pass_on(exchange.forward())

    world.source.on("GET", BASE.digest, hold, times=1)
    results: dict[str, str] = {}

    def copy(name: str) -> None:
        with open_records(str(tmp_path / "records.db"), run=name) as records:
            results[name] = replace(world, records=records).one(world.rule(name=name)).state

    first = threading.Thread(target=copy, args=("a",))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=copy, args=("b",))
    second.start()
    while not world.destination.seen("PUT", "/b/blobs/uploads/"):  # the rest of it need not wait
        second.join(0.02)
    assert not world.destination.seen("PUT", "/b/manifests/")
    go_on.set()
    for thread in (first, second):
        thread.join(30)
    assert results == {"a": "copied", "b": "copied"}
    assert len(world.source.seen("GET", BASE.digest)) == 1
    assert [one.status for one in world.destination.seen("POST", f"mount={BASE.digest}")] == [201]


def test_a_task_that_waits_ends_when_it_is_stopped(world: World, tmp_path: Path) -> None:
    world.push(on_base("a"), "v1")
    with open_records(str(tmp_path / "records.db"), run="other") as other:
        assert other.claim(world.destination.host, BASE.digest)
        with remembering(world, tmp_path / "records.db"), world.engine(world.rule()) as engine:
            stop = threading.Timer(1.0, engine.cancel)
            stop.start()
            report = engine.run()
    assert [one.error for one in report.images] == ["the run was stopped before this was finished"]
    assert not world.source.seen("GET", BASE.digest)


# Registries that mount only what a manifest refers to


@pytest.mark.parametrize("concurrency", [1, 4])
def test_where_only_what_a_manifest_refers_to_is_mounted_the_others_wait_for_that(
    world: World, concurrency: int
) -> None:
    world.concurrency = concurrency

    def mount(exchange: Exchange) -> None:
        source = exchange.request.target.partition("from=")[2].replace("%2F", "/")
        put = [one for one in world.destination.seen("PUT", f"/v2/{source}/manifests/") if one.status == 201]
        if put:
            exchange.pass_on(exchange.forward())
        else:
            answer(405)(exchange)

    world.destination.on("POST", "mount=", mount)
    names = [f"r{number}" for number in range(6)]
    for name in names:
        world.push(on_base(name), "v1", name=name)
    report = world.run(*(world.rule(name=name) for name in names))
    assert report.totals["copied"] == 6
    # Until the first refusal nobody knows; those under way by then send for themselves.
    assert len(world.source.seen("GET", BASE.digest)) <= 1 + concurrency
    for name in names:
        whole_tree(world.upstream(world.destination).url, f"{world.prefix}/{name}", "v1")


def test_where_a_layer_is_waited_for_and_its_image_fails_the_next_one_sends_it(world: World) -> None:
    world.destination.on("POST", "mount=", answer(405))
    names = [f"r{number}" for number in range(4)]
    for name in names:
        world.push(on_base(name), "v1", name=name)
    world.destination.on("PUT", "/r0/manifests/", answer(403))
    report = world.run(*(world.rule(name=name) for name in names))
    assert [one.state for one in report.images] == ["failed", "copied", "copied", "copied"]


# One source, several destinations


@pytest.fixture(scope="module")
def more() -> Iterator[list[Front]]:
    """Two more destinations."""
    with ExitStack() as stack:
        registries = [stack.enter_context(DistributionRegistry(in_shared_memory=True)) for _ in range(2)]
        yield [stack.enter_context(Front(one.host)) for one in registries]


def to_all(world: World, more: list[Front], *tags: str) -> tuple[SyncEngine, list[Front]]:
    """An engine for one rule to three registries, and their fronts."""
    fronts = [world.destination, *more]
    for front in more:
        front.start()
        front.forget()
    rule = world.rule(*tags)
    places = tuple(Destination(world.at(front, "app")) for front in fronts)
    engine = world.engine(replace(rule, destinations=places))
    engine.close()
    logins = (*engine.config.logins, *(replace(engine.config.logins[1], registry=one.host) for one in more))
    return (
        SyncEngine(replace(engine.config, logins=logins), retry=world.retry, timeouts=world.timeouts),
        fronts,
    )


def test_a_source_is_read_once_for_all_destinations(world: World, more: list[Front]) -> None:
    children = [images.image([BASE, images.layer(1_500_000, name)], f"linux/{name}") for name in ("amd64", "arm64")]
    world.push(images.index(children), "v1", "v2")
    world.push(on_base("single"), "v3")
    engine, fronts = to_all(world, more)
    with engine:
        report = engine.run()
    assert report.totals["copied"] == 9
    blobs_read = Counter(one.path for one in world.source.seen("GET", "/blobs/"))
    assert set(blobs_read.values()) == {1}
    assert kinds(world.source)["HEAD manifest"] == 0
    trees = {
        tag: {whole_tree(world.upstream(front).url, f"{world.prefix}/app", tag) for front in fronts}
        for tag in ("v1", "v2", "v3")
    }
    assert all(len(one) == 1 and None not in one for one in trees.values())


def test_a_destination_that_has_some_gets_the_rest_from_the_same_read(world: World, more: list[Front]) -> None:
    old = images.image([BASE])
    world.push(images.image([BASE, images.layer(1_500_000, "new")]), "v1")
    engine, fronts = to_all(world, more, "v1")
    world.push(old, "old", front=fronts[1])
    with engine:
        report = engine.run()
    assert report.totals["copied"] == 3
    assert set(Counter(one.path for one in world.source.seen("GET", "/blobs/")).values()) == {1}
    assert not fronts[1].seen("PUT", BASE.digest)


def test_a_destination_that_fails_does_not_stop_the_others(world: World, more: list[Front]) -> None:
    world.push(on_base("a"), "v1")
    engine, fronts = to_all(world, more, "v1")
    fronts[1].on("PUT", "/uploads/", answer(403))
    with engine:
        report = engine.run()
    assert [one.state for one in report.images] == ["copied", "failed", "copied"]
    assert len(world.source.seen("GET", BASE.digest)) == 1


def test_a_destination_that_is_away_does_not_stop_the_others(world: World, more: list[Front]) -> None:
    world.push(on_base("a"), "v1")
    engine, fronts = to_all(world, more, "v1")
    fronts[2].on(None, "", answer(503))
    with engine:
        report = engine.run()
    assert [one.state for one in report.images] == ["copied", "copied", "failed"]
    assert len(world.source.seen("GET", BASE.digest)) == 1


def test_a_destination_that_does_not_answer_is_not_waited_for_long(
    world: World, more: list[Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_imagesync.engine.gathering.PATIENCE", 0.1)
    world.push(on_base("a"), "v1")
    engine, fronts = to_all(world, more, "v1")
    fronts[2].on("HEAD", "/blobs/", wait(0.8))
    with engine:
        report = engine.run()
    assert report.totals["copied"] == 3
    done = [len(front.seen("PUT", "/manifests/v1")) for front in fronts]
    assert done == [1, 1, 1]
    assert len(world.source.seen("GET", BASE.digest)) == 2


def test_a_fault_in_the_middle_of_one_destination_is_tried_again_alone(world: World, more: list[Front]) -> None:
    world.push(on_base("a"), "v1")
    engine, fronts = to_all(world, more, "v1")
    fronts[1].on("PUT", f"digest={BASE.digest}", answer(500), times=1)
    with engine:
        report = engine.run()
    assert report.totals["copied"] == 3
    assert len(world.source.seen("GET", BASE.digest)) == 2
