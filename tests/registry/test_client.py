from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_imagesync.domain.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    Conflict,
    ContentError,
    Denied,
    DigestMismatch,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
    UnsupportedContent,
)
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for, login_for
from tests.support.faults import answer, change_headers, close_at_once, corrupt, lose_answer, redirect, wait
from tests.support.front import Action, Front

IMAGE = images.image()
DIGEST = IMAGE.digest


def served(body: bytes, media_type: str | None = OCI_MANIFEST, **headers: str) -> Action:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(200, {**({"Content-Type": media_type} if media_type else {}), **names}, body)


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.fixture
def path(source_registry: DistributionRegistry, repository_prefix: str) -> str:
    """A repository with IMAGE as v1."""
    images.push(source_registry.url, repository_prefix, IMAGE, ["v1"])
    return repository_prefix


@pytest.fixture
def client(front: Front) -> RegistryClient:
    return client_for(front)


# Being asked what is there


def test_a_registry_answers_the_ping(source_registry: DistributionRegistry) -> None:
    client_for(source_registry).ping()


def test_what_is_no_registry_does_not(scripted: Front) -> None:
    with pytest.raises(NotFound, match="/v2/ answered 404; check the name"):
        client_for(scripted).ping()


def test_a_head_tells_digest_and_type_in_one_request(front: Front, client: RegistryClient, path: str) -> None:
    for reference in ("v1", DIGEST):
        head = client.head_manifest(path, reference)
        assert head is not None
        assert (head.digest, head.media_type) == (DIGEST, OCI_MANIFEST)
    assert [one.method for one in front.requests] == ["HEAD", "HEAD"]


def test_the_first_404_is_checked_by_get_and_later_ones_are_believed(front: Front, client: RegistryClient) -> None:
    for tag in ("v1", "v2", "v3"):
        assert client.head_manifest("not/there", tag) is None
    assert [one.method for one in front.requests] == ["HEAD", "GET", "HEAD", "HEAD"]


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(answer(404), id="404"),
        pytest.param(answer(405), id="405"),
        pytest.param(answer(400), id="400"),
        pytest.param(answer(501), id="501"),
        pytest.param(change_headers(Docker_Content_Digest=None), id="no-digest"),
        pytest.param(change_headers(Docker_Content_Digest="md5:1"), id="odd-digest"),
        pytest.param(change_headers(Docker_Content_Digest="sha256:" + "0" * 64), id="another-digest"),
        pytest.param(redirect("http://127.0.0.1:1/signed-for-get"), id="redirect"),
    ],
)
def test_a_head_that_can_not_be_trusted_is_replaced_by_get_for_good(
    front: Front, client: RegistryClient, path: str, action: Action
) -> None:
    front.on("HEAD", "/manifests/", action)
    for _ in range(3):
        head = client.head_manifest(path, DIGEST)
        assert head is not None
        assert head.digest == DIGEST
    assert [one.method for one in front.requests] == ["HEAD", "GET", "GET", "GET"]


def test_an_answer_without_a_digest_is_hashed(front: Front, client: RegistryClient, path: str) -> None:
    front.on(None, "/manifests/", change_headers(Docker_Content_Digest=None))
    head = client.head_manifest(path, "v1")
    assert head is not None
    assert head.digest == DIGEST


@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (401, Unauthorized)])
def test_the_reason_for_a_refused_head_comes_from_a_get(
    front: Front, client: RegistryClient, path: str, status: int, kind: type[Exception]
) -> None:
    front.on(None, "/", answer(status, body=b'{"errors": [{"code": "DENIED", "message": "not for you"}]}'))
    with pytest.raises(kind, match=f"answered {status} DENIED: not for you"):
        client.head_manifest(path, "v1")


@pytest.mark.parametrize("action", [answer(503), answer(429), close_at_once()], ids=["503", "429", "closed"])
def test_a_head_that_fails_for_a_while_is_repeated(
    front: Front, client: RegistryClient, path: str, action: Action
) -> None:
    front.on("HEAD", "/", action, times=3)
    assert client.head_manifest(path, "v1") is not None
    assert not front.seen("GET")


