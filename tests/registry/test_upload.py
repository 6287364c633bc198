from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    ContentError,
    Denied,
    DigestMismatch,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RegistryError,
    SyncCancelled,
    TransportError,
)
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.limiter import LARGE, Limiter
from airflow_imagesync.registry.transport import CHUNK
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.clients import SHORT, client_for
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
from tests.support.front import Action, Exchange, Front, Request, pass_through

BLOB = images.layer(900_000, "upload")
UPLOADS = "/blobs/uploads/"


def code(name: str) -> bytes:
    return f'{{"errors": [{{"code": "{name}", "message": "words"}}]}}'.encode()


@dataclass
class Route:
    """From a repository to a new one, both behind fronts."""

    source: Front
    destination: Front
    path: str
    content: bytes = BLOB.data
    retries: int = 3
    timeouts: Timeouts = SHORT

    def client(self) -> RegistryClient:
        return client_for(self.destination, retries=self.retries, timeouts=self.timeouts)

    def descriptor(self) -> Descriptor:
        return Descriptor("x/y", f"sha256:{hashlib.sha256(self.content).hexdigest()}", len(self.content))

    def put(self, client: RegistryClient | None = None, mount_from: str | None = None) -> bool:
        """Bring the blob there; return whether it was mounted."""
        source = client_for(self.source, retries=self.retries, timeouts=self.timeouts)
        client = client or self.client()
        return client.put_blob(self.path, self.descriptor(), BlobSource(source, "uploads"), mount_from).mounted

    def arrived(self) -> bool:
        """Whether the registry behind the front has the blob."""
        assert self.destination.upstream is not None
        upstream = type("Upstream", (), {"host": self.destination.upstream, "url": "http://"})
        return client_for(upstream).has_blob(self.path, self.descriptor().digest)

    def done(self, method: str) -> int:
        """Return how many requests of a method the destination saw."""
        return len(self.destination.seen(method))


@pytest.fixture(scope="module")
def fronts(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry
) -> Iterator[tuple[Front, Front]]:
    images.push(source_registry.url, "uploads", images.image([BLOB]), ["v1"])
    with Front(source_registry.host) as source, Front(destination_registry.host) as destination:
        yield source, destination


@pytest.fixture
def route(fronts: tuple[Front, Front], repository_prefix: str) -> Route:
    for front in fronts:
        front.forget()
    return Route(*fronts, path=repository_prefix)


@pytest.fixture
def storage(certificate_authority: trustme.CA, tmp_path: Path) -> Iterator[Front]:
    """A host besides the registry, over HTTPS, that does what the test's rules say."""
    issued = certificate_authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "storage.pem", tmp_path / "storage.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    with Front(tls=(certificate, key)) as front:
        yield front


def without_login(request: Request) -> bool:
    return "Authorization" not in request.headers


def test_a_blob_is_sent_by_post_and_one_put_of_known_length(route: Route) -> None:
    assert route.put() is False
    assert route.arrived()
    post, put = route.destination.requests
    assert (post.method, put.method) == ("POST", "PUT")
    assert post.headers["Content-Length"] == "0"
    assert put.headers["Content-Length"] == str(len(route.content))
    assert put.headers["Content-Type"] == "application/octet-stream"
    assert {"Content-Range", "Transfer-Encoding"}.isdisjoint(put.headers)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_a_blob_of_any_size_arrives(route: Route, source_registry: DistributionRegistry, size: int) -> None:
    route.content = bytes(size)
    images.push(source_registry.url, "uploads", images.image([images.Blob(route.content)]), [f"size-{size}"])
    route.put()
    assert route.arrived()


def test_a_blob_known_by_its_sha512_arrives(route: Route) -> None:
    digest = f"sha512:{hashlib.sha512(route.content).hexdigest()}"
    client = route.client()

    def serve(exchange: Exchange) -> None:
        exchange.reply(200, body=route.content)

    route.source.on("GET", "sha512", serve)
    descriptor = Descriptor("x/y", digest, len(route.content))
    client.put_blob(route.path, descriptor, BlobSource(client_for(route.source), "uploads"))
    assert client.has_blob(route.path, digest)


