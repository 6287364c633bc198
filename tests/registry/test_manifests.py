from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.errors import ProtocolError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.manifests import ManifestHead
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.faults import answer, change_headers
from tests.support.front import Exchange, Front, pass_through
from tests.support.world import kinds

ONE, OTHER = images.image(), images.image([images.layer(2000, "other")])


@pytest.fixture
def path(repository_prefix: str, source_registry: DistributionRegistry) -> str:
    images.push(source_registry.url, repository_prefix, ONE, ["v1", "v2"])
    return repository_prefix


@pytest.fixture
def headless(front: Front, path: str) -> RegistryClient:
    """A client of a registry behind something that does not let HEAD pass, and that has found this out."""
    front.on("HEAD", "/manifests/", answer(405))
    client = client_for(front)
    assert client.head_manifest(path, "v2") == ManifestHead(ONE.digest, ONE.media_type)
    front.requests.clear()
    return client


def test_an_unchanged_manifest_is_not_sent_where_only_get_works(
    headless: RegistryClient, front: Front, path: str
) -> None:
    head = headless.head_manifest(path, "v1", ONE.digest)
    assert head is not None
    assert head.digest == ONE.digest
    (request,) = front.requests
    assert (request.method, request.status, request.sent) == ("GET", 304, 0)
    assert request.headers["If-None-Match"] == f'"{ONE.digest}"'


def test_a_manifest_that_has_changed_is_told_as_it_is_now(headless: RegistryClient, front: Front, path: str) -> None:
    assert headless.head_manifest(path, "v1", OTHER.digest) == ManifestHead(ONE.digest, ONE.media_type)
    assert [one.status for one in front.requests] == [200]


def test_a_tag_that_is_gone_is_missing_whatever_was_expected(headless: RegistryClient, path: str) -> None:
    assert headless.head_manifest(path, "never-there", ONE.digest) is None


def test_a_digest_is_asked_for_without_expectation_because_distribution_would_not_look(
    headless: RegistryClient, front: Front, path: str
) -> None:
    assert headless.head_manifest(path, OTHER.digest, OTHER.digest) is None
    assert "If-None-Match" not in front.requests[0].headers


def test_a_manifest_that_was_fetched_is_not_sent_again_for_another_tag(
    headless: RegistryClient, front: Front, path: str
) -> None:
    assert headless.get_manifest(path, "v1", ONE.digest).body == ONE.body
    assert [one.status for one in front.requests] == [304]


def test_an_answer_that_nothing_has_changed_needs_the_question(front: Front, path: str) -> None:
    front.on("GET", "/manifests/", answer(304))
    with pytest.raises(ProtocolError, match="answered 304 without having been asked whether the manifest has changed"):
        client_for(front).get_manifest(path, "v1")


def test_an_answer_that_another_manifest_has_not_changed_is_an_error(
    headless: RegistryClient, front: Front, path: str
) -> None:
    front.on("GET", "/manifests/", answer(304, {"Docker-Content-Digest": OTHER.digest}))
    with pytest.raises(ProtocolError, match=f"answered 304 for {OTHER.digest} where {ONE.digest} was asked about"):
        headless.head_manifest(path, "v1", ONE.digest)


def test_head_is_asked_without_conditions(front: Front, path: str) -> None:
    assert client_for(front).head_manifest(path, "v1", ONE.digest) == ManifestHead(ONE.digest, ONE.media_type)
    (request,) = front.requests
    assert request.method == "HEAD"
    assert "If-None-Match" not in request.headers


def test_one_get_proves_the_heads_of_many_missing_tags(front: Front, path: str) -> None:
    all_there = threading.Barrier(4)

    def together(exchange: Exchange) -> None:
        all_there.wait(10)
        pass_through(exchange)

    front.on("HEAD", "/manifests/", together)
    client = client_for(front)
    with ThreadPoolExecutor(4) as threads:
        heads = list(threads.map(lambda number: client.head_manifest(path, f"missing{number}"), range(4)))
    assert heads == [None] * 4
    assert kinds(front) == Counter({"HEAD manifest": 4, "GET manifest": 1})


@pytest.mark.parametrize("value", ["76;w=21600", None], ids=["told", "never-told"])
def test_a_registry_that_tells_what_is_left_counts_pulls(front: Front, path: str, value: str | None) -> None:
    front.on("HEAD", "/manifests/", change_headers(ratelimit_remaining=value))
    client = client_for(front)
    assert not client.counts_pulls
    client.head_manifest(path, "v1")
    assert client.counts_pulls is (value is not None)


def test_docker_hub_counts_pulls() -> None:
    assert RegistryClient("docker.io").counts_pulls
