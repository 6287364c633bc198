"""What a client does when a registry says that it is too much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate

import pytest

from airflow_imagesync.domain.manifest import Manifest
from airflow_imagesync.errors import ImageSyncError, RateLimited
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.limiter import Limiter
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import SHORT, client_for, login_for, quick
from tests.support.faults import answer, change_headers
from tests.support.front import Exchange, Front
from tests.support.world import kinds

IMAGE = images.image([images.layer(1000)], "linux/amd64")
#: What Docker Hub answers, as far as it matters.
DOCKER_HUB_REFUSES = answer(
    429,
    {"Content-Type": "application/json", "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"},
    b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit"}]}',
)


@pytest.fixture(scope="module", autouse=True)
def image(source_registry: DistributionRegistry) -> None:
    images.push(source_registry.url, "limits/app", IMAGE, ["v1", "v2"])


@pytest.fixture
def client(front: Front) -> Iterator[RegistryClient]:
    client = client_for(front)
    yield client
    client.close()


def patient(front: Front, longest_wait: float, *, retries: int = 3, **login: object) -> RegistryClient:
    """A client that sits out so long a wait."""
    policy = replace(quick(retries), longest_wait=longest_wait)
    return RegistryClient(front.host, login_for(front, **login), retry=policy, timeouts=SHORT)


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_nobody_sends_before_the_time_that_was_named(
    client: RegistryClient, front: Front, form: str, status: int
) -> None:
    # A date has whole seconds: this one is between one and two seconds away.
    named = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    client.head_manifest("limits/app", "v1")
    front.on("HEAD", "/manifests/v1", answer(status, {"Retry-After": named}), times=1)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.head_manifest, "limits/app", "v1")
        while not [one for one in front.seen("HEAD", "/manifests/v1") if one.status == status]:
            time.sleep(0.005)
        refused = time.monotonic()
        time.sleep(0.05)  # until it has read the answer
        before = len(front.seen())
        others = [pool.submit(client.head_manifest, "limits/app", "v2") for _ in range(7)]
        time.sleep(0.4)
        assert len(front.seen()) == before
        assert all(one.result() is not None for one in [first, *others])
    assert time.monotonic() - refused >= 0.8


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_wait_that_is_too_long_fails_what_comes_after_without_a_request(
    client: RegistryClient, front: Front, form: str
) -> None:
    named = "3600" if form == "seconds" else formatdate(time.time() + 3600, usegmt=True)
    front.on("GET", "/tags/list", answer(429, {"Retry-After": named}))
    with pytest.raises(RateLimited) as first:
        client.list_tags("limits/app")
    assert (first.value.status, len(front.seen())) == (429, 1)
    for ask in (
        lambda: client.list_tags("limits/app"),
        lambda: client.head_manifest("limits/app", "v1"),
        lambda: client.has_blob("limits/app", IMAGE.digest),
    ):
        with pytest.raises(RateLimited, match=f"{front.host} asked to be left alone until") as caught:
            ask()
        assert caught.value.temporary
        assert 3500 < (caught.value.retry_after or 0) <= 3600
        # All of them name the same moment.
        assert abs((caught.value.retry_at or 0) - (first.value.retry_at or 0)) < 5
    assert len(front.seen()) == 1


def test_how_long_a_wait_is_sat_out_is_the_policys(front: Front) -> None:
    front.on("HEAD", "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    with pytest.raises(RateLimited):
        patient(front, 0.5).head_manifest("limits/app", "v1")
    assert len(front.seen()) == 1
    front.on("HEAD", "/manifests/", answer(429, {"Retry-After": "1"}), times=1)
    assert patient(front, 2).head_manifest("limits/app", "v1") is not None


def test_a_wait_that_was_sat_out_leaves_no_time_to_try_again_at(front: Front) -> None:
    front.on("HEAD", "/manifests/", answer(429, {"Retry-After": "1"}))
    with pytest.raises(RateLimited) as caught:
        patient(front, 2, retries=0).head_manifest("limits/app", "v1")
    assert caught.value.retry_at is None


def test_a_slot_is_not_held_while_waiting_to_try_again(front: Front) -> None:
    policy = replace(quick(1), first_wait=1.0, max_wait=1.0)
    client = RegistryClient(front.host, login_for(front), retry=policy, timeouts=SHORT, limiter=Limiter(1))
    client.head_manifest("limits/app", "v2")
    front.on("HEAD", "/manifests/v1", answer(503), times=1)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(client.head_manifest, "limits/app", "v1")
        while not front.seen("HEAD", "/manifests/v1"):
            time.sleep(0.005)
        assert client.head_manifest("limits/app", "v2") is not None
        assert not waits.done()
        assert waits.result() is not None


def test_all_requests_count_for_the_pace(front: Front) -> None:
    client = patient(front, 60, requests_per_second=25)
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.head_manifest("limits/app", "v1"), range(5)))
        list(pool.map(lambda _: client.get_manifest("limits/app", "v1"), range(5)))
    assert time.monotonic() - begun >= 9 * 0.04
    assert len(front.seen()) == 10


# Docker Hub's pull limit


def test_no_manifest_is_asked_for_when_none_is_left(client: RegistryClient, front: Front) -> None:
    front.on(None, "/manifests/", change_headers(ratelimit_remaining="1;w=21600"), times=1)
    front.on(None, "/manifests/", change_headers(ratelimit_remaining="0;w=21600"), times=2)
    assert client.head_manifest("limits/app", "v1") is not None
    client.get_manifest("limits/app", "v1")
    with pytest.raises(RateLimited) as caught:
        client.get_manifest("limits/app", "v2")
    assert 890 < (caught.value.retry_after or 0) <= 900
    assert caught.value.retry_at is not None
    # HEAD is free; what it says counts, too.
    assert client.head_manifest("limits/app", "v2") is not None
    with pytest.raises(RateLimited):
        client.get_manifest("limits/app", "v2")
    assert client.head_manifest("limits/app", "v2") is not None  # says nothing more
    front.on(None, "/manifests/", change_headers(ratelimit_remaining="5;w=21600"), times=1)
    client.head_manifest("limits/app", "v2")
    client.get_manifest("limits/app", "v2")
    assert kinds(front) == {"HEAD manifest": 4, "GET manifest": 2}


def test_pulls_are_left_to_others(front: Front) -> None:
    client = patient(front, 60, min_remaining=20)
    left = iter(range(23, 0, -1))

    def one_less(exchange: Exchange) -> None:
        change_headers(ratelimit_remaining=f"{next(left)};w=21600")(exchange)

    front.on("GET", "/manifests/", one_less)
    results = []
    for _ in range(6):
        try:
            results.append(client.get_manifest("limits/app", "v1"))
        except RateLimited as error:
            results.append(error)
    assert [isinstance(result, Manifest) for result in results] == [True] * 4 + [False] * 2
    assert len(front.seen("GET", "/manifests/")) == 4  # and 20 are left


def test_docker_hubs_refusal_is_not_asked_for_again(client: RegistryClient, front: Front) -> None:
    front.on("GET", "/manifests/", DOCKER_HUB_REFUSES)
    with pytest.raises(RateLimited) as caught:
        client.get_manifest("limits/app", "v1")
    assert caught.value.retry_at is not None
    assert len(front.seen("GET")) == 1


def test_two_logins_of_a_registry_have_pulls_of_their_own(front: Front) -> None:
    front.on("GET", "/manifests/v1", change_headers(ratelimit_remaining="0;w=21600"))
    one, other = client_for(front), client_for(front)
    one.get_manifest("limits/app", "v1")
    other.get_manifest("limits/app", "v2")
    with pytest.raises(RateLimited):
        one.get_manifest("limits/app", "v2")


def test_a_short_window_is_waited_for(front: Front) -> None:
    front.on("GET", "/manifests/", change_headers(ratelimit_remaining="0;w=1"), times=1)
    client = patient(front, 5)
    client.get_manifest("limits/app", "v1")
    begun = time.monotonic()
    client.get_manifest("limits/app", "v1")
    assert time.monotonic() - begun > 0.9


def test_github_refuses_with_403(client: RegistryClient, front: Front) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"You have exceeded a secondary rate limit"}]}'
    front.on("GET", "/manifests/", answer(403, {"Retry-After": "3600"}, body))
    with pytest.raises(RateLimited):
        client.get_manifest("limits/app", "v1")
    with pytest.raises(ImageSyncError, match="asked to be left alone"):
        client.get_manifest("limits/app", "v2")
    assert len(front.seen()) == 1
