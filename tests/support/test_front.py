from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator

import pytest
import requests

from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import (
    answer,
    change_headers,
    close_at_once,
    corrupt,
    cut_answer,
    cut_upload,
    lose_answer,
    redirect,
    stall_upload,
    wait,
)
from tests.support.front import Front, Request

DATA = bytes(range(256)) * 800


@pytest.fixture
def front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def blob_url(front: Front, source_registry: DistributionRegistry, repository_prefix: str) -> str:
    """The address, at the front, of a blob with DATA."""
    blob = images.Blob(DATA)
    image = images.image([blob])
    images.push(source_registry.url, repository_prefix, image, ["v1"])
    return f"{front.url}/v2/{repository_prefix}/blobs/{blob.digest}"


def begin_upload(front: Front, repository: str, data: bytes) -> str:
    location = requests.post(f"{front.url}/v2/{repository}/blobs/uploads/", timeout=10).headers["Location"]
    return f"{location}&digest=sha256:{hashlib.sha256(data).hexdigest()}"


def has(registry: DistributionRegistry, repository: str, data: bytes) -> bool:
    url = f"{registry.url}/v2/{repository}/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    return requests.head(url, timeout=10).status_code == 200


def test_an_image_passes_through_unchanged(front: Front, repository_prefix: str) -> None:
    index = images.index(attestations=True)
    images.push(front.url, repository_prefix, index, ["v1"])
    got = requests.get(
        f"{front.url}/v2/{repository_prefix}/manifests/v1", headers={"Accept": index.media_type}, timeout=10
    )
    assert got.content == index.body
    assert front.seen("PUT", "/manifests/v1")[0].received == len(index.body)


def test_requests_are_recorded_with_headers_status_and_bytes(front: Front, blob_url: str) -> None:
    requests.get(blob_url, headers={"X-Mark": "1"}, timeout=10)
    (seen,) = front.seen("GET")
    assert (seen.headers["X-Mark"], seen.status, seen.sent) == ("1", 200, len(DATA))