def test_the_sources_answer_is_seen_before_the_upload_is_sent(route: Route) -> None:
    order: list[str] = []

    def noting(name: str, seconds: float = 0.0) -> Action:
        def act(exchange: Exchange) -> None:
            time.sleep(seconds)
            order.append(name)
            pass_through(exchange)

        return act

    route.source.on("GET", "", noting("get", seconds=0.3))
    route.destination.on("PUT", "", noting("put"))
    route.put()
    assert order == ["get", "put"]


@pytest.mark.parametrize("status", [404, 403])
def test_nothing_is_sent_for_a_blob_that_the_source_does_not_give(route: Route, status: int) -> None:
    route.source.on("GET", "/blobs/", answer(status))
    with pytest.raises((NotFound, Denied), match=f"{route.source.host}.* answered {status}"):
        route.put()
    assert [one.method for one in route.destination.requests] == ["POST", "DELETE"]


# Mounting


@pytest.fixture
def home(route: Route, destination_registry: DistributionRegistry) -> str:
    """A repository of the destination that has the blob."""
    path = f"{route.path}-home"
    images.push(destination_registry.url, path, images.image([BLOB]), ["v1"])
    return path


def test_a_blob_that_another_repository_has_is_mounted_in_one_request(route: Route, home: str) -> None:
    assert route.put(mount_from=home) is True
    assert route.arrived()
    (post,) = route.destination.requests
    assert post.target.endswith(f"?mount={BLOB.digest}&from={home}")
    assert route.source.requests == []


