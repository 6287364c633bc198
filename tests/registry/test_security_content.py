"""Nothing that a registry sends is believed beyond its digest, or read without a limit."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_imagesync.domain.manifest import MAX_CHILDREN, OCI_INDEX, OCI_MANIFEST, Descriptor
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.engine.selection import select_platforms
from airflow_imagesync.errors import (
    ContentError,
    DigestMismatch,
    ImageSyncError,
    ProtocolError,
    RegistryError,
    Unauthorized,
)
from airflow_imagesync.registry.client import RegistryClient
from tests.support.clients import client_for
from tests.support.faults import answer
from tests.support.front import Action, Exchange, Front

MIB = 1024 * 1024
DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
BAD_DIGESTS = [
    "sha256:../../../other/manifests/v1",
    "sha256:" + "a" * 63 + "/",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 64 + "?x=y",
    "sha256:" + "a" * 64 + "\n",
    "sha256:" + "\uff11" * 64,
    "sha512:" + "a" * 64,
    "../v1",
    "",
]


@pytest.fixture
def front(scripted: Front) -> Front:
    return scripted


@pytest.fixture
def client(front: Front) -> RegistryClient:
    return client_for(front, retries=0)


def digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def serve(front: Front, document: Any, **headers: str) -> bytes:
    """Have the front answer every GET of a manifest with a document."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    front.on(
        "GET", "/manifests/", answer(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    )
    return body


def endless(piece: bytes = b" " * 65536, status: int = 200, head: bytes = b"") -> Action:
    """Answer with a body that does not end."""

    def act(exchange: Exchange) -> None:
        exchange.reply(status, [("Connection", "close")], itertools.chain([head], itertools.repeat(piece)))

    return act


# Digests and names


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=repr)
@pytest.mark.parametrize("place", ["config", "layers", "manifests"])
def test_what_is_no_digest_never_gets_into_an_address(
    front: Front, client: RegistryClient, digest: str, place: str
) -> None:
    bad = {**CONFIG, "digest": digest}
    document: dict[str, Any] = {**IMAGE, "config": bad}
    if place == "layers":
        document = {**IMAGE, "layers": [bad]}
    if place == "manifests":
        document = {"mediaType": OCI_INDEX, "manifests": [{**bad, "mediaType": OCI_MANIFEST}]}
    serve(front, document)
    with pytest.raises(ContentError, match="is not a digest"):
        client.get_manifest("a", "v1")
    assert len(front.requests) == 1


@pytest.mark.parametrize("digest", [one for one in BAD_DIGESTS if one.isascii() and "\n" not in one], ids=repr)
def test_a_digest_in_a_header_that_is_none_is_not_used(front: Front, client: RegistryClient, digest: str) -> None:
    front.on("HEAD", "", answer(200, {"Docker-Content-Digest": digest, "Content-Type": OCI_MANIFEST}))
    body = serve(front, IMAGE, Docker_Content_Digest=digest)
    head = client.head_manifest("a", "v1")
    assert head is not None
    assert head.digest == digest_of(body)


def test_tags_that_are_none_never_get_into_an_address(front: Front, client: RegistryClient) -> None:
    bad = [
        "../../b/manifests/v1",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a\r\nb",
        "a%2fb",
        "",
        ".",
        "-a",
        "\u0430",
        "v1\n",
        "x" * 129,
    ]
    front.on("GET", "/tags/", answer(200, body=json.dumps({"tags": ["v1", *bad]}).encode()))
    assert client.list_tags("a") == ["v1"]


def test_bytes_under_a_tag_that_are_not_those_of_the_header_are_refused(front: Front, client: RegistryClient) -> None:
    serve(front, IMAGE, Docker_Content_Digest=DIGEST)
    with pytest.raises(DigestMismatch):
        client.get_manifest("a", "v1")