def test_a_rule_applies_after_those_skipped_and_only_so_often(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", answer(503), skip=1, times=2)
    assert [requests.get(blob_url, timeout=10).status_code for _ in range(4)] == [200, 503, 503, 200]


def test_a_rule_may_look_at_the_request(front: Front, blob_url: str) -> None:
    def ranged(request: Request) -> bool:
        return "Range" in request.headers

    front.on("GET", "/blobs/", answer(416), when=ranged)
    assert requests.get(blob_url, timeout=10).status_code == 200
    assert requests.get(blob_url, headers={"Range": "bytes=0-1"}, timeout=10).status_code == 416


def test_an_answer_can_have_any_status_headers_and_body(front: Front) -> None:
    front.on("GET", "/v2/$", answer(418, {"X-Tea": "yes"}, b"short and stout"))
    got = requests.get(f"{front.url}/v2/", timeout=10)
    assert (got.status_code, got.headers["X-Tea"], got.content) == (418, "yes", b"short and stout")


def test_headers_of_the_answer_can_be_changed(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", change_headers(Docker_Content_Digest=None, Content_Type="text/plain"))
    got = requests.get(blob_url, timeout=10)
    assert "Docker-Content-Digest" not in got.headers
    assert got.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_connection_can_be_closed_before_the_registry_sees_the_request(
    front: Front, source_registry: DistributionRegistry, blob_url: str, reset: bool
) -> None:
    before = len(source_registry.requests_log())
    front.on("GET", "/blobs/", close_at_once(reset=reset))
    with pytest.raises(requests.ConnectionError):
        requests.get(blob_url, timeout=10)
    assert len(source_registry.requests_log()) == before


def test_an_answer_can_be_lost_after_the_registry_has_done_its_work(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    front.on("PUT", "/blobs/uploads/", lose_answer(), times=1)
    url = begin_upload(front, repository_prefix, DATA)
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=DATA, timeout=10)
    assert has(source_registry, repository_prefix, DATA)


def test_an_answer_can_be_replaced_after_the_registry_has_done_its_work(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    front.on("PUT", "/blobs/uploads/", lose_answer(502))
    assert requests.put(begin_upload(front, repository_prefix, DATA), data=DATA, timeout=10).status_code == 502
    assert has(source_registry, repository_prefix, DATA)


def test_an_upload_can_be_cut_at_a_byte(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    front.on("PUT", "/blobs/uploads/", cut_upload(at=100_000))
    url = begin_upload(front, repository_prefix, DATA)
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=DATA, timeout=10)
    assert front.seen("PUT")[0].received == 100_000
    assert not has(source_registry, repository_prefix, DATA)


def test_an_upload_can_stall_at_a_byte(front: Front, repository_prefix: str) -> None:
    front.on("PUT", "/blobs/uploads/", stall_upload(at=10))
    url = begin_upload(front, repository_prefix, DATA)
    with pytest.raises(requests.ReadTimeout):
        requests.put(url, data=DATA, timeout=0.2)
    assert front.seen("PUT")[0].received == 10


def test_a_client_that_hangs_up_in_mid_upload_cuts_it_for_the_registry(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    url = begin_upload(front, repository_prefix, DATA)
    connection = http.client.HTTPConnection(front.host)
    connection.putrequest("PUT", url.removeprefix(front.url))
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders(DATA[:-1])
    connection.close()
    deadline = time.monotonic() + 5
    while not any(one.received == len(DATA) - 1 for one in front.seen("PUT")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not has(source_registry, repository_prefix, DATA)


@pytest.mark.parametrize("stall", [False, True], ids=["closed", "stalled"])
def test_an_answer_can_be_cut_at_a_byte(front: Front, blob_url: str, stall: bool) -> None:
    front.on("GET", "/blobs/", cut_answer(at=100_000, stall=stall))
    response = requests.get(blob_url, stream=True, timeout=0.3)
    received: list[bytes] = []
    with pytest.raises(requests.RequestException):
        received.extend(response.iter_content(1000))
    assert b"".join(received) == DATA[:100_000]


def test_a_byte_can_be_changed(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", corrupt(at=150_000))
    got = requests.get(blob_url, timeout=10).content
    assert [place for place in range(len(DATA)) if got[place] != DATA[place]] == [150_000]


def test_an_answer_can_come_late_or_never(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", wait(0.2), times=1)
    front.on("GET", "/blobs/", wait())
    begun = time.monotonic()
    assert requests.get(blob_url, timeout=10).content == DATA
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(requests.ReadTimeout):
        requests.get(blob_url, timeout=0.2)


def test_a_request_can_be_redirected_to_another_origin(
    front: Front, source_registry: DistributionRegistry, blob_url: str
) -> None:
    front.on("GET", "/blobs/", redirect(f"{source_registry.url}*"))
    got = requests.get(blob_url, timeout=10)
    assert got.content == DATA
    assert got.url.startswith(source_registry.url)


def test_the_most_requests_at_once_are_counted(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", wait())
    for _ in range(2):
        with pytest.raises(requests.ReadTimeout):
            requests.get(blob_url, timeout=0.05)
    connections = [http.client.HTTPConnection(front.host) for _ in range(3)]
    front.forget()
    front.on("GET", "/v2/$", wait())
    for connection in connections:
        connection.request("GET", "/v2/")
    deadline = time.monotonic() + 5
    while front.most < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    for connection in connections:
        connection.close()
    assert front.most == 3


def test_without_an_upstream_the_rules_are_all_there_is() -> None:
    with Front() as front:
        front.on("GET", "^/v2/$", answer(200))
        assert requests.get(f"{front.url}/v2/", timeout=10).status_code == 200
        assert requests.get(f"{front.url}/v2/x", timeout=10).status_code == 404
