"""What a run does when a registry says that it is too much."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.plan import ImagePair, PairState
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from tests.support.clients import SHORT, login_for, quick
from tests.support.faults import answer, change_headers, pull_quota, wait
from tests.support.front import Front
from tests.support.world import World, kinds

TAGS = tuple(f"v{number:02}" for number in range(24))


def push_different(world: World, *tags: str) -> None:
    for number, tag in enumerate(tags):
        world.push(images.image([images.layer(2000, number)]), tag)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_never_more_requests_are_in_flight_than_a_registry_allows(world: World, side: str) -> None:
    push_different(world, *TAGS)
    world.concurrency = 12
    world.logins = {side: {"max_concurrent": 3}}
    front: Front = getattr(world, side)
    front.on(None, "/(manifests|blobs)/", wait(0.005))
    report = world.run(world.rule())
    assert report.totals["copied"] == len(TAGS)
    assert front.most == 3


@pytest.mark.parametrize("status", [429, 503])
def test_after_a_refusal_half_as_many_requests_are_in_flight(world: World, status: int) -> None:
    tags = TAGS[:12]
    world.push(images.image(), *tags)
    world.concurrency = 8
    front = world.source
    front.on("HEAD", "/manifests/v03", answer(status, after=0.1), times=1)
    front.on("HEAD", "/manifests/", wait(0.1))
    with world.engine(world.rule(*tags)) as engine:
        assert engine.plan().totals["new"] == len(tags)
        window = engine._registries.client(world.at(front, "app")).limiter.window
    assert front.most == 8
    # Half of eight, and one more for each window of the twelve successes.
    assert window in (4, 5, 6)


def test_a_registry_that_refuses_whatever_is_above_its_limit_gets_it_all_done(world: World) -> None:
    """As a registry behind a front end that allows two requests at once."""
    push_different(world, *TAGS[:12])
    world.concurrency = 8
    world.retries = 4
    world.retry = RetryPolicy(first_wait=0.3, max_wait=1.5)
    front = world.destination

    front.on(None, "", answer(429), when=lambda _: front._under_way > 2)
    front.on(None, "", wait(0.01))
    report = world.run(world.rule())
    assert report.totals["copied"] == 12, report.failed


def test_the_least_rate_of_a_registrys_logins_is_kept_over_all_threads(world: World) -> None:
    world.push(images.image(), *TAGS[:10])
    host = world.source.host
    logins = (
        login_for(world.source, requests_per_second=1000.0),
        Login(key=f"{host}/x", registry=host, namespace="x", insecure=True, requests_per_second=50.0),
        login_for(world.destination),
    )
    config = SyncConfig(rules=(world.rule(*TAGS[:10]),), logins=logins, concurrency=8)
    begun = time.monotonic()
    with SyncEngine(config, retry=quick(), timeouts=SHORT) as engine:
        engine.plan()
    assert time.monotonic() - begun >= 9 / 50
    assert len(world.source.seen()) == 10


def test_a_long_wait_fails_quickly_what_needs_that_registry_and_nothing_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    push_different(world, *TAGS[:8])
    world.push(images.image(), "v1", name="free", front=world.destination)
    world.concurrency = 2
    world.source.on("GET", "/manifests/", answer(429, {"Retry-After": "3600"}), skip=2)
    limited = world.rule(*TAGS[:8])
    free = world.rule("v1", source=world.destination, name="free", to="copy")
    begun = time.time()
    report = world.run(limited, free)
    assert time.time() - begun < 20
    *held, last = report.images
    assert last.state == "copied"
    # Those whose manifests came before may have been held up at their blobs.
    assert len(report.failed) in (6, 7, 8)
    assert {one.state for one in held} <= {"copied", "failed"}
    for one in report.failed:
        assert one.temporary
        assert 3590 <= (one.retry_at or 0) - begun < 3630
    assert len(world.source.seen("GET", "/manifests/")) <= 4
    (warning,) = [one.getMessage() for one in caplog.records if "asks to wait" in one.getMessage()]
    assert warning.startswith(f"{world.source.host} asks to wait 1 h 00 min, until ")


def test_what_could_not_even_be_compared_says_when_to_try_again(world: World) -> None:
    world.push(images.image(), "v1", "v2")
    world.source.on(None, "", answer(429, {"Retry-After": "3600"}))
    plan = world.plan(world.rule("v1", "v2"), world.rule())
    assert [one.state for one in plan.images] == ["failed"] * 3
    assert all((one.retry_at or 0) > time.time() + 3500 for one in plan.images)
    assert len(world.source.seen()) <= 3  # those that were under way together


def test_a_wait_may_be_sat_out_by_who_has_the_time(world: World) -> None:
    world.push(images.image(), *TAGS[:6])
    world.source.on("HEAD", "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    config = world.engine(world.rule()).config
    for longest, fails in ((0.5, True), (2.0, False)):
        with SyncEngine(config, retry=quick(), timeouts=SHORT, longest_wait=longest) as engine:
            assert bool(engine.plan().totals["failed"]) == fails
        world.source.forget()
        world.source.on("HEAD", "/manifests/", answer(429, {"Retry-After": "1"}), times=1)


def test_the_time_to_try_again_goes_along_between_tasks_and_is_not_in_the_documented_json() -> None:
    pair = ImagePair(0, "a/b:1", "c/d:1", PairState.FAILED, error="no", temporary=True, retry_at=5.5)
    result = ImageResult(0, "a/b:1", "c/d:1", ResultState.FAILED, error="no", temporary=True, retry_at=5.5)
    assert ImagePair.load(pair.dump()) == pair
    assert ImageResult.load(result.dump()) == result
    assert "retry_at" not in pair.as_dict()
    assert "retry_at" not in result.as_dict()


# What counts for a pull limit


def test_pulls_are_spent_on_what_is_copied_and_on_nothing_else(world: World) -> None:
    """Each GET of a manifest is one of Docker Hub's pulls: one for an image that is copied, and one for each child."""
    world.concurrency = 1
    world.source.on(None, "/manifests/", change_headers(ratelimit_remaining="76;w=21600"))
    platforms = ("linux/amd64", "linux/arm64")
    index = images.index([images.image([images.layer(2000, number)], one) for number, one in enumerate(platforms)])
    world.push(index, "v1", "latest")
    world.push(images.image([images.layer(2000, 9)]), "single")
    assert world.run(world.rule()).totals["copied"] == 3
    # Three tags that name two things, and the children of the index once.
    assert kinds(world.source)["GET manifest"] == 2 + 2
    world.forget()
    world.source.on(None, "/manifests/", change_headers(ratelimit_remaining="76;w=21600"))
    assert world.run(world.rule()).totals["same"] == 3
    assert kinds(world.source) == {"GET tags": 1, "HEAD manifest": 3}
    assert kinds(world.destination) == {"HEAD manifest": 3}