def test_bytes_under_a_digest_are_hashed_whatever_the_header_says(front: Front, client: RegistryClient) -> None:
    body = serve(front, IMAGE, Docker_Content_Digest=DIGEST)
    with pytest.raises(DigestMismatch):
        client.get_manifest("a", DIGEST)
    front.forget()
    serve(front, {**IMAGE, "annotations": {}}, Docker_Content_Digest=digest_of(body))
    with pytest.raises(DigestMismatch):
        client.get_manifest("a", digest_of(body))


def test_bytes_under_a_digest_are_hashed_without_any_header(front: Front, client: RegistryClient) -> None:
    serve(front, IMAGE)
    with pytest.raises(DigestMismatch):
        client.get_manifest("a", DIGEST)


def test_a_head_can_not_answer_for_another_digest(front: Front, client: RegistryClient) -> None:
    front.on("HEAD", "", answer(200, {"Docker-Content-Digest": digest_of(b"other"), "Content-Type": OCI_MANIFEST}))
    front.on("GET", "/manifests/", answer(404))
    assert client.head_manifest("a", DIGEST) is None


# One document, two readings (CVE-2021-41190)


@pytest.mark.parametrize(
    ("document", "served_as"),
    [
        ({**IMAGE, "manifests": []}, None),
        ({**IMAGE, "manifests": []}, OCI_INDEX),
        ({"mediaType": OCI_INDEX, "manifests": [], "layers": []}, OCI_INDEX),
        ({"mediaType": OCI_INDEX, "manifests": [], "config": CONFIG}, None),
        (IMAGE, OCI_INDEX),
        ({"mediaType": OCI_INDEX, "manifests": []}, OCI_MANIFEST),
    ],
)
def test_a_document_that_can_be_read_two_ways_is_refused(
    front: Front, client: RegistryClient, document: Any, served_as: str | None
) -> None:
    serve(front, document, **({"Content_Type": served_as} if served_as else {}))
    with pytest.raises(ContentError, match=r"at once|was served as"):
        client.get_manifest("a", "v1")


@pytest.mark.parametrize("own", [[], {}, 7, True, [[]]], ids=repr)
def test_a_media_type_that_is_no_text_is_refused(front: Front, client: RegistryClient, own: Any) -> None:
    serve(front, {**IMAGE, "mediaType": own})
    with pytest.raises(ContentError, match="a mediaType that is not text"):
        client.get_manifest("a", "v1")


@pytest.mark.parametrize(
    "document",
    [
        {**IMAGE, "mediaType": "\ud800\x1b[31m" + "x" * 100_000},
        {**IMAGE, "layers": [{**CONFIG, "size": ["x" * 100_000]}]},
        {**IMAGE, "layers": [{**CONFIG, "size": "x" * 100_000}]},
        {**IMAGE, "layers": [{**CONFIG, "digest": "\ud800\x1b[31m" + "x" * 100_000}]},
    ],
    ids=["type", "list", "text", "digest"],
)
@pytest.mark.parametrize("served_as", ["application/json", OCI_MANIFEST])
def test_what_a_manifest_says_is_quoted_shortly_and_safely(
    front: Front, client: RegistryClient, document: Any, served_as: str
) -> None:
    serve(front, document, Content_Type=served_as)
    with pytest.raises(ContentError) as caught:
        client.get_manifest("a", "v1")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


# Bodies without an end


def token_asked(front: Front, action: Action) -> Callable[[RegistryClient], object]:
    front.on("GET", "/token", action)
    front.on(None, "/v2/", answer(401, {"WWW-Authenticate": f'Bearer realm="{front.url}/token"'}))
    return lambda client: client.get_manifest("a", "v1")


def manifest_asked(front: Front, action: Action) -> Callable[[RegistryClient], object]:
    front.on("GET", "/manifests/", action)
    return lambda client: client.get_manifest("a", "v1")


def list_asked(front: Front, action: Action) -> Callable[[RegistryClient], object]:
    front.on("GET", "/tags/", action)
    return lambda client: client.list_tags("a")


