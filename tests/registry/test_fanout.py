"""One source read for several destinations; the threads are real, and so are the registries."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    Denied,
    DigestMismatch,
    ImageSyncError,
    NotFound,
    RateLimited,
    SyncCancelled,
    TransportError,
)
from airflow_imagesync.registry import fanout as fanout_module
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.fanout import PIECES, SharedBody, SharedDownload, send_to_all
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.transport import CHUNK
from airflow_imagesync.registry.upload import UploadOutcome
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.faults import answer, corrupt, cut_answer, cut_upload, redirect, stall_upload
from tests.support.front import Action, Exchange, Front
from tests.support.records import eventually

pytestmark = pytest.mark.timeout(60)

BLOB = images.layer(6_000_000, "fanout")
DATA = BLOB.data
WHOLE = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)
#: More than fits into the buffers between a client and a peer that reads nothing.
LARGE_BLOB = images.layer(40_000_000, "fanout-large")
LARGE_WHOLE = Descriptor(LARGE_BLOB.media_type, LARGE_BLOB.digest, LARGE_BLOB.size)
#: For tests in which somebody stalls.
SOON = 0.5
PATIENT = Timeouts(read=10.0, write=2.0, commit=10.0)


class Piece(bytes):
    """Pieces that are counted while they are alive."""

    now = most = 0

    def __new__(cls) -> Piece:
        Piece.now += 1
        Piece.most = max(Piece.most, Piece.now)
        return super().__new__(cls, b"x")

    def __del__(self) -> None:
        Piece.now -= 1


@dataclass
class _Client:
    registry: str = "source.example.com"
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass
class Script:
    """In the place of a source: pieces, and errors to be raised, each made when it is its turn."""

    turns: list[Callable[[], bytes]]
    client: Any = field(default_factory=_Client)
    path: str = "scripted"
    on_bytes: Callable[[int], None] | None = None
    failure: ImageSyncError | None = None
    calls: list[str] = field(default_factory=list)

    def download(self, descriptor: Descriptor) -> Script:
        return self

    def open(self) -> None:
        self.calls.append("open")

    def close(self) -> None:
        self.calls.append("close")

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Iterator[bytes]:
        for turn in self.turns:
            yield turn()


def shared(script: Script, readers: int, stalled: float = 10.0) -> SharedDownload:
    return SharedDownload(cast("BlobSource", script), WHOLE, readers, stalled=stalled)


def read(body: SharedBody) -> bytes | ImageSyncError:
    try:
        body.open()
        return b"".join(body)
    except ImageSyncError as error:
        return error if body.failure is error else TransportError("not the failure that the body tells of")
    finally:
        body.close()


def numbered(count: int) -> list[Callable[[], bytes]]:
    return [lambda number=number: b"%d " % number for number in range(count)]


# The readers


@pytest.mark.parametrize("readers", [1, 2, 5])
def test_every_reader_gets_all_of_what_is_read_once(readers: int) -> None:
    script = Script(numbered(500))
    bodies = shared(script, readers).bodies
    with ThreadPoolExecutor(readers) as pool:
        results = list(pool.map(read, bodies))
    assert results == [b"".join(b"%d " % number for number in range(500))] * readers
    assert script.calls.count("open") == 1
    assert all(len(body) == BLOB.size and body for body in bodies)


def test_what_is_held_stays_bounded_however_slow_a_reader_is() -> None:
    def slowly(body: SharedBody) -> int:
        count = 0
        for _ in body:
            count += 1
            if body is bodies[0]:
                time.sleep(0.001)
        return count

    bodies = shared(Script([Piece] * 200), 3).bodies
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(slowly, bodies)) == [200] * 3
    # Besides those of the ring each reader has one in its hands, and the source the one it gave out last.
    assert 1 < Piece.most <= PIECES + 3 + 1


def test_a_reader_that_leaves_frees_the_others() -> None:
    bodies = shared(Script(numbered(100)), 3).bodies

    def some(body: SharedBody) -> None:
        for number, _ in enumerate(body):
            if number == 10:
                break

    with ThreadPoolExecutor(3) as pool:
        whole = pool.submit(read, bodies[0])
        bodies[2].close()  # before it took anything
        pool.submit(some, bodies[1]).result(5)
        bodies[1].close()
        assert whole.result(5) == b"".join(b"%d " % number for number in range(100))


def test_the_last_one_to_leave_closes_the_source() -> None:
    script = Script(numbered(100))
    bodies = shared(script, 2).bodies
    bodies[0].open()
    bodies[0].close()
    assert script.calls == ["open"]
    bodies[1].close()
    bodies[1].close()
    assert script.calls == ["open", "close"]


def test_a_reader_that_takes_nothing_is_left_behind_and_told_so() -> None:
    bodies = shared(Script(numbered(100)), 3, stalled=0.2).bodies
    bodies[2].open()
    first = next(iter(bodies[2]))
    assert first == b"0 "
    with ThreadPoolExecutor(2) as pool:
        assert all(isinstance(one, bytes) and one.endswith(b" 99 ") for one in pool.map(read, bodies[:2]))
    with pytest.raises(TransportError, match="took nothing for 0 s") as caught:
        list(bodies[2])
    assert caught.value.temporary
    assert bodies[2].failure is caught.value


def test_a_reader_that_still_moves_is_waited_for() -> None:
    bodies = shared(Script(numbered(12)), 2, stalled=0.3).bodies

    def slowly(body: SharedBody) -> int:
        count = 0
        for _ in body:
            count += 1
            time.sleep(0.1)
        return count

    with ThreadPoolExecutor(2) as pool:
        slow, quick = pool.submit(slowly, bodies[0]), pool.submit(read, bodies[1])
        assert slow.result(20) == 12
        assert isinstance(quick.result(20), bytes)


def test_waiting_for_a_slow_source_is_nobodys_fault() -> None:
    def late() -> bytes:
        time.sleep(0.1)
        return b"late "

    bodies = shared(Script([late] * 6), 3, stalled=0.05).bodies
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read, bodies)) == [b"late " * 6] * 3


def test_a_failure_of_the_source_is_that_of_every_reader() -> None:
    def fail() -> bytes:
        raise NotFound("gone", status=404)

    bodies = shared(Script([*numbered(10), fail]), 3).bodies
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(read, bodies))
    assert [(type(one), str(one)) for one in results] == [(NotFound, "gone")] * 3
    assert len({id(one) for one in results}) == 3


def test_an_error_that_is_not_ours_is_never_taken_for_the_end() -> None:
    def fail() -> bytes:
        raise ValueError("a mistake of ours")

    bodies = shared(Script([*numbered(10), fail]), 2).bodies
    with ThreadPoolExecutor(2) as pool:
        errors = [future.exception() for future in [pool.submit(list, body) for body in bodies]]
    assert sorted(type(error).__name__ for error in errors) == ["TransportError", "ValueError"]


@pytest.mark.parametrize("where", ["for-a-piece", "for-room"])
def test_who_waits_is_woken_when_the_run_is_told_to_stop(where: str) -> None:
    stopped, release = threading.Event(), threading.Event()

    def hang() -> bytes:
        release.wait(20)
        return b""

    turns = [hang] if where == "for-a-piece" else numbered(100)
    script = Script(turns, client=_Client(retry=RetryPolicy(cancelled=stopped)))
    bodies = shared(script, 3).bodies
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(read, body) for body in bodies[:2]]  # the third takes nothing
        time.sleep(0.1)
        begun = time.monotonic()
        stopped.set()
        while not any(future.done() for future in futures):
            assert time.monotonic() - begun < 5
            time.sleep(0.01)
        release.set()
        assert all(isinstance(future.result(10), SyncCancelled) for future in futures)


def test_a_body_is_opened_for_one_request() -> None:
    body, other = shared(Script(numbered(3)), 2).bodies
    assert body.download(WHOLE) is body
    body.open()
    body.close()
    with pytest.raises(TransportError, match=r"wants sha256:.* anew") as caught:
        body.open()
    assert caught.value.temporary
    other.close()
    with pytest.raises(ValueError, match="not sha512:"):
        body.download(replace(WHOLE, digest="sha512:" + 128 * "0"))


# Registries


@dataclass
class Hall:
    """A source and three destinations, each behind a front."""

    source: Front
    destinations: list[Front]
    upstream: DistributionRegistry
    path: str

    def reader(self, retries: int = 3, on_bytes: Callable[[int], None] | None = None, **values: Any) -> BlobSource:
        return BlobSource(client_for(self.source, retries=retries, **values), "fanout", on_bytes)

    def targets(self, **values: Any) -> list[tuple[RegistryClient, str]]:
        return [
            (client_for(front, timeouts=PATIENT, **values), f"{self.path}-{number}")
            for number, front in enumerate(self.destinations)
        ]

    def send(
        self, whole: Descriptor = WHOLE, source: BlobSource | None = None, **values: Any
    ) -> list[UploadOutcome | ImageSyncError]:
        return send_to_all(source or self.reader(), whole, self.targets(**values), stalled=SOON)

    def arrived(self, data: bytes = DATA) -> list[bool]:
        """Which of the destinations have the blob, right to the last byte."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        found = []
        for number in range(len(self.destinations)):
            source = BlobSource(client_for(self.upstream), f"{self.path}-{number}")
            try:
                found.append(b"".join(source.download(Descriptor("x/y", digest, len(data)))) == data)
            except NotFound:
                found.append(False)
        return found

    def reads(self) -> list[str | None]:
        """The ranges that the source was asked for."""
        return [request.headers.get("Range") for request in self.source.seen("GET", "/blobs/")]


