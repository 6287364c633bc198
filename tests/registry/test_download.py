from __future__ import annotations

import contextlib
import re
import time
from dataclasses import replace

import pytest

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    DigestMismatch,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RateLimited,
    RegistryError,
    SizeMismatch,
    TransportError,
)
from airflow_imagesync.registry.download import BlobDownload, BlobSource
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.transport import CHUNK
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.faults import answer, change_headers, close_at_once, corrupt, cut_answer, drip, redirect, wait
from tests.support.front import Action, Exchange, Front, Request

BLOB = images.layer(3_000_000, "download")
DATA = BLOB.data
WHOLE = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)


@pytest.fixture(scope="module", autouse=True)
def upstream(source_registry: DistributionRegistry) -> DistributionRegistry:
    images.push(source_registry.url, "downloads", images.image([BLOB]), ["v1"])
    return source_registry


def download(front: Front, descriptor: Descriptor = WHOLE, *, retries: int = 3, read: float = 1.0) -> BlobDownload:
    client = client_for(front, retries=retries, timeouts=Timeouts(read=read), username="u", password="p")
    return BlobDownload(BlobSource(client, "downloads"), descriptor)


def ranged(request: Request) -> bool:
    return "Range" in request.headers


def ranges(front: Front) -> list[str | None]:
    return [one.headers.get("Range") for one in front.seen("GET", "/blobs/")]


def test_a_blob_comes_in_pieces_of_limited_size_and_order(front: Front) -> None:
    body = download(front)
    pieces = list(body)
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= CHUNK
    assert len(body) == BLOB.size
    assert body.failure is None
    assert ranges(front) == [None]


def test_the_bytes_are_counted_as_they_pass(front: Front) -> None:
    counts: list[int] = []
    source = BlobSource(client_for(front), "downloads", counts.append)
    for position, piece in enumerate(BlobDownload(source, WHOLE)):
        assert counts[position] == len(piece)
    assert sum(counts) == BLOB.size


def test_an_empty_blob_has_no_pieces(source_registry: DistributionRegistry) -> None:
    empty = images.Blob(b"")
    images.push(source_registry.url, "empty", images.image([empty]), ["v1"])
    body = BlobDownload(BlobSource(client_for(source_registry), "empty"), Descriptor(empty.media_type, empty.digest, 0))
    assert body  # a body, though an empty one
    assert list(body) == []


# Breaking off


@pytest.mark.parametrize("at", [1, 1_000_000, 2_700_000, BLOB.size - 1], ids=["start", "third", "90%", "last-byte"])
@pytest.mark.parametrize("stall", [False, True], ids=["cut", "stalled"])
def test_a_blob_that_breaks_off_is_resumed_where_it_was(front: Front, at: int, stall: bool) -> None:
    front.on("GET", "/blobs/", cut_answer(at, stall=stall), times=1)
    assert b"".join(download(front, read=0.3)) == DATA
    first, second = ranges(front)
    assert first is None
    found = re.fullmatch(rf"bytes=(\d+)-{BLOB.size - 1}", second or f"bytes=0-{BLOB.size - 1}")
    assert found is not None
    start = int(found[1])
    # At most one piece is read twice.
    assert at - CHUNK <= start <= at


@pytest.mark.parametrize(
    "action", [close_at_once(), answer(503), answer(429), wait()], ids=["cut", "503", "429", "silent"]
)
def test_resuming_is_tried_again(front: Front, action: Action) -> None:
    front.on("GET", "/blobs/", cut_answer(1_000_000), times=1)
    front.on("GET", "/blobs/", action, times=2)
    assert b"".join(download(front, read=0.3)) == DATA


def test_a_blob_may_break_off_often_as_long_as_it_gets_on(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(1_300_000))
    assert b"".join(download(front, retries=1)) == DATA
    assert len(ranges(front)) == 3


def test_a_blob_that_gets_on_by_bytes_is_given_up(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(100))
    body = download(front, retries=3)
    with pytest.raises(TransportError) as caught:
        list(body)
    assert body.failure is caught.value
    assert len(ranges(front)) == 4


def test_a_blob_that_stays_silent_is_given_up_after_the_tries_allowed(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(100, stall=True), times=1)
    front.on("GET", "/blobs/", wait())
    begun = time.monotonic()
    with pytest.raises(TransportError, match="did not answer in time"):
        list(download(front, retries=2, read=0.2))
    assert time.monotonic() - begun < 3
    assert len(ranges(front)) == 3