def test_a_wait_of_an_hour_is_not_sat_out(front: Front, client: RegistryClient, path: str) -> None:
    front.on(None, "/", answer(429, {"Retry-After": "3600"}))
    with pytest.raises(RateLimited, match="it asks to wait 3600 s") as caught:
        client.head_manifest(path, "v1")
    assert caught.value.retry_after == 3600
    assert len(front.requests) == 1


def test_a_registry_that_says_nothing_is_given_up_after_the_tries_allowed(front: Front, path: str) -> None:
    front.on("HEAD", "/", wait())
    client = client_for(front, retries=1, timeouts=Timeouts(read=0.2))
    with pytest.raises(TransportError, match="did not answer in time"):
        client.head_manifest(path, "v1")
    assert len(front.requests) == 2


# Fetching manifests


@pytest.mark.parametrize(
    ("built", "kind"),
    [
        (images.image(), OCI_MANIFEST),
        (images.image(docker=True), DOCKER_MANIFEST),
        (images.index(attestations=True), OCI_INDEX),
        (images.index(docker=True), DOCKER_LIST),
        (images.index([images.index(), images.image()]), OCI_INDEX),
        (images.artifact("application/x.test", [images.Blob(b"x", media_type="text/plain")]), OCI_MANIFEST),
    ],
    ids=["oci", "docker", "index-with-attestations", "list", "nested", "artifact"],
)
def test_every_kind_of_manifest_is_read_byte_for_byte(
    source_registry: DistributionRegistry, repository_prefix: str, built: images.BuiltManifest, kind: str
) -> None:
    images.push(source_registry.url, repository_prefix, built, ["v1"])
    got = client_for(source_registry).get_manifest(repository_prefix, "v1")
    assert (got.body, got.digest, got.media_type) == (built.body, built.digest, kind)
    assert [child.digest for child in got.children] == [child.digest for child in built.children]
    assert {blob.digest for blob in got.blobs} == {blob.digest for blob in built.blobs}


def test_a_manifest_that_is_not_there_is_told(source_registry: DistributionRegistry) -> None:
    with pytest.raises(NotFound, match="404 MANIFEST_UNKNOWN"):
        client_for(source_registry).get_manifest("not/there", "v1")


@pytest.mark.parametrize("reference", ["v1", DIGEST], ids=["tag", "digest"])
def test_bytes_that_do_not_hash_to_their_digest_are_refused(
    front: Front, client: RegistryClient, path: str, reference: str
) -> None:
    front.on("GET", "/manifests/", corrupt(at=20))
    with pytest.raises(DigestMismatch, match="the content was altered on its way") as caught:
        client.get_manifest(path, reference)
    # Once may be the wire; twice is the registry.
    assert len(front.seen("GET")) == 2
    assert not caught.value.temporary


def test_a_byte_that_flips_once_does_no_harm(front: Front, client: RegistryClient, path: str) -> None:
    front.on("GET", "", corrupt(at=20), times=1)
    manifest = client.get_manifest(path, "v1")
    front.on("GET", "", corrupt(at=20), times=1)
    assert manifest.config is not None
    assert client.read_config(path, manifest.config) == IMAGE.blobs[0].data


def test_another_manifest_under_a_digest_is_refused(scripted: Front) -> None:
    body = images.image([]).body
    scripted.on("GET", "/", served(body, Docker_Content_Digest=digest_of(body)))
    with pytest.raises(DigestMismatch):
        client_for(scripted).get_manifest("a", DIGEST)