@pytest.fixture(scope="module")
def lasting(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry
) -> Iterator[tuple[Front, ...]]:
    images.push(source_registry.url, "fanout", images.image([BLOB, LARGE_BLOB]), ["v1"])
    with Front(source_registry.host) as source:
        fronts = [Front(destination_registry.host).start() for _ in range(3)]
        yield source, *fronts
        for front in fronts:
            front.stop()


@pytest.fixture
def hall(lasting: tuple[Front, ...], destination_registry: DistributionRegistry, repository_prefix: str) -> Hall:
    for front in lasting:
        front.forget()
    return Hall(lasting[0], list(lasting[1:]), destination_registry, repository_prefix)


SENT = UploadOutcome(mounted=False)


def test_a_blob_goes_to_three_registries_with_one_read_of_the_source(
    source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, repository_prefix, images.image([BLOB]), ["v1"])
    counts: list[int] = []
    source = BlobSource(client_for(source_registry), repository_prefix, counts.append)
    before = len(source_registry.requests_log())
    with (
        DistributionRegistry(in_shared_memory=True) as one,
        DistributionRegistry(in_shared_memory=True) as two,
        DistributionRegistry(in_shared_memory=True) as three,
    ):
        registries = (one, two, three)
        targets = [(client_for(registry), f"to/{number}") for number, registry in enumerate(registries)]
        assert send_to_all(source, WHOLE, targets) == [SENT] * 3
        for client, path in targets:
            assert b"".join(BlobSource(client, path).download(WHOLE)) == DATA
    log = source_registry.requests_log()[before:]
    assert [(one.method, one.size) for one in log if "/blobs/" in one.path] == [("GET", BLOB.size)]
    assert sum(counts) == 3 * BLOB.size