def config_asked(front: Front, action: Action) -> Callable[[RegistryClient], object]:
    front.on("GET", "/blobs/", action)
    return lambda client: client.read_config("a", Descriptor("application/json", DIGEST, 100))


def head_asked(front: Front, action: Action) -> Callable[[RegistryClient], object]:
    front.on("HEAD", "", answer(401))
    front.on("GET", "/manifests/", action)
    return lambda client: client.head_manifest("a", "v1")


Asked = Callable[[Front, Action], Callable[[RegistryClient], object]]


@pytest.mark.parametrize(
    ("asked", "limit", "words"),
    [
        (manifest_asked, 4 * MIB, "sent more than 4194304 bytes"),
        (head_asked, 4 * MIB, "sent more than 4194304 bytes"),
        (list_asked, 8 * MIB, "sent more than 8388608 bytes"),
        (token_asked, 128 * 1024, "sent more than 131072 bytes"),
        (config_asked, 100, "hashes to sha256:"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_body_without_an_end_is_read_to_its_limit(front: Front, asked: Asked, limit: int, words: str) -> None:
    ask = asked(front, endless())
    with pytest.raises((ProtocolError, ContentError), match=words):
        ask(client_for(front, retries=0))
    # What was sent and not read is in the sockets' buffers.
    assert max(one.sent for one in front.requests) < limit + 12 * MIB


@pytest.mark.parametrize("asked", [manifest_asked, list_asked, token_asked, config_asked])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_an_error_without_an_end_keeps_its_status(front: Front, asked: Asked, status: int) -> None:
    ask = asked(front, endless(status=status, head=b'{"errors": ['))
    with pytest.raises(RegistryError) as caught:
        ask(client_for(front, retries=0))
    assert caught.value.status in (status, 401)
    assert len(str(caught.value)) < 1000
    assert max(one.sent for one in front.requests) < 12 * MIB


# Documents made to cost

DEEP = b"[" * 100_000
DEEP_OBJECT = b'{"a":' * 50_000
LONG_NUMBER = b'{"size": ' + b"9" * 100_000 + b"}"


@pytest.mark.parametrize("asked", [manifest_asked, list_asked, token_asked, head_asked])
@pytest.mark.parametrize("body", [DEEP, DEEP_OBJECT, LONG_NUMBER, b"\xff\xfe", b'"\\ud800"', b"null", b"NaN"])
def test_a_document_made_to_cost_is_one_of_our_errors(front: Front, asked: Asked, body: bytes) -> None:
    ask = asked(front, answer(200, body=body))
    with pytest.raises((ProtocolError, ContentError, Unauthorized)):
        ask(client_for(front, retries=0))


@pytest.mark.parametrize("life", ["1" + "0" * 400, "-1", "1e999", "NaN", "true", '"60"', "null", "[]"])
def test_a_token_with_any_stated_life_is_used(front: Front, life: str) -> None:
    body = f'{{"token": "t", "expires_in": {life}}}'.encode()
    front.on("GET", "/token", answer(200, body=body))
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{front.url}/token"'})
    front.on("HEAD", "/v2/", challenge, when=lambda one: "Authorization" not in one.headers)
    front.on("HEAD", "/v2/", answer(200, {"Docker-Content-Digest": DIGEST}))
    client = client_for(front, retries=0)
    for _ in range(2):
        assert client.head_manifest("a", "v1") is not None
    assert len(front.seen("GET", "/token")) == 1


def test_scopes_that_a_registry_adds_do_not_grow_without_limit(front: Front) -> None:
    count = itertools.count()

    def more(exchange: Exchange) -> None:
        scopes = " ".join(f"repository:r{next(count)}:pull" for _ in range(100))
        exchange.reply(401, [("WWW-Authenticate", f'Bearer realm="{front.url}/token",scope="{scopes}"')])

    front.on("GET", "/token", answer(200, body=b'{"token": "t"}'))
    front.on("GET", "/v2/", more)
    client = client_for(front, retries=0)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            client.get_manifest("a", "v1")
    assert max(len(one.target) for one in front.requests) < 4000


@pytest.mark.parametrize(("key", "count"), [("layers", MAX_CHILDREN + 1), ("manifests", MAX_CHILDREN + 1)])
def test_more_parts_than_any_image_has_are_refused(front: Front, client: RegistryClient, key: str, count: int) -> None:
    parts = [{**CONFIG, "mediaType": OCI_MANIFEST}] * count
    serve(front, {**IMAGE, key: parts} if key == "layers" else {"mediaType": OCI_INDEX, key: parts})
    with pytest.raises(ContentError, match=f"has {count} {key}; at most 1000"):
        client.get_manifest("a", "v1")


def nested(front: Front, depth: int, width: int) -> str:
    """Serve indexes within indexes, each naming the next one so many times; return the outermost one's digest."""
    documents: dict[str, bytes] = {}
    inner = json.dumps(IMAGE).encode()
    documents[digest_of(inner)] = inner
    kind, platform = OCI_MANIFEST, {"platform": {"os": "linux", "architecture": "amd64"}}
    for _ in range(depth):
        entry = {"mediaType": kind, "digest": digest_of(inner), "size": len(inner), **platform}
        inner = json.dumps({"mediaType": OCI_INDEX, "manifests": [entry] * width}).encode()
        documents[digest_of(inner)] = inner
        kind, platform = OCI_INDEX, {}

    def give(exchange: Exchange) -> None:
        exchange.reply(200, [], documents[exchange.request.path.rpartition("/")[2]])

    front.on("GET", "/manifests/", give)
    return digest_of(inner)


LINUX = [Platform("linux", "amd64")]


@pytest.mark.timeout(30)
def test_indexes_that_repeat_each_other_are_looked_at_once(front: Front, client: RegistryClient) -> None:
    root = client.get_manifest("a", nested(front, depth=8, width=500))
    assert select_platforms(client, "a", root, LINUX).root is root
    assert len(front.requests) == 8


def test_indexes_nested_too_deeply_are_refused(front: Front, client: RegistryClient) -> None:
    root = client.get_manifest("a", nested(front, depth=9, width=1))
    with pytest.raises(ContentError, match="is nested deeper than 8 indexes"):
        select_platforms(client, "a", root, LINUX)


# Compression is never undone


@pytest.mark.parametrize("asked", [manifest_asked, list_asked, token_asked, config_asked, head_asked])
def test_a_compressed_answer_is_an_error_that_says_so(front: Front, asked: Asked) -> None:
    bomb = gzip.compress(b" " * (64 * MIB))
    ask = asked(front, answer(200, {"Content-Encoding": "gzip"}, bomb))
    with pytest.raises(ImageSyncError, match=r"gzip|has 65\d\d\d bytes"):
        ask(client_for(front, retries=0))


def test_a_compressed_error_keeps_its_status(front: Front, client: RegistryClient) -> None:
    front.on("GET", "", answer(403, {"Content-Encoding": "gzip"}, gzip.compress(b'{"errors": []}')))
    with pytest.raises(RegistryError, match="answered 403"):
        client.get_manifest("a", "v1")


def test_no_request_asks_for_compression(front: Front, client: RegistryClient) -> None:
    front.on("GET", "/token", answer(200, body=b'{"token": "t"}'))
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{front.url}/token"'})
    front.on(None, "/v2/", challenge, when=lambda one: "Authorization" not in one.headers)
    for ask in (client.ping, lambda: client.list_tags("a"), lambda: client.has_blob("a", DIGEST)):
        with contextlib.suppress(ImageSyncError):
            ask()
    assert {one.headers["Accept-Encoding"] for one in front.requests} == {"identity"}
