from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
import requests

from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import USER
from tests.support.faults import (
    answer,
    change_headers,
    close_afterwards,
    close_at_once,
    close_reused,
    corrupt,
    corrupt_upload,
    cut_answer,
    cut_upload,
    drip,
    drip_head,
    end_ecr_login,
    errors,
    limit_rate,
    lose_answer,
    pull_quota,
    redirect,
    refuse,
    refuse_token,
    stall_upload,
    throttle,
    too_many,
    truncate,
    wait,
    web_page,
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


def test_an_answer_can_have_a_header_twice(front: Front) -> None:
    front.on("GET", "/v2/$", answer(401, [("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Basic")]))
    assert requests.get(f"{front.url}/v2/", timeout=10).headers["WWW-Authenticate"] == "Negotiate, Basic"


def test_an_answer_can_be_an_error_of_the_specification(front: Front) -> None:
    front.on("GET", "/v2/$", errors(400, "NAME_INVALID", "no", {"name": "A"}, headers={"X-Tea": "yes"}))
    got = requests.get(f"{front.url}/v2/", timeout=10)
    assert (got.status_code, got.headers["Content-Type"], got.headers["X-Tea"]) == (400, "application/json", "yes")
    assert got.json() == {"errors": [{"code": "NAME_INVALID", "message": "no", "detail": {"name": "A"}}]}


def test_an_answer_can_be_a_web_page(front: Front) -> None:
    front.on("GET", "/v2/$", web_page())
    got = requests.get(f"{front.url}/v2/", timeout=10)
    assert (got.status_code, got.headers["Content-Type"]) == (200, "text/html")


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


def test_a_connection_can_be_refused_and_come_back_at_the_same_address(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", refuse(), times=1)
    with requests.Session() as session:
        session.get(f"{front.url}/v2/", timeout=10)
        with pytest.raises(requests.ConnectionError, match=r"RemoteDisconnected|Connection reset|Connection refused"):
            session.get(blob_url, timeout=10)
        with pytest.raises(requests.ConnectionError, match="refused"):
            session.get(blob_url, timeout=10)
        front.start()
        assert session.get(blob_url, timeout=10).content == DATA


def test_a_connection_can_be_refused_for_a_while(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", refuse(0.05), times=1)
    with pytest.raises(requests.ConnectionError):
        requests.get(blob_url, timeout=10)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert requests.get(blob_url, timeout=10).content == DATA
        except requests.ConnectionError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the front did not come back")


def test_a_kept_connection_can_be_closed_when_it_is_used_again(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", close_reused())
    assert requests.get(blob_url, timeout=10).content == DATA
    connection = http.client.HTTPConnection(front.host)
    connection.request("GET", "/v2/")
    connection.getresponse().read()
    connection.request("GET", blob_url.removeprefix(front.url))
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    assert [one.reused for one in front.seen("GET")] == [False, False, True]


def test_a_connection_can_be_closed_after_an_answer_without_a_word(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", close_afterwards())
    connection = http.client.HTTPConnection(front.host, timeout=5)
    connection.request("GET", blob_url.removeprefix(front.url))
    response = connection.getresponse()
    assert response.read() == DATA
    assert response.headers.get("Connection") is None
    assert connection.sock.recv(1) == b""


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


@pytest.mark.parametrize("how", [{}, {"stall": True}, {"reset": True}], ids=["closed", "stalled", "reset"])
def test_an_answer_can_be_cut_at_a_byte(front: Front, blob_url: str, how: dict[str, bool]) -> None:
    front.on("GET", "/blobs/", cut_answer(at=100_000, **how))
    response = requests.get(blob_url, stream=True, timeout=0.3)
    received: list[bytes] = []
    with pytest.raises(requests.RequestException):
        received.extend(response.iter_content(1000))
    got = b"".join(received)
    # What was on its way may be lost with a reset.
    assert DATA.startswith(got) if "reset" in how else got == DATA[:100_000]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_can_end_early_as_if_that_were_all(front: Front, blob_url: str, chunked: bool) -> None:
    front.on("GET", "/blobs/", truncate(at=100_000, chunked=chunked))
    got = requests.get(blob_url, timeout=10)
    assert got.content == DATA[:100_000]
    assert ("Transfer-Encoding" in got.headers, "Content-Length" in got.headers) == (chunked, not chunked)


def test_an_answer_in_chunks_can_end_without_the_last_one(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", truncate(at=100_000, chunked=True, end=False))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(blob_url, timeout=10)


def test_an_answer_in_chunks_can_be_whole(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", truncate(at=len(DATA), chunked=True))
    assert requests.get(blob_url, timeout=10).content == DATA


def test_a_byte_can_be_changed(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", corrupt(at=150_000))
    got = requests.get(blob_url, timeout=10).content
    assert [place for place in range(len(DATA)) if got[place] != DATA[place]] == [150_000]


def test_a_byte_of_an_upload_can_be_changed(
    front: Front, source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    front.on("PUT", "/blobs/uploads/", corrupt_upload(at=150_000))
    done = requests.put(begin_upload(front, repository_prefix, DATA), data=DATA, timeout=10)
    assert done.json()["errors"][0]["code"] == "DIGEST_INVALID"
    assert not has(source_registry, repository_prefix, DATA)


def test_bodies_can_be_slow_in_both_directions(front: Front, repository_prefix: str, blob_url: str) -> None:
    front.on(None, "/blobs/", throttle(rate=len(DATA) * 5))
    upload = begin_upload(front, repository_prefix, DATA)
    for send in (lambda: requests.put(upload, data=DATA, timeout=10), lambda: requests.get(blob_url, timeout=10)):
        begun = time.monotonic()
        assert send().status_code in (200, 201)
        assert time.monotonic() - begun >= 0.2


def test_an_answer_can_drip_from_a_byte_on(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", drip(rate=100, at=len(DATA) - 20))
    begun = time.monotonic()
    assert requests.get(blob_url, timeout=10).content == DATA
    assert time.monotonic() - begun >= 0.2


def test_the_head_of_an_answer_can_drip_and_never_end(front: Front) -> None:
    front.on("GET", "/v2/$", drip_head(rate=1000))
    connection = http.client.HTTPConnection(front.host, timeout=5)
    connection.request("GET", "/v2/")
    received = b""
    while len(received) < 100:
        received += connection.sock.recv(1000)
    connection.close()
    assert received.startswith(b"HTTP/1.1 200 OK\r\nX-Slow: ....")


def test_an_answer_can_come_late_or_never(front: Front, blob_url: str) -> None:
    front.on("GET", "/blobs/", wait(0.2), times=1)
    front.on("GET", "/blobs/", wait())
    begun = time.monotonic()
    assert requests.get(blob_url, timeout=10).content == DATA
    assert time.monotonic() - begun >= 0.2
    with pytest.raises(requests.ReadTimeout):
        requests.get(blob_url, timeout=0.2)


@pytest.mark.parametrize(
    ("to", "status"),
    [("{front}*", 307), ("{port}*", 302), ("http://localhost:{number}*", 303)],
    ids=["same host", "other port", "other host"],
)
def test_a_request_can_be_redirected(
    front: Front, source_registry: DistributionRegistry, blob_url: str, to: str, status: int
) -> None:
    number = source_registry.host.rpartition(":")[2]
    address = to.format(front=front.url, port=source_registry.url, number=number)
    front.on("GET", "/blobs/", redirect(address, status), times=1)
    got = requests.get(blob_url, timeout=10)
    assert [one.status_code for one in got.history] == [status]
    assert got.content == DATA
    assert got.url == address[:-1] + blob_url.removeprefix(front.url)


def test_a_good_token_can_be_refused_with_the_registrys_own_challenge(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
) -> None:
    scope = f"repository:{repository_prefix}:pull,push"
    headers = {"Authorization": f"Bearer {token_server.token(USER, scope)}"}
    with Front(token_registry.host) as front:
        front.on("POST", "/uploads/", refuse_token("insufficient_scope"), times=1)
        url = f"{front.url}/v2/{repository_prefix}/blobs/uploads/"
        refused = requests.post(url, headers=headers, timeout=10)
        assert refused.status_code == 401
        assert f'realm="{token_server.realm}"' in refused.headers["WWW-Authenticate"]
        # Distribution names the actions in any order.
        assert f'scope="{scope.partition(":pull")[0]}:' in refused.headers["WWW-Authenticate"]
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
        assert requests.post(url, headers=headers, timeout=10).status_code == 202


def test_a_password_can_end_as_at_ecr(front: Front) -> None:
    front.on("GET", "/v2/$", end_ecr_login())
    got = requests.get(f"{front.url}/v2/", timeout=10)
    assert (got.status_code, "has expired" in got.text, "WWW-Authenticate" in got.headers) == (403, True, False)


def test_too_many_requests_are_told_when_to_come_again(front: Front) -> None:
    front.on("GET", "/v2/$", too_many(7), times=1)
    front.on("GET", "/v2/$", too_many(7, as_date=True), times=1)
    front.on("GET", "/v2/$", too_many())
    stated = [requests.get(f"{front.url}/v2/", timeout=10).headers.get("Retry-After") for _ in range(3)]
    assert stated[0] == "7"
    assert stated[1] is not None
    assert -2 <= parsedate_to_datetime(stated[1]).timestamp() - time.time() <= 7
    assert stated[2] is None


def test_the_rate_of_requests_can_be_limited(front: Front) -> None:
    front.on("GET", "/v2/$", limit_rate(3, retry_after=2))
    answers = [requests.get(f"{front.url}/v2/", timeout=10) for _ in range(8)]
    refused = [one for one in answers if one.status_code == 429]
    assert [one.status_code for one in answers[:3]] == [200] * 3
    assert refused
    assert {one.headers["Retry-After"] for one in refused} == {"2"}


def test_a_pull_quota_counts_manifests_fetched_and_not_those_asked_about(front: Front, blob_url: str) -> None:
    front.on(None, "/manifests/", pull_quota(2))
    url = f"{blob_url.partition('/blobs/')[0]}/manifests/v1"
    headers = {"Accept": images.OCI_MANIFEST}
    answers = [
        requests.request(method, url, headers=headers, timeout=10) for method in ("HEAD", "GET", "GET", "GET", "HEAD")
    ]
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 200]
    assert [one.headers["ratelimit-remaining"].partition(";")[0] for one in answers] == ["2", "1", "0", "0", "0"]
    assert answers[3].json()["errors"][0]["code"] == "TOOMANYREQUESTS"


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