def test_a_session_opened_instead_of_a_mount_is_used(route: Route) -> None:
    assert route.put(mount_from="no/such/repository") is False
    assert route.arrived()
    assert [one.method for one in route.destination.requests] == ["POST", "PUT"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_mount_that_is_refused_is_not_asked_for_again(route: Route, home: str, status: int) -> None:
    route.destination.on("POST", "mount=", answer(status, body=code("DENIED")))
    client = route.client()
    for _ in range(2):
        assert route.put(client, mount_from=home) is False
    assert route.arrived()
    posts = route.destination.seen("POST")
    assert ["mount=" in one.target for one in posts] == [True, False, False]


def test_a_mount_that_fails_for_a_while_is_asked_for_again(route: Route, home: str) -> None:
    route.destination.on("POST", "mount=", answer(503), times=2)
    assert route.put(mount_from=home) is True


def test_a_mount_asks_for_both_repositories_the_new_one_first(
    token_registry: DistributionRegistry, token_server: TokenServer, route: Route
) -> None:
    token = images.BearerAuth(token_server.token(USER, "repository:token/home:pull,push"))
    images.push(token_registry.url, "token/home", images.image([BLOB]), ["v1"], auth=token)
    client = client_for(token_registry, username=USER, password=PASSWORD)
    before = len(token_server.requests)
    assert route.put(client, mount_from="token/home") is True
    assert [one.scopes for one in token_server.requests[before:]] == [
        (f"repository:{route.path}:pull,push", "repository:token/home:pull")
    ]


# Content that is wrong


def test_a_wrong_blob_is_never_committed(route: Route) -> None:
    route.source.on("GET", "/blobs/", corrupt(700_000))
    with pytest.raises(DigestMismatch, match="the source is damaged"):
        route.put()
    # Not even by a registry that would not look: the last bytes were never sent.
    assert all(one.received < len(route.content) and one.status is None for one in route.destination.seen("PUT"))
    assert not route.arrived()
    # Once may be the wire; twice is the source.
    assert len(route.source.requests) == 2


def test_a_small_wrong_blob_is_not_sent_at_all(route: Route, source_registry: DistributionRegistry) -> None:
    route.content = b"small"
    images.push(source_registry.url, "uploads", images.image([images.Blob(b"small")]), ["small"])
    route.source.on("GET", "/blobs/", corrupt(0))
    with pytest.raises(DigestMismatch):
        route.put()
    assert [one.received for one in route.destination.seen("PUT")] == [0, 0]


def test_a_byte_that_flips_once_does_no_harm(route: Route) -> None:
    route.source.on("GET", "/blobs/", corrupt(100), times=1)
    route.put()
    assert route.arrived()


def test_a_registry_that_calls_the_content_wrong_gets_it_once_more(route: Route) -> None:
    route.destination.on("PUT", "", answer(400, body=code("DIGEST_INVALID")), times=1)
    route.put()
    assert route.arrived()
    route.destination.forget()
    route.destination.on("PUT", "", answer(400, body=code("DIGEST_INVALID")))
    route.path += "-again"
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        route.put()
    assert route.done("PUT") == 2


def test_another_digest_in_the_answer_is_an_error(route: Route) -> None:
    route.destination.on("PUT", "", change_headers(Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(ContentError, match=f"stored sha256:000.* where {BLOB.digest} was sent"):
        route.put()


# The destination fails


def answered_after_the_work(status: int, body: bytes) -> Action:
    def act(exchange: Exchange) -> None:
        exchange.forward().read()
        exchange.reply(status, body=body)

    return act


@pytest.mark.parametrize(
    "action",
    [
        lose_answer(),
        lose_answer(502),
        answered_after_the_work(404, code("BLOB_UPLOAD_UNKNOWN")),
        answered_after_the_work(400, code("BLOB_UPLOAD_INVALID")),
    ],
    ids=["lost", "502", "upload-unknown", "upload-invalid"],
)
def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_repeated(route: Route, action: Action) -> None:
    route.destination.on("PUT", "", action)
    assert route.put() is False
    assert [one.method for one in route.destination.requests] == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "action",
    [
        close_at_once(),
        close_at_once(reset=True),
        cut_upload(at=100),
        cut_upload(at=600_000),
        cut_upload(at=600_000, reset=True),
        answer(500),
        answer(503, early=True),
        answer(429, {"Retry-After": "0"}),
        answer(404, body=code("BLOB_UPLOAD_UNKNOWN")),
        answer(400, body=code("BLOB_UPLOAD_INVALID")),
        answer(416, body=code("BLOB_UPLOAD_INVALID")),
        redirect("/elsewhere", 302),
        answer(404, body=code("BLOB_UNKNOWN")),
        stall_upload(at=600_000),
        wait(),
    ],
    ids=[
        "closed",
        "reset",
        "cut-at-100",
        "cut",
        "cut-by-reset",
        "500",
        "503-early",
        "429",
        "upload-unknown",
        "upload-invalid",
        "416",
        "redirected",
        "blob-unknown",
        "stalled",
        "no-answer",
    ],
)
def test_an_upload_that_breaks_is_done_again_from_the_start(route: Route, action: Action) -> None:
    # A pause in the middle, so that what the front does not take does not fit into the network's buffers.
    route.timeouts = Timeouts(connect=2, read=1, write=0.3, commit=0.5)
    route.destination.on("PUT", "", action, times=1)
    route.put()
    assert route.arrived()
    assert (route.done("POST"), route.done("PUT")) == (2, 2)
    assert len(route.source.requests) == 2


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("action", [answer(503), cut_upload(at=300_000), close_at_once()], ids=["503", "cut", "closed"])
def test_an_upload_is_done_again_as_often_as_allowed_and_no_more(route: Route, action: Action, retries: int) -> None:
    route.retries = retries
    route.destination.on("PUT", "", action)
    with pytest.raises((RegistryError, TransportError), match=route.destination.host) as caught:
        route.put()
    assert caught.value.temporary
    assert route.done("PUT") == retries + 1
    assert len(route.source.requests) == retries + 1
    assert not route.arrived()


def test_a_session_that_can_not_be_opened_is_tried_as_often_as_allowed(route: Route) -> None:
    route.destination.on("POST", "", answer(503))
    with pytest.raises(RegistryError, match="answered 503"):
        route.put()
    assert (route.done("POST"), len(route.source.requests)) == (4, 0)


@pytest.mark.parametrize(
    ("status", "body", "words", "times"),
    [
        (403, code("DENIED"), "answered 403 DENIED: words; check that somebody without a login may push", 1),
        # Perhaps only of a body: it is tried without.
        (404, code("NAME_UNKNOWN"), "answered 404 NAME_UNKNOWN: words; check that the repository exists there", 2),
        (405, code("UNSUPPORTED"), "answered 405 UNSUPPORTED: words", 2),
        (413, b"", "answered 413; check the size limits", 1),
    ],
)
def test_a_refusal_is_final_and_says_what_to_check(
    route: Route, status: int, body: bytes, words: str, times: int
) -> None:
    route.destination.on("PUT", "", answer(status, body=body))
    with pytest.raises(RegistryError, match=words):
        route.put()
    assert route.done("PUT") == times
    # The session is given up, so that the registry need not keep it.
    assert route.done("DELETE") == times


def test_giving_up_a_session_asks_for_more_rights_only_for_that(
    route: Route, token_registry: DistributionRegistry, token_server: TokenServer
) -> None:
    before = len(token_server.requests)
    with Front(token_registry.host) as front:
        front.on("PUT", "", answer(403), times=1)
        client = client_for(front, username=USER, password=PASSWORD)
        with pytest.raises(Denied):
            route.put(client)
        assert route.put(client) is False
        assert client.has_blob(route.path, BLOB.digest)
    rights = [one.scopes[0].rpartition(":")[2] for one in token_server.requests[before:]]
    assert rights == ["pull,push", "delete,pull,push"]


def test_the_address_of_a_session_stays_out_of_messages(route: Route) -> None:
    route.destination.on("PUT", "", answer(403))
    with pytest.raises(Denied) as caught:
        route.put()
    assert "_state" not in str(caught.value)


def test_a_token_that_ends_before_the_upload_is_replaced(route: Route) -> None:
    with Front(route.destination.upstream) as front:
        front.on("POST", "", answer(401, {"WWW-Authenticate": 'Bearer realm="/token"'}), times=1)
        front.on("PUT", "", answer(401, {"WWW-Authenticate": 'Bearer realm="/token",error="invalid_token"'}), times=1)
        numbers = iter(range(9))
        front.on(
            "GET", "/token", lambda exchange: exchange.reply(200, body=f'{{"token": "t{next(numbers)}"}}'.encode())
        )
        route.put(client_for(front))
        assert route.arrived()
        assert [one.headers["Authorization"] for one in front.seen("PUT")] == ["Bearer t0", "Bearer t1"]


# A registry that takes no body in a PUT


def with_body(request: Request) -> bool:
    return request.headers.get("Content-Length") != "0"


@pytest.mark.parametrize(
    "refusal",
    [answer(405), answer(501), answer(404), answer(404, body=code("UNSUPPORTED")), answer(405, early=True)],
    ids=["405", "501", "404", "404-with-code", "early"],
)
def test_a_registry_that_takes_no_body_in_a_put_gets_blobs_by_patch(route: Route, refusal: Action) -> None:
    route.destination.on("PUT", "", refusal, when=with_body)
    client = route.client()
    assert route.put(client) is False
    assert route.arrived()
    assert [one.method for one in route.destination.requests] == ["POST", "PUT", "DELETE", "POST", "PATCH", "PUT"]
    patch, put = route.destination.requests[-2:]
    assert patch.headers["Content-Length"] == str(len(route.content))
    assert {"Content-Range", "Transfer-Encoding"}.isdisjoint(patch.headers)
    assert "digest=" not in patch.target
    assert put.headers["Content-Length"] == "0"
    # The address that the answer to PATCH names is another one.
    assert put.target.partition("&digest=")[0] not in (patch.target, put.target)
    # The next blob knows.
    route.destination.forget()
    route.path += "-next"
    route.destination.on("PUT", "", refusal, when=with_body)
    route.put(client)
    assert [one.method for one in route.destination.requests] == ["POST", "PATCH", "PUT"]
    assert route.arrived()


def test_an_empty_blob_needs_no_patch(route: Route, source_registry: DistributionRegistry) -> None:
    route.destination.on("PUT", "", answer(405), when=with_body)
    client = route.client()
    route.put(client)
    route.destination.forget()
    route.content = b""
    images.push(source_registry.url, "uploads", images.image([images.Blob(b"")]), ["empty"])
    route.put(client)
    assert [one.method for one in route.destination.requests] == ["POST", "PUT"]


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("PATCH", answer(503)),
        ("PATCH", cut_upload(at=300_000)),
        ("PATCH", answer(404, body=code("BLOB_UPLOAD_UNKNOWN"))),
        ("PUT", answer(503)),
        ("PUT", close_at_once()),
        ("PUT", answer(404, body=code("BLOB_UPLOAD_UNKNOWN"))),
    ],
    ids=["patch-503", "patch-cut", "patch-unknown", "put-503", "put-closed", "put-unknown"],
)
def test_an_upload_by_patch_that_breaks_is_done_again_as_often_as_allowed(
    route: Route, method: str, action: Action
) -> None:
    route.destination.on("PUT", "", answer(405), when=with_body)
    route.destination.on(method, "", action, when=None if method == "PATCH" else lambda one: not with_body(one))
    with pytest.raises((RegistryError, TransportError), match=route.destination.host) as caught:
        route.put()
    assert caught.value.temporary
    assert not route.arrived()
    # Once with a body in PUT, then by PATCH; a request without a body is repeated at once when its connection closes.
    assert route.done("POST") == 1 + 4
    assert route.done("PATCH") == 4


