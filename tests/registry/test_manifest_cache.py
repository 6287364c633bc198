from __future__ import annotations

import pytest

from airflow_imagesync.domain.manifest import Manifest
from airflow_imagesync.errors import NotFound
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.manifest_cache import ManifestCache
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.front import Front
from tests.support.world import kinds

ONE, OTHER = images.image(), images.image([images.layer(2000, "other")])


def manifest(name: str, size: int = 400) -> Manifest:
    return Manifest("type", f"sha256:{name}", b"x" * size)


def test_the_latest_used_ones_are_held_up_to_so_many_bytes() -> None:
    cache = ManifestCache(limit=1000)
    for name in ("a", "b"):
        cache.put("app", manifest(name))
    assert cache.get("app", "sha256:a") is not None
    cache.put("app", manifest("c"))
    held = [name for name in "abc" if cache.get("app", f"sha256:{name}") is not None]
    assert held == ["a", "c"]


def test_one_that_is_larger_than_all_pushes_none_out() -> None:
    cache = ManifestCache(limit=1000)
    cache.put("app", manifest("a"))
    cache.put("app", manifest("huge", 1001))
    assert cache.get("app", "sha256:a") is not None
    assert cache.get("app", "sha256:huge") is None


def test_what_one_repository_holds_says_nothing_of_another() -> None:
    cache = ManifestCache()
    cache.put("app", manifest("a"))
    assert cache.get("other", "sha256:a") is None


@pytest.fixture
def client(front: Front, source_registry: DistributionRegistry) -> RegistryClient:
    images.push(source_registry.url, "held/app", ONE, ["v1", "v2"])
    return client_for(front)


def test_a_digest_is_fetched_once(client: RegistryClient, front: Front) -> None:
    assert client.get_manifest("held/app", ONE.digest) == client.get_manifest("held/app", ONE.digest)
    assert kinds(front) == {"GET manifest": 1}


def test_a_tag_that_still_names_what_was_fetched_costs_a_head(client: RegistryClient, front: Front) -> None:
    first = client.get_manifest("held/app", "v1", ONE.digest)
    assert client.get_manifest("held/app", "v2", ONE.digest) == first
    assert kinds(front) == {"GET manifest": 1, "HEAD manifest": 1}


def test_a_tag_that_moved_meanwhile_is_fetched(
    client: RegistryClient, front: Front, source_registry: DistributionRegistry
) -> None:
    client.get_manifest("held/app", ONE.digest)
    images.push(source_registry.url, "held/app", OTHER, ["v1"])
    assert client.get_manifest("held/app", "v1", ONE.digest).digest == OTHER.digest


def test_a_tag_that_is_gone_is_not_found_whatever_is_held(client: RegistryClient) -> None:
    client.get_manifest("held/app", ONE.digest)
    with pytest.raises(NotFound):
        client.get_manifest("held/app", "never-there", ONE.digest)


def test_without_an_expectation_a_tag_is_always_fetched(client: RegistryClient, front: Front) -> None:
    client.get_manifest("held/app", "v1")
    client.get_manifest("held/app", "v1")
    assert kinds(front) == {"GET manifest": 2}