def test_an_empty_blob_goes_everywhere(hall: Hall, source_registry: DistributionRegistry) -> None:
    empty = images.Blob(b"")
    images.push(source_registry.url, "fanout", images.image([empty]), ["empty"])
    assert hall.send(Descriptor("x/y", empty.digest, 0)) == [SENT] * 3
    assert hall.arrived(b"") == [True] * 3
    assert len(hall.reads()) == 1


@pytest.mark.parametrize(
    "action",
    [answer(403, early=True), answer(500, early=True), cut_upload(1_000_000), cut_upload(1_000_000, reset=True)],
    ids=["403", "500", "cut", "reset"],
)
def test_a_destination_that_refuses_stops_nobody(hall: Hall, action: Action) -> None:
    hall.destinations[1].on("PUT", "", action)
    first, failed, last = hall.send()
    assert (first, last) == (SENT, SENT)
    assert isinstance(failed, ImageSyncError)
    assert failed.temporary or isinstance(failed, Denied)
    assert not failed.tried
    assert hall.arrived() == [True, False, True]
    assert hall.reads() == [None]


def test_a_destination_that_refuses_before_it_gets_anything_stops_nobody(hall: Hall) -> None:
    hall.destinations[0].on("POST", "", answer(403))
    failed, *others = hall.send()
    assert isinstance(failed, Denied)
    assert others == [SENT, SENT]
    assert hall.arrived() == [False, True, True]