def test_a_wrong_blob_is_not_committed_by_patch_either(route: Route) -> None:
    route.destination.on("PUT", "", answer(405), when=with_body)
    client = route.client()
    client._uploads._by_patch = True
    route.source.on("GET", "/blobs/", corrupt(700_000))
    with pytest.raises(DigestMismatch):
        route.put(client)
    assert route.done("PUT") == 0
    assert not route.arrived()


@pytest.mark.parametrize("location", [None, "https://storage.example/u?sig=secret"], ids=["none", "elsewhere"])
def test_the_address_that_a_patch_names_is_checked_as_well(route: Route, location: str | None) -> None:
    route.destination.on("PUT", "", answer(405), when=with_body)
    route.destination.on("PATCH", "", change_headers(Location=location))
    with pytest.raises(ProtocolError, match=r"PATCH .* (answered 202 without a Location|on another host)") as caught:
        route.put()
    assert "secret" not in str(caught.value)


# Redirects of the data


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("by_patch", [False, True], ids=["put", "patch"])
def test_data_that_is_redirected_within_the_registry_is_sent_there_from_its_start(
    route: Route, status: int, by_patch: bool
) -> None:
    def elsewhere(exchange: Exchange) -> None:
        for _ in exchange.body(300_000):
            pass
        exchange.reply(status, [("Location", exchange.request.target + "&moved=1")])

    method = "PATCH" if by_patch else "PUT"
    route.destination.on(method, "", elsewhere, when=lambda one: "moved=1" not in one.target)
    client = route.client()
    client._uploads._by_patch = by_patch
    route.put(client)
    assert route.arrived()
    first, second = route.destination.seen(method, "")[:2]
    assert second.target == first.target + "&moved=1"
    assert route.done("POST") == 1
    assert len(route.source.requests) == 2