def test_an_image_with_many_tags_is_one_pull(world: World) -> None:
    """Where the first answer says that pulls are counted; those that were under way by then are more."""
    world.concurrency = 1
    world.source.on(None, "/manifests/", change_headers(ratelimit_remaining="76;w=21600"))
    world.push(images.image(), *TAGS)
    assert world.run(world.rule()).totals["copied"] == len(TAGS)
    assert kinds(world.source)["GET manifest"] == 1


def test_what_a_platform_filter_looked_at_is_not_pulled_again_to_be_copied(world: World) -> None:
    world.push(images.index(), "v1")
    rule = world.rule("v1", platforms=["linux/amd64"])
    assert world.one(rule).state == "copied"
    assert kinds(world.source)["GET manifest"] == 1 + 1


def test_a_run_stops_pulling_when_what_is_left_is_for_others(world: World) -> None:
    push_different(world, *TAGS[:6])
    world.concurrency = 1
    world.logins = {"source": {"min_remaining": 50}}
    world.source.on("GET", "/manifests/", pull_quota(53))
    report = world.run(world.rule())
    assert Counter(one.state for one in report.images) == {"copied": 3, "failed": 3}
    assert len(world.source.seen("GET", "/manifests/")) == 3
    assert all(one.retry_at is not None and "min_remaining" in (one.error or "") for one in report.failed)


# Timeouts


def test_a_configurations_timeouts_are_used_unless_others_are_given(world: World) -> None:
    config = SyncConfig(logins=(login_for(world.source),), timeouts=Timeouts(read=7.5))
    repository = world.at(world.source, "app")
    with SyncEngine(config) as engine:
        assert engine._registries.client(repository).timeouts.read == 7.5
    with SyncEngine(config, timeouts=SHORT) as engine:
        assert engine._registries.client(repository).timeouts == SHORT
