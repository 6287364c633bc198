from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest
import requests

from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy
from tests.support.skopeo import Skopeo

DELAY = 0.1
MiB = 1 << 20


@pytest.fixture(scope="module")
def proxy(source_registry: DistributionRegistry) -> Iterator[LatencyProxy]:
    with LatencyProxy(source_registry.host, delay=DELAY) as running:
        yield running


def test_each_request_of_a_connection_waits(proxy: LatencyProxy):
    with requests.Session() as session:
        started = time.monotonic()
        for _ in range(5):
            assert session.get(f"{proxy.url}/v2/").status_code == 200
    assert time.monotonic() - started >= 5 * DELAY


def test_connections_are_kept(proxy: LatencyProxy, source_registry: DistributionRegistry):
    with requests.Session() as session:
        first = session.get(f"{proxy.url}/v2/", stream=True)
        connection = first.raw._connection
        first.content  # noqa: B018 - reads the body, so that the connection is free again
        second = session.get(f"{proxy.url}/v2/", stream=True)
        assert second.raw._connection is connection


def test_connections_wait_side_by_side(proxy: LatencyProxy, repository_prefix: str):
    started = time.monotonic()
    images.push_many_tags(proxy.url, repository_prefix, images.image([]), 80, workers=16)
    # One after the other the tags alone would take 8 s.
    assert time.monotonic() - started < 80 * DELAY / 2


def test_uploads_are_led_back_through_the_proxy(proxy: LatencyProxy, repository_prefix: str):
    answer = requests.post(f"{proxy.url}/v2/{repository_prefix}/blobs/uploads/")
    assert answer.headers["Location"].startswith(f"{proxy.url}/")


def test_bodies_go_through_both_ways(
    proxy: LatencyProxy, source_registry: DistributionRegistry, repository_prefix: str, skopeo: Skopeo
):
    layer = images.layer(20 * MiB)
    built = images.image([layer])
    images.push(proxy.url, repository_prefix, built, ["v1"])
    assert skopeo.digest(f"{source_registry.host}/{repository_prefix}:v1") == built.digest
    digest = hashlib.sha256()
    with requests.get(f"{proxy.url}/v2/{repository_prefix}/blobs/{layer.digest}", stream=True) as answer:
        for piece in answer.iter_content(MiB):
            digest.update(piece)
    assert f"sha256:{digest.hexdigest()}" == layer.digest


def test_chunked_bodies_go_through(proxy: LatencyProxy, repository_prefix: str):
    layer = images.layer(3 * MiB)
    with requests.Session() as session:
        started = session.post(f"{proxy.url}/v2/{repository_prefix}/blobs/uploads/")
        done = session.put(f"{started.headers['Location']}&digest={layer.digest}", data=layer.pieces())
        assert done.request.headers["Transfer-Encoding"] == "chunked"
        assert done.status_code == 201
        # The next request's start was found after the chunks.
        assert session.get(f"{proxy.url}/v2/").status_code == 200


def test_a_registry_that_is_not_there_closes_the_connection():
    with LatencyProxy("127.0.0.1:1", delay=0) as proxy, pytest.raises(requests.ConnectionError):
        requests.get(f"{proxy.url}/v2/")


def test_nothing_is_left_after_it(source_registry: DistributionRegistry):
    with LatencyProxy(source_registry.host) as proxy:
        url = proxy.url
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/v2/")