OCI = json.loads(IMAGE.body)
INDEX = json.loads(images.index().body)
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize(
    ("document", "content_type", "kind", "words"),
    [
        ({**OCI, "manifests": []}, OCI_MANIFEST, ContentError, "an index and an image at once"),
        ({**INDEX, "layers": []}, OCI_INDEX, ContentError, "an index and an image at once"),
        ({**INDEX, "config": {}}, OCI_INDEX, ContentError, "an index and an image at once"),
        (OCI, OCI_INDEX, ContentError, r"says it is .* but was served as"),
        ({"schemaVersion": 1, "fsLayers": []}, SCHEMA1, UnsupportedContent, "Docker schema 1"),
        ({**OCI, "schemaVersion": 1}, OCI_MANIFEST, UnsupportedContent, "Docker schema 1"),
        ({**OCI, "mediaType": "application/x.unknown"}, "application/x.unknown", UnsupportedContent, "no known"),
        ({**OCI, "mediaType": 7}, OCI_MANIFEST, ContentError, "not text"),
    ],
    ids=[
        "both",
        "index-with-layers",
        "index-with-config",
        "served-as-index",
        "schema1",
        "schema1-disguised",
        "unknown-type",
        "type-no-text",
    ],
)
def test_a_document_that_can_be_read_two_ways_is_refused(
    scripted: Front, document: Any, content_type: str, kind: type[Exception], words: str
) -> None:
    scripted.on("GET", "/", served(json.dumps(document).encode(), content_type))
    with pytest.raises(kind, match=words):
        client_for(scripted).get_manifest("a", "v1")


@pytest.mark.parametrize("content_type", [None, "application/json", OCI_MANIFEST + "; charset=utf-8", "text/plain"])
def test_the_type_is_the_documents_own_where_the_header_has_none(scripted: Front, content_type: str | None) -> None:
    scripted.on("GET", "/", served(IMAGE.body, content_type))
    assert client_for(scripted).get_manifest("a", "v1").media_type == OCI_MANIFEST


def test_the_type_is_the_headers_where_the_document_has_none(scripted: Front) -> None:
    body = json.dumps({key: value for key, value in OCI.items() if key != "mediaType"}).encode()
    scripted.on("GET", "/", served(body, DOCKER_MANIFEST))
    assert client_for(scripted).get_manifest("a", "v1").media_type == DOCKER_MANIFEST


def test_a_manifest_larger_than_any_registry_takes_is_refused(scripted: Front) -> None:
    scripted.on("GET", "/", served(b" " * (4 * 1024 * 1024 + 1)))
    with pytest.raises(ProtocolError, match="sent more than 4194304 bytes"):
        client_for(scripted).get_manifest("a", "v1")


@pytest.mark.parametrize("status", [307, 302, 303])
def test_a_manifest_that_is_kept_elsewhere_is_fetched_there_without_credentials(scripted: Front, status: int) -> None:
    with Front() as storage:
        storage.on("GET", "/", served(IMAGE.body))
        scripted.on("GET", "/manifests/", redirect(f"{storage.url}/signed?key=secret", status))
        client = client_for(scripted, username="u", password="p")
        assert client.get_manifest("a", "v1").digest == DIGEST
        (seen,) = storage.requests
        assert "Authorization" not in seen.headers


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://169.254.169.254/latest/meta-data", "a link-local address"),
        ("ftp://127.0.0.1/x", "no HTTP address"),
        ("http://[::1", "no HTTP address"),
        ("/v2/a/manifests/v1", "redirected more than 5 times"),
    ],
)
def test_a_redirect_that_must_not_be_followed_is_told(scripted: Front, to: str, words: str) -> None:
    scripted.on("GET", "/", redirect(to))
    with pytest.raises(ProtocolError, match=words):
        client_for(scripted).get_manifest("a", "v1")
    assert len(scripted.requests) <= 6


def test_a_redirect_to_https_says_to_take_out_insecure(scripted: Front) -> None:
    scripted.on(None, "/", redirect(f"https://{scripted.host}*", 301))
    with pytest.raises(ProtocolError, match="the registry wants HTTPS, so take out insecure: true"):
        client_for(scripted).head_manifest("a", "v1")


