"""A client before a registry that answers anything: our errors come out, and credentials go nowhere else."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.manifest import Descriptor, Manifest, parse_manifest
from airflow_imagesync.domain.reference import is_tag
from airflow_imagesync.errors import ImageSyncError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.unanswered import transport_error
from devtools import images
from tests.fuzz.strategies import DIGEST, fuzz, header, json_bodies, objects, response, values


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """What is logged of every answer would take most of the time."""
    logger = logging.getLogger("airflow_imagesync")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


REGISTRY = "registry.example.com"
PASSWORD = "hunter22"
PAIR = base64.b64encode(f"mover:{PASSWORD}".encode()).decode()
BUILT = images.image()
MANIFEST = parse_manifest(BUILT.body)
BLOB = BUILT.blobs[1]
LAYER = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)

addresses = header(
    *("/v2/a/blobs/x", f"https://{REGISTRY}/", "https://evil.example/", "http://", "\\@", "?sig=s3cr3t", "//", "\t"),
    *(f"\\@{REGISTRY}/", "https://evil.example", "https://auth.example.com/t", "#", "..", "127.0.0.1"),
    longest=4,
)
challenges = st.one_of(
    st.sampled_from(["Basic", 'Bearer realm="https://registry.example.com/token",service="s"', "Negotiate"]),
    st.builds(lambda realm: f'Bearer realm="{realm}",scope="repository:b:pull"', addresses),
)
headers = st.lists(
    st.one_of(
        st.tuples(st.just("WWW-Authenticate"), challenges),
        st.tuples(st.just("Location"), addresses),
        st.tuples(st.just("Link"), addresses.map(lambda one: f'<{one}>; rel="next"')),
        st.tuples(st.just("Docker-Content-Digest"), st.sampled_from([DIGEST, BUILT.digest, BLOB.digest, "x", "../.."])),
        st.tuples(st.just("Content-Type"), st.sampled_from([BUILT.media_type, "text/html", "application/json"])),
        st.tuples(st.just("Content-Length"), st.sampled_from(["0", "5", "9" * 400, "-1", "x"])),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "identity", ""])),
        st.tuples(st.just("Content-Range"), header("bytes ", "0-", "1", "/", "9" * 400)),
        st.tuples(st.just("Retry-After"), st.sampled_from(["0", "3600", "x", "Wed, 21 Oct 2015 07:28:00 GMT"])),
        st.tuples(st.just("ratelimit-remaining"), st.sampled_from(["0;w=0", "5;w=21600", "x"])),
        st.tuples(st.just("OCI-Tag"), header("v1")),
    ),
    max_size=5,
)
bodies = st.one_of(
    st.just(BUILT.body),
    st.just(BLOB.data),
    st.just(b'{"token": "t0ken", "expires_in": 300}'),
    st.just(b'{"name": "a", "tags": ["v1", "../x"]}'),
    json_bodies(
        objects(
            {
                "token": values,
                "tags": values,
                "errors": st.lists(
                    objects({"code": st.sampled_from(["DENIED", "BLOB_UPLOAD_INVALID"]), "message": values})
                ),
            }
        )
    ),
)
statuses = st.sampled_from(
    [
        200,
        200,
        200,
        201,
        202,
        204,
        206,
        301,
        302,
        303,
        307,
        308,
        400,
        401,
        401,
        401,
        403,
        404,
        405,
        409,
        416,
        429,
        500,
        503,
    ]
)
answers = st.lists(st.tuples(statuses, headers, bodies), min_size=1, max_size=8)


class Hostile:
    """Takes a transport's place; gives one answer after the other, and from the start again."""

    def __init__(self, answers: list[tuple[int, list[tuple[str, str]], bytes]]) -> None:
        self.answers = answers
        self.count = 0
        self.sent: list[tuple[str, str, dict[str, str], bytes]] = []

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Any = None, **more: Any) -> Any:
        data = b"" if body is None else body if isinstance(body, bytes) else b"".join(body)
        self.sent.append((method, url, dict(headers), data))
        status, answered, content = self.answers[self.count % len(self.answers)]
        self.count += 1
        assert self.count < 500, "asked without an end"
        try:
            return response(status, answered, content, method=method, url=url, sent=headers, sent_body=data)
        except urllib3.exceptions.HTTPError as error:  # as a transport does: two lengths are none
            raise transport_error(method, url, error) from error

    def credentials_stayed(self) -> None:
        """Check that whoever got credentials may have them, by the reading of what makes the connections."""
        for method, url, sent, data in self.sent:
            host = urllib3.util.parse_url(url).host
            secret = "Authorization" in sent or PASSWORD.encode() in data
            assert not secret or host == REGISTRY or (host or "").endswith(".example.com"), (url, sent)
            assert method in ("GET", "HEAD") or host == REGISTRY, (method, url)
            assert ".." not in url.partition("?")[0].split("/")[3:4]