def test_data_that_is_redirected_again_and_again_is_given_up(route: Route) -> None:
    route.destination.on("PUT", "", lambda exchange: exchange.reply(307, [("Location", exchange.request.target)]))
    with pytest.raises(ProtocolError, match="was redirected more than 5 times"):
        route.put()
    assert (route.done("POST"), route.done("PUT")) == (1, 6)


def test_data_is_not_redirected_to_another_host(route: Route) -> None:
    route.destination.on("PUT", "", redirect("https://storage.example/u?sig=secret", 307))
    with pytest.raises(
        ProtocolError, match=r"PUT .* wants the data at https://storage.example/u, on another"
    ) as caught:
        route.put()
    assert "secret" not in str(caught.value)
    assert route.done("PUT") == 1


# The source fails


def test_a_source_that_breaks_off_is_resumed_within_one_upload(route: Route) -> None:
    route.source.on("GET", "", cut_answer(800_000), times=1)
    route.put()
    assert route.arrived()
    assert (route.done("POST"), route.done("PUT")) == (1, 1)


def test_a_source_that_stays_broken_is_not_begun_again_from_the_start(route: Route) -> None:
    route.source.on("GET", "", cut_answer(300_000), times=1)
    route.source.on("GET", "", close_at_once())
    with pytest.raises(TransportError, match=route.source.host):
        route.put()
    assert route.done("PUT") == 1
    # Once, then as often as allowed; each closed connection is tried twice at once.
    assert len(route.source.requests) == 1 + 2 * 3
    assert not route.arrived()