def test_credentials_follow_a_redirect_within_the_registry(scripted: Front) -> None:
    scripted.on(
        None, "", answer(401, {"WWW-Authenticate": "Basic"}), when=lambda one: "Authorization" not in one.headers
    )
    scripted.on("GET", "/v2/$", answer(200))
    scripted.on("GET", "/v2/a/", redirect("/v2/b/manifests/v1"))
    scripted.on("GET", "/v2/b/", served(IMAGE.body))
    assert client_for(scripted, username="u", password="p").get_manifest("a", "v1").digest == DIGEST
    assert scripted.seen("GET", "/v2/b/")[0].headers["Authorization"].startswith("Basic ")


# Putting manifests


@pytest.fixture
def manifest(client: RegistryClient, path: str) -> Manifest:
    return client.get_manifest(path, "v1")


@pytest.mark.parametrize("reference", ["v2", DIGEST], ids=["tag", "digest"])
def test_a_manifest_is_put_with_its_own_type(
    front: Front, client: RegistryClient, path: str, manifest: Manifest, reference: str
) -> None:
    client.put_manifest(path, reference, manifest)
    assert client.get_manifest(path, reference).body == IMAGE.body
    assert front.seen("PUT")[0].headers["Content-Type"] == OCI_MANIFEST


@pytest.mark.parametrize(
    "action",
    [lose_answer(), lose_answer(500), answer(503), close_at_once(), answer(429, {"Retry-After": "0"})],
    ids=["answer-lost", "500-after-the-work", "503", "closed", "429"],
)
def test_a_put_that_fails_for_a_while_is_repeated(
    front: Front, client: RegistryClient, path: str, manifest: Manifest, action: Action
) -> None:
    front.on("PUT", "/", action, times=2)
    client.put_manifest(path, "v2", manifest)
    assert client.head_manifest(path, "v2") is not None