def test_without_retries_nothing_is_resumed(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(100))
    with pytest.raises(TransportError):
        list(download(front, retries=0))
    assert len(ranges(front)) == 1


def test_what_does_not_pass_by_itself_ends_the_download(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(100), times=1)
    front.on("GET", "/blobs/", answer(404))
    with pytest.raises(NotFound):
        list(download(front))
    assert len(ranges(front)) == 2


def test_a_wait_that_is_too_long_for_a_destination_ends_the_download_to_begin_anew(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(100), times=1)
    front.on("GET", "/blobs/", answer(429, {"Retry-After": "5"}))
    body = download(front)
    with pytest.raises(RateLimited) as caught:
        list(body)
    # Whoever called may try all of it again, after that time.
    assert (caught.value.temporary, caught.value.tried, caught.value.retry_after) == (True, False, 5)
    assert len(ranges(front)) == 2


def test_the_waits_between_tries_are_short_however_many_there_are(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.on("GET", "/blobs/", cut_answer(100), times=1)
    front.on("GET", "/blobs/", answer(503))
    body = download(front)
    waits: list[float] = []
    policy = RetryPolicy(retries=9)
    monkeypatch.setattr(RetryPolicy, "sleep", lambda _, seconds: waits.append(seconds))
    body._client.retry = policy
    with pytest.raises(RegistryError, match="503"):
        list(body)
    assert len(waits) == 8
    assert max(waits) <= 2


def test_a_blob_that_drips_is_resumed(front: Front) -> None:
    front.on("GET", "/blobs/", drip(100, at=1_000_000), times=1)
    client = client_for(front, timeouts=Timeouts(slow=0.3, min_rate=3000))
    assert b"".join(BlobDownload(BlobSource(client, "downloads"), WHOLE)) == DATA
    assert len(ranges(front)) == 2


# Answers to a request for the rest


def rest(first: int, last: int, total: str = str(BLOB.size), data: bytes | None = None) -> Action:
    def act(exchange: Exchange) -> None:
        body = DATA[first : last + 1] if data is None else data
        exchange.reply(206, [("Content-Range", f"bytes {first}-{last}/{total}")], body)

    return act


@pytest.mark.parametrize(
    "action",
    [
        rest(0, BLOB.size - 1),
        rest(100, BLOB.size - 1),
        rest(262144, 300_000),
        answer(206, body=b"no range at all"),
        answer(206, {"Content-Range": "elephants"}, b"x"),
        answer(416),
        answer(200, body=DATA),
    ],
    ids=["from-the-start", "other-start", "other-end", "none-said", "nonsense", "416", "200-ignores-it"],
)
def test_where_ranges_are_not_answered_right_the_blob_is_read_from_its_start(front: Front, action: Action) -> None:
    front.on("GET", "/blobs/", cut_answer(300_000), times=1)
    front.on("GET", "/blobs/", action, when=ranged)
    assert b"".join(download(front)) == DATA


def test_a_registry_that_knows_no_ranges_is_not_asked_for_them_again(front: Front) -> None:
    front.on("GET", "/blobs/", answer(416), when=ranged)
    front.on("GET", "/blobs/", cut_answer(1_300_000), times=1)
    front.on("GET", "/blobs/", cut_answer(2_600_000), times=1)
    assert b"".join(download(front)) == DATA
    assert [one is not None for one in ranges(front)] == [False, True, False, False]


def test_a_rest_whose_total_is_not_known_is_taken(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(262144), times=1)
    front.on("GET", "/blobs/", rest(262144, BLOB.size - 1, "*"))
    assert b"".join(download(front)) == DATA


# Content that is wrong


@pytest.mark.parametrize("at", [0, 1_500_000, BLOB.size - 1], ids=["first", "middle", "last"])
def test_the_last_piece_of_a_wrong_blob_is_never_given_out(front: Front, at: int) -> None:
    front.on("GET", "/blobs/", corrupt(at))
    body, given = download(front), []
    with pytest.raises(DigestMismatch, match=r"hashes to sha256:.*the content was altered on its way") as caught:
        given.extend(body)
    assert body.failure is caught.value
    assert sum(map(len, given)) < BLOB.size


def test_a_rest_that_does_not_fit_is_found(front: Front) -> None:
    front.on("GET", "/blobs/", cut_answer(262144), times=1)
    front.on("GET", "/blobs/", rest(262144, BLOB.size - 1, data=bytes(BLOB.size - 262144)))
    with pytest.raises(DigestMismatch):
        list(download(front))


@pytest.mark.parametrize("size", [BLOB.size - 1, BLOB.size + 1])
def test_another_size_than_the_manifests_is_found_before_a_byte_is_read(front: Front, size: int) -> None:
    with pytest.raises(
        SizeMismatch, match=f"has {BLOB.size} bytes where its manifest says {size}: the source is damaged"
    ):
        download(front, replace(WHOLE, size=size)).open()


def test_a_blob_of_unknown_length_is_read_to_the_manifests_size(front: Front) -> None:
    def chunked(exchange: Exchange) -> None:
        data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (DATA[:9], DATA[9:])) + b"0\r\n\r\n"
        exchange.reply(200, [("Transfer-Encoding", "chunked")], data)

    front.on("GET", "/blobs/", chunked)
    assert b"".join(download(front)) == DATA
    assert len(ranges(front)) == 1