def test_a_destination_that_stalls_is_left_behind(hall: Hall) -> None:
    hall.destinations[2].on("PUT", "", stall_upload(300_000))
    *others, failed = hall.send(LARGE_WHOLE)
    assert others == [SENT, SENT]
    assert isinstance(failed, TransportError)
    assert failed.temporary
    assert not failed.tried
    assert hall.arrived(LARGE_BLOB.data) == [True, True, False]
    assert hall.reads() == [None]


def test_a_slow_destination_is_waited_for(hall: Hall) -> None:
    def slowly(exchange: Exchange) -> None:
        def pieces(body: Any) -> Iterator[bytes]:
            for number, piece in enumerate(body):
                if number % 20 == 0:
                    time.sleep(0.02)
                yield piece

        exchange.pass_on(exchange.forward(pieces=pieces))

    hall.destinations[0].on("PUT", "", slowly)
    assert hall.send() == [SENT] * 3
    assert hall.arrived() == [True] * 3
    assert hall.reads() == [None]


def test_a_source_that_lies_gives_nobody_the_last_piece(hall: Hall) -> None:
    hall.source.on("GET", "/blobs/", corrupt(BLOB.size - 10))
    results = hall.send()
    assert [type(one) for one in results] == [DigestMismatch] * 3
    # As with a single destination: once may be a bad wire.
    assert all(isinstance(one, ImageSyncError) and one.temporary and not one.tried for one in results)
    assert hall.arrived() == [False] * 3
    puts = [front.seen("PUT")[0] for front in hall.destinations]
    eventually(lambda: not any(put.under_way for put in puts))  # the fronts may still be reading
    received = [put.received for put in puts]
    assert all(BLOB.size - CHUNK <= one < BLOB.size for one in received)
    assert hall.reads() == [None]


def test_a_source_that_breaks_off_is_resumed_once_for_all(hall: Hall) -> None:
    hall.source.on("GET", "/blobs/", cut_answer(2_000_000), times=1)
    assert hall.send() == [SENT] * 3
    assert hall.arrived() == [True] * 3
    first, second = hall.reads()
    assert first is None
    assert second is not None


def test_a_source_without_the_blob_is_everybodys_failure(hall: Hall) -> None:
    hall.source.on("GET", "/blobs/", answer(404))
    results = hall.send()
    assert [type(one) for one in results] == [NotFound] * 3
    assert hall.source.host in str(results[0])
    assert all(front.seen("PUT") == [] for front in hall.destinations)
    assert len(hall.reads()) == 1