def test_a_put_whose_every_answer_is_lost_is_a_success_when_the_tag_stands(
    front: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    front.on("PUT", "/", lose_answer(504))
    client.put_manifest(path, "v2", manifest)
    assert client.head_manifest(path, "v2") is not None


def test_a_put_that_never_succeeds_is_an_error(
    front: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    front.on("PUT", "/", answer(504))
    with pytest.raises(RegistryError, match="answered 504") as caught:
        client.put_manifest(path, "v2", manifest)
    assert caught.value.temporary
    assert len(front.seen("PUT")) == 4


def test_blobs_that_the_registry_sees_late_are_waited_for(
    front: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    front.on("PUT", "/", answer(400, body=b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}'), times=2)
    client.put_manifest(path, "v2", manifest)
    assert client.head_manifest(path, "v2") is not None


def test_blobs_that_are_not_seen_yet_are_waited_for_longer_than_faults(
    front: Front, path: str, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = manifest.blobs[0].digest
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": digest}}]}).encode()
    front.on("PUT", "/", answer(400, body=body))
    waits: list[float] = []
    monkeypatch.setattr(RetryPolicy, "sleep", lambda _, seconds: waits.append(seconds))
    client = RegistryClient(front.host, login_for(front), retry=RetryPolicy())
    with pytest.raises(RegistryError, match="answered 400 MANIFEST_BLOB_UNKNOWN") as caught:
        client.put_manifest(path, "v2", manifest)
    assert waits == pytest.approx([1.4, 3.75, 10.5], abs=0.6)
    assert (caught.value.temporary, caught.value.misses_blobs, caught.value.digests) == (True, True, (digest,))


IMMUTABLE = [
    pytest.param(400, "TAG_INVALID", "The image tag 'v1' already exists and cannot be overwritten", id="ecr"),
    pytest.param(412, "PRECONDITION", "Failed to process request due to 'a:v1' configured as immutable.", id="harbor"),
    pytest.param(403, "DENIED", "tag v1 is immutable", id="docker-hub"),
    pytest.param(405, "UNSUPPORTED", "", id="zot"),
    pytest.param(409, "FAILED_PRECONDITION", "", id="google"),
    pytest.param(400, "UNKNOWN", "cannot be updated", id="nexus"),
]


@pytest.mark.parametrize(("status", "code", "message"), IMMUTABLE)
def test_an_immutable_tag_with_another_digest_is_a_conflict(
    front: Front, path: str, manifest: Manifest, status: int, code: str, message: str
) -> None:
    client = client_for(front, retries=0)
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    front.on("PUT", "/", answer(status, body=body))
    other = replace(manifest, digest="sha256:" + "1" * 64)
    with pytest.raises(Conflict, match="exists with another digest and the registry does not let it be changed"):
        client.put_manifest(path, "v1", other)


@pytest.mark.parametrize(("status", "code", "message"), IMMUTABLE)
def test_an_immutable_tag_with_the_same_digest_is_a_success(
    front: Front, path: str, manifest: Manifest, status: int, code: str, message: str
) -> None:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    front.on("PUT", "/", answer(status, body=body))
    client_for(front, retries=0).put_manifest(path, "v1", manifest)


def test_a_refusal_for_a_tag_that_is_not_there_is_no_conflict(
    front: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    front.on("PUT", "/", answer(405, body=b'{"errors": [{"code": "UNSUPPORTED", "message": "read-only"}]}'))
    with pytest.raises(RegistryError, match="405 UNSUPPORTED: read-only") as caught:
        client.put_manifest(path, "v9", manifest)
    assert not isinstance(caught.value, Conflict)


def test_a_digest_other_than_ours_in_the_answer_is_an_error(
    front: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    front.on("PUT", "/", change_headers(Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(DigestMismatch, match="stored sha256:000"):
        client.put_manifest(path, "v2", manifest)


def test_a_registry_without_push_rights_says_what_to_check(
    scripted: Front, client: RegistryClient, path: str, manifest: Manifest
) -> None:
    scripted.on("PUT", "/", answer(403, body=b'{"errors": [{"code": "DENIED", "message": "no"}]}'))
    with pytest.raises(Denied, match="answered 403 DENIED: no; check that somebody without a login may push"):
        client_for(scripted).put_manifest("a", "v1", manifest)


# Blobs, small ones


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (answer(200), True),
        (redirect("https://storage.example/b?signed-for-get"), True),
        (answer(404), False),
        (answer(403), False),
        (answer(401), False),
        (answer(405), False),
    ],
    ids=["200", "redirect", "404", "403", "401", "405"],
)
def test_a_blob_is_there_when_head_says_so(scripted: Front, action: Action, expected: bool) -> None:
    scripted.on("HEAD", "/", action)
    assert client_for(scripted).has_blob("a", DIGEST) is expected
    assert len(scripted.requests) <= 2


def test_a_head_of_a_blob_that_keeps_failing_is_an_error(scripted: Front) -> None:
    scripted.on("HEAD", "/", answer(500))
    with pytest.raises(RegistryError, match="answered 500"):
        client_for(scripted).has_blob("a", DIGEST)
    assert len(scripted.requests) == 4


def test_a_configuration_is_read_and_verified(front: Front, client: RegistryClient, path: str) -> None:
    config = client.get_manifest(path, "v1").config
    assert config is not None
    assert client.read_config(path, config) == IMAGE.blobs[0].data
    front.on("GET", "/blobs/", corrupt(at=3))
    with pytest.raises(ContentError, match="hashes to"):
        client.read_config(path, config)


def test_a_configuration_too_large_to_be_one_is_not_read(client: RegistryClient, path: str) -> None:
    config = client.get_manifest(path, "v1").config
    assert config is not None
    with pytest.raises(ContentError, match="is no configuration: it has 5000000 bytes"):
        client.read_config(path, replace(config, size=5_000_000))


def test_every_error_of_a_registry_names_it_and_no_secret(scripted: Front) -> None:
    client = client_for(scripted, username="u", password="s3cr3t")
    client.abort()
    works = [lambda: client.list_tags("a"), lambda: client.get_manifest("a", "v1"), client.ping]
    for work in works:
        with pytest.raises(ImageSyncError) as caught:
            work()
        assert scripted.host in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