@pytest.mark.parametrize("length", ["\u00b2", "-1", "9" * 5000])
def test_a_length_that_is_no_number_does_no_harm(front: Front, length: str) -> None:
    front.on("GET", "/blobs/", change_headers(Content_Length=length))
    with contextlib.suppress(ImageSyncError):
        assert b"".join(download(front, retries=0)) == DATA


def test_a_blob_that_is_compressed_on_its_way_is_refused(front: Front) -> None:
    front.on("GET", "/blobs/", change_headers(Content_Encoding="gzip"))
    with pytest.raises(ProtocolError, match=r"sends its answer packed \('gzip'\)"):
        list(download(front))
    assert len(front.requests) == 1


# Redirects


def test_a_blob_kept_elsewhere_is_read_there_without_credentials(front: Front, upstream: DistributionRegistry) -> None:
    front.on(None, "", answer(401, {"WWW-Authenticate": "Basic"}), when=lambda one: "Authorization" not in one.headers)
    with Front(upstream.host) as storage:
        front.on("GET", "/blobs/", redirect(storage.url + "*"))
        assert b"".join(download(front)) == DATA
        assert {"authorization", "cookie"}.isdisjoint(name.lower() for name in storage.requests[0].headers)
        assert front.seen("GET", "/blobs/")[-1].headers["Authorization"].startswith("Basic ")


def test_resuming_asks_the_registry_for_a_new_address(front: Front, upstream: DistributionRegistry) -> None:
    with Front(upstream.host) as old, Front(upstream.host) as new:
        old.on("GET", "", cut_answer(1_000_000), times=1)
        old.on("GET", "", answer(403))
        front.on("GET", "/blobs/", redirect(old.url + "*"), times=1)
        front.on("GET", "/blobs/", redirect(new.url + "*"))
        assert b"".join(download(front)) == DATA
        assert len(old.requests) == 1
        assert new.requests[0].headers["Range"].startswith("bytes=")


def test_an_address_that_has_expired_is_asked_for_anew(front: Front, upstream: DistributionRegistry) -> None:
    with Front(upstream.host) as storage:
        storage.on("GET", "", answer(403, body=b"<Error><Message>Request has expired</Message></Error>"), times=1)
        front.on("GET", "/blobs/", redirect(storage.url + "*"))
        client = client_for(front)
        client.retrying(lambda: BlobDownload(BlobSource(client, "downloads"), WHOLE).open(), "it")
        assert len(front.seen("GET")) == 2


def test_storage_that_refuses_is_named_without_its_signature(front: Front) -> None:
    with Front() as storage:
        storage.on("GET", "", answer(403, body=b"<Error><Code>AccessDenied</Code></Error>"))
        front.on("GET", "/blobs/", redirect(storage.url + "/bucket/b?X-Amz-Signature=secret"))
        with pytest.raises(RegistryError) as caught:
            download(front).open()
    assert str(caught.value) == (
        f"GET {storage.url}/bucket/b answered 403: AccessDenied; {front.host} redirected there: check its storage"
    )


def test_a_blob_is_not_fetched_from_where_clouds_keep_credentials(front: Front) -> None:
    front.on("GET", "/blobs/", redirect("http://169.254.169.254/latest/meta-data/iam"))
    with pytest.raises(ProtocolError, match="is not followed: a link-local address"):
        download(front).open()