def client_of(hostile: Hostile, *, anonymous: bool) -> RegistryClient:
    login = Login() if anonymous else Login(username="mover", password=PASSWORD)
    retry = RetryPolicy(retries=1, first_wait=0.0, max_wait=0.0, longest_wait=0.0)
    client = RegistryClient(REGISTRY, login, retry=retry)
    # What speaks with the network is all that is replaced.
    client._transport.send = hostile.send  # type: ignore[method-assign]
    return client


def good_source() -> BlobSource:
    hostile = Hostile([(200, [], BLOB.data)])
    return BlobSource(client_of(hostile, anonymous=True), "a")


def list_tags(client: RegistryClient) -> None:
    assert all(is_tag(tag) for tag in client.list_tags("a"))


def head(client: RegistryClient) -> None:
    found = client.head_manifest("a", "v1")
    assert found is None or found.digest.startswith(("sha256:", "sha512:"))


def get(client: RegistryClient) -> None:
    assert isinstance(client.get_manifest("a", "v1"), Manifest)


def get_by_digest(client: RegistryClient) -> None:
    assert client.get_manifest("a", BUILT.digest).body == BUILT.body


def read_blob(client: RegistryClient) -> None:
    assert client.read_config("a", LAYER) == BLOB.data


OPERATIONS: list[Callable[[RegistryClient], Any]] = [
    RegistryClient.ping,
    list_tags,
    head,
    get,
    get_by_digest,
    read_blob,
    lambda client: client.has_blob("a", BLOB.digest),
    lambda client: client.put_manifest("a", "v1", MANIFEST),
    lambda client: client.put_blob("a", LAYER, good_source(), mount_from="b"),
]


@fuzz(200)
@given(answers, st.lists(st.sampled_from(range(len(OPERATIONS))), min_size=1, max_size=3), st.booleans())
def test_a_registry_that_answers_anything_gets_our_errors_and_no_more_than_it_may(
    answers: list[tuple[int, list[tuple[str, str]], bytes]], operations: list[int], anonymous: bool
) -> None:
    hostile = Hostile(answers)
    client = client_of(hostile, anonymous=anonymous)
    try:
        for number in operations:
            try:
                OPERATIONS[number](client)
            except ImageSyncError as error:
                assert str(error).isprintable(), repr(str(error))
                assert len(str(error)) < 4000
                assert PASSWORD not in str(error)
                assert PAIR not in str(error)
                assert "s3cr3t" not in str(error)
    finally:
        client.close()
    hostile.credentials_stayed()


def test_the_operations_work_with_a_registry_that_behaves() -> None:
    put = Hostile([(202, [("Location", "/u")], b""), (201, [], b"")])
    client_of(put, anonymous=True).put_blob("a", LAYER, good_source())
    assert [method for method, *_ in put.sent] == ["POST", "PUT"]
    assert put.sent[1][3] == BLOB.data
    for operation in (get, get_by_digest):
        operation(client_of(Hostile([(200, [], BUILT.body)]), anonymous=True))
    list_tags(client_of(Hostile([(200, [], json.dumps({"tags": ["v1"]}).encode())]), anonymous=False))