# Where the data goes


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/x/blobs/uploads/1?_state=a%2Bb==&x=%7E", "/v2/x/blobs/uploads/1?_state=a%2Bb==&x=%7E&digest="),
        ("/upload/1", "/upload/1?digest="),
        ("1", f"/v2/PATH{UPLOADS}1?digest="),
        ("http://127.0.0.1/upload/1", "/upload/1?digest="),
        ("ROOT/upload/1", "/upload/1?digest="),
    ],
    ids=["query", "path", "relative", "port-dropped", "absolute"],
)
def test_the_data_goes_where_the_session_is_with_nothing_encoded_anew(
    route: Route, scripted: Front, location: str, target: str
) -> None:
    scripted.on("POST", "", answer(202, {"Location": location.replace("ROOT", scripted.url)}))
    scripted.on("PUT", "", answer(201))
    route.put(client_for(scripted))
    (put,) = scripted.seen("PUT")
    assert put.target == target.replace("PATH", route.path) + BLOB.digest


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.2:1/upload", "wants the data at http://127.0.0.2:1/upload, on another host or port"),
        ("https://storage.example/u?sig=secret", "wants the data at https://storage.example/u, on another host"),
        (None, "answered 202 without a Location"),
        ("http://[::1", "no HTTP address"),
    ],
)
def test_data_is_never_sent_to_another_origin(route: Route, scripted: Front, location: str | None, words: str) -> None:
    scripted.on("POST", "", answer(202, {"Location": location} if location else {}))
    with pytest.raises(ProtocolError, match=words.replace("?", r"\?")) as caught:
        route.put(client_for(scripted, username="u", password="p"))
    assert "secret" not in str(caught.value)


def test_the_refusal_says_how_to_allow_another_host(route: Route, scripted: Front) -> None:
    scripted.on("POST", "", answer(202, {"Location": "https://storage.example/u"}))
    with pytest.raises(ProtocolError, match=r"check the external address .*, or set allow_cross_host_upload: true"):
        route.put(client_for(scripted))


@pytest.mark.parametrize("by_patch", [False, True], ids=["put", "patch"])
def test_another_host_that_is_allowed_gets_the_data_without_the_login(
    route: Route, scripted: Front, storage: Front, ca_file: Path, by_patch: bool
) -> None:
    scripted.on(None, "", answer(401, {"WWW-Authenticate": "Basic"}), when=without_login)
    scripted.on("POST", "", answer(202, {"Location": f"{storage.url}/bucket/1?sig=secret"}))
    storage.on("PATCH", "", answer(202, {"Location": "/bucket/2?sig=secret"}))
    storage.on("PUT", "", answer(201))
    client = client_for(scripted, username="u", password="p", allow_cross_host_upload=True, ca_file=str(ca_file))
    client._uploads._by_patch = by_patch
    route.put(client)
    assert [one.method for one in storage.requests] == (["PATCH", "PUT"] if by_patch else ["PUT"])
    assert storage.requests[-1].target.endswith(f"?sig=secret&digest={BLOB.digest}")
    assert storage.requests[0].received == len(route.content)
    for seen in storage.requests:
        assert {"authorization", "cookie"}.isdisjoint(name.lower() for name in seen.headers)
    assert scripted.seen("POST")[-1].headers["Authorization"].startswith("Basic ")


def test_another_host_that_refuses_is_named_without_its_signature(
    route: Route, scripted: Front, storage: Front, ca_file: Path
) -> None:
    scripted.on("POST", "", answer(202, {"Location": f"{storage.url}/bucket/1?sig=secret"}))
    storage.on("PUT", "", answer(403))
    client = client_for(scripted, allow_cross_host_upload=True, ca_file=str(ca_file), retries=1)
    with pytest.raises(RegistryError, match=f"PUT {storage.url}/bucket/1 answered 403") as caught:
        route.put(client)
    assert "secret" not in str(caught.value)
    assert storage.seen("DELETE") == []
    assert len(storage.seen("PUT")) == 2


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://storage.example/u", "is not followed: not HTTPS"),
        ("https://169.254.169.254/u", "is not followed: a link-local address"),
    ],
)
def test_another_host_must_be_fit_for_it_even_where_allowed(
    route: Route, scripted: Front, location: str, words: str
) -> None:
    scripted.on("POST", "", answer(202, {"Location": location}))
    with pytest.raises(ProtocolError, match=words):
        route.put(client_for(scripted, allow_cross_host_upload=True))


def test_an_opening_of_a_session_follows_a_redirect_within_the_registry(route: Route) -> None:
    def elsewhere(exchange: Exchange) -> None:
        exchange.reply(308, [("Location", f"/v2/{route.path}-moved{UPLOADS}")])

    route.destination.on("POST", f"/{route.path}/", elsewhere)
    route.put()
    assert [one.method for one in route.destination.requests] == ["POST", "POST", "PUT"]