@pytest.mark.parametrize("action", [answer(405), redirect("/elsewhere", 307)], ids=["405", "307"])
def test_a_destination_that_wants_the_blob_anew_gets_it_alone(hall: Hall, action: Action) -> None:
    hall.destinations[1].on("PUT", "", action, times=1)
    targets = hall.targets()
    source = hall.reader()
    first, again, last = send_to_all(source, WHOLE, targets)
    assert (first, last) == (SENT, SENT)
    assert isinstance(again, TransportError)
    assert again.temporary
    assert not again.tried
    client, path = targets[1]
    assert client.put_blob(path, WHOLE, source) == SENT
    assert hall.arrived() == [True] * 3


def test_who_asked_to_be_left_alone_for_long_holds_nobody_up(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "PATIENCE", 0.3)
    targets = hall.targets()
    targets[0][0].limiter.pace.hold(30, targets[0][0].retry)
    targets[1][0].limiter.pace.hold(0.2, targets[1][0].retry)
    begun = time.monotonic()
    held, *others = send_to_all(hall.reader(), WHOLE, targets)
    assert time.monotonic() - begun > 0.15
    assert isinstance(held, RateLimited)
    assert held.temporary
    assert not held.tried
    assert others == [SENT, SENT]
    assert hall.destinations[0].requests == []
    assert len(hall.reads()) == 1


def test_a_source_that_asked_to_be_left_alone_for_long_is_not_asked(hall: Hall) -> None:
    source = hall.reader()
    source.client.limiter.pace.hold(3600, source.client.retry)
    results = send_to_all(source, WHOLE, hall.targets())
    assert all(isinstance(one, RateLimited) and one.tried and one.retry_at for one in results)
    assert [front.requests for front in [hall.source, *hall.destinations]] == [[]] * 4


def test_all_slots_are_held_together_and_given_back(hall: Hall) -> None:
    limiters = [Limiter(1) for _ in range(4)]
    seen: list[list[int]] = []

    def look(exchange: Exchange) -> None:
        seen.append([limiter._in_use for limiter in limiters])
        exchange.pass_on(exchange.forward())

    hall.destinations[2].on("PUT", "", look)
    source = hall.reader(limiter=limiters[0])
    targets = [
        (client_for(front, limiter=limiter), f"{hall.path}-{number}")
        for number, (front, limiter) in enumerate(zip(hall.destinations, limiters[1:], strict=True))
    ]
    assert send_to_all(source, WHOLE, targets) == [SENT] * 3
    assert seen == [[1, 1, 1, 1]]
    assert [limiter._in_use for limiter in limiters] == [0] * 4


def test_fan_outs_from_and_to_the_same_registries_do_not_wait_for_each_other(hall: Hall) -> None:
    limiter = Limiter(2)
    clients = [client_for(front, limiter=limiter) for front in hall.destinations]
    source = hall.reader()

    def one(number: int) -> list[UploadOutcome | ImageSyncError]:
        return send_to_all(source, WHOLE, [(client, f"{hall.path}/{number}") for client in clients])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [[SENT] * 3] * 8


def test_a_run_that_is_stopped_ends_all_within_a_second_or_two(hall: Hall) -> None:
    hall.source.on("GET", "/blobs/", cut_answer(3_000_000, stall=True))
    source, targets = hall.reader(), hall.targets()
    clients = [source.client, *(client for client, _ in targets)]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(send_to_all, source, WHOLE, targets)
        while not all(front.seen("PUT") for front in hall.destinations):
            time.sleep(0.01)
        for client in clients:
            client.retry.cancelled.set()
            client.abort()
        assert [type(one) for one in future.result(5)] == [SyncCancelled] * 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagesync-to-")]


def test_a_mistake_of_ours_is_raised_when_all_have_ended(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = hall.targets()

    def broken(*args: object) -> UploadOutcome:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(targets[1][0], "try_blob", broken)
    with pytest.raises(ValueError, match="a mistake of ours"):
        send_to_all(hall.reader(), WHOLE, targets)
    assert hall.arrived() == [True, False, True]