@pytest.mark.parametrize(
    ("to", "status", "words"),
    [
        ("http://127.0.0.2:1/v2/", 307, "is not followed: another host"),
        ("/v2/x/", 301, "answered 301; a redirect that is not followed"),
    ],
)
def test_an_opening_of_a_session_follows_no_other_redirect(
    route: Route, scripted: Front, to: str, status: int, words: str
) -> None:
    scripted.on("POST", "", redirect(to, status))
    with pytest.raises(ProtocolError, match=words):
        route.put(client_for(scripted))


def test_a_mount_that_was_not_asked_for_is_an_error(route: Route, scripted: Front) -> None:
    scripted.on("POST", "", answer(201))
    with pytest.raises(ProtocolError, match="answered 201 where an upload was asked for"):
        route.put(client_for(scripted))


# Limits and stopping


@pytest.mark.timeout(30)
@pytest.mark.parametrize("slots", [1, 2])
def test_no_more_requests_are_in_flight_than_allowed(
    route: Route, destination_registry: DistributionRegistry, slots: int
) -> None:
    # One registry on both sides: a transfer needs two requests at once there, and can't do with one.
    images.push(destination_registry.url, "uploads", images.image([BLOB]), ["v1"])
    client = client_for(route.destination, limiter=Limiter(slots))
    errors: list[ImageSyncError] = []

    def work(number: int) -> None:
        try:
            client.put_blob(f"{route.path}-{number}", route.descriptor(), BlobSource(client, "uploads"))
        except ImageSyncError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert route.destination.most <= 2


@pytest.mark.parametrize("where", ["source", "destination"])
def test_an_upload_is_stopped_within_seconds_and_commits_nothing(route: Route, where: str) -> None:
    route.timeouts = Timeouts()
    if where == "source":
        route.source.on("GET", "", cut_answer(100_000, stall=True))
    else:
        route.destination.on("PUT", "", wait())
    source = client_for(route.source)
    client = route.client()

    def stop() -> None:
        client.retry.cancelled.set()
        client.abort()
        source.abort()

    threading.Timer(0.3, stop).start()
    begun = time.monotonic()
    with pytest.raises(SyncCancelled):
        client.put_blob(route.path, route.descriptor(), BlobSource(source, "uploads"))
    assert time.monotonic() - begun < 5
    assert [one.method for one in route.destination.requests] in (["POST", "PUT"], ["POST"])
    assert not route.arrived()


# A single try


def test_a_single_try_is_not_repeated(route: Route) -> None:
    route.destination.on("PUT", "", answer(503))
    with pytest.raises(RegistryError, match="503"):
        route.client().try_blob(route.path, route.descriptor(), BlobSource(client_for(route.source), "uploads"))
    assert route.done("PUT") == 1


def test_a_single_try_takes_no_slot_of_its_own_where_they_are_lent(route: Route) -> None:
    limiter = Limiter(1)
    client = client_for(route.destination, timeouts=SHORT, limiter=limiter)

    def work() -> None:
        with limiter.lent():
            client.try_blob(route.path, route.descriptor(), BlobSource(client_for(route.source), "uploads"))

    with limiter.slot():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert route.arrived()


def test_that_a_put_was_refused_is_forgotten_where_a_patch_is_refused_for_good(route: Route) -> None:
    client = route.client()
    client._uploads._by_patch = True
    route.destination.on("PATCH", "", answer(403))
    with pytest.raises(Denied):
        route.put(client)
    route.put(client)
    assert [one.method for one in route.destination.seen()] == ["POST", "PATCH", "DELETE", "POST", "PUT"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
def test_only_a_large_blob_leaves_the_last_slot_to_others(
    route: Route, source_registry: DistributionRegistry, size: int
) -> None:
    route.content = bytes(size)
    images.push(source_registry.url, "uploads", images.image([images.Blob(route.content)]), [f"slot-{size}"])
    limiter = Limiter(2)
    client = client_for(route.destination, timeouts=SHORT, limiter=limiter)
    with limiter.slot(large=True):
        thread = threading.Thread(target=route.put, args=(client,))
        thread.start()
        thread.join(0.3 if size >= LARGE else 10)
        assert thread.is_alive() == (size >= LARGE)
    thread.join(10)
    assert route.arrived()
