from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.engine.blobs import BlobTransfers
from airflow_imagesync.engine.lanes import Lanes
from airflow_imagesync.engine.later import Later
from airflow_imagesync.engine.needs import BlobNeed, BlobOutcome
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import NotFound, SyncCancelled
from devtools import images
from tests.support.clients import SHORT, login_for, quick
from tests.support.faults import answer
from tests.support.front import Front
from tests.support.world import World, kinds

BLOB = images.layer(50_000, "blobs")
DESCRIPTOR = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)


class Transfers:
    """Blob transfers on a few threads, and what came of each need, in the order in which they ended."""

    def __init__(self, world: World) -> None:
        config = SyncConfig(logins=(login_for(world.source), login_for(world.destination)))
        self.registries = Registries(config, quick(0), SHORT)
        self.executor = Lanes(4)
        self.later = Later()
        self.progress = Progress()
        self.transfers = BlobTransfers(self.registries, self.executor, self.progress, self.later)
        self.outcomes: list[tuple[str, object]] = []
        self._world = world
        self._open = threading.Semaphore(0)
        self._needs = 0

    def need(
        self,
        to: str,
        *,
        source: str = "app",
        front: Front | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Need the blob in a repository of the destination."""

        def done(outcome: object) -> None:
            self.outcomes.append((to, outcome if isinstance(outcome, BlobOutcome) else type(outcome)))
            self._open.release()

        self._needs += 1
        world = self._world
        source_repository = world.at(front or world.source, source)
        self.transfers.bring(
            [BlobNeed(DESCRIPTOR, source_repository, world.at(world.destination, to), done=done, wanted=wanted)]
        )

    def wait(self) -> Counter[object]:
        """Wait for all and return how many ended in which way."""
        for _ in range(self._needs):
            assert self._open.acquire(timeout=20), f"only {self.outcomes} have ended"
        self._needs = 0
        return Counter(outcome for _, outcome in self.outcomes)


@pytest.fixture
def transfers(world: World) -> Iterator[Transfers]:
    world.push(images.image([BLOB]), "v1")
    transfers = Transfers(world)
    yield transfers
    transfers.executor.shutdown()


def test_a_blob_that_many_images_need_is_sent_once_to_a_repository(world: World, transfers: Transfers) -> None:
    for _ in range(10):
        transfers.need("a")
    assert transfers.wait() == {BlobOutcome.COPIED: 1, BlobOutcome.SKIPPED: 9}
    assert kinds(world.destination) == Counter({"HEAD blob": 1, "POST upload": 1, "PUT upload": 1})
    assert kinds(world.source) == Counter({"GET blob": 1})


def test_a_blob_that_many_repositories_need_is_sent_once_and_mounted(world: World, transfers: Transfers) -> None:
    for number in range(8):
        transfers.need(f"r{number}")
        transfers.need(f"r{number}")
    assert transfers.wait() == {BlobOutcome.COPIED: 1, BlobOutcome.MOUNTED: 7, BlobOutcome.SKIPPED: 8}
    assert kinds(world.source) == Counter({"GET blob": 1})
    assert kinds(world.destination)["PUT upload"] == 1


def test_a_blob_that_is_there_is_only_looked_for(world: World, transfers: Transfers) -> None:
    world.push(images.image([BLOB]), "v1", name="a", front=world.destination)
    transfers.need("a")
    assert transfers.wait() == {BlobOutcome.SKIPPED: 1}
    transfers.need("a")
    transfers.need("b")
    assert transfers.wait() == {BlobOutcome.SKIPPED: 2, BlobOutcome.MOUNTED: 1}
    assert kinds(world.destination) == Counter({"HEAD blob": 2, "POST upload": 1})
    assert world.source.requests == []


def test_within_one_registry_a_blob_is_mounted_from_the_source(world: World, transfers: Transfers) -> None:
    world.push(images.image([BLOB]), "v1", name="here", front=world.destination)
    transfers.need("there", source="here", front=world.destination)
    assert transfers.wait() == {BlobOutcome.MOUNTED: 1}
    assert kinds(world.destination) == Counter({"HEAD blob": 1, "POST upload": 1})


def test_within_one_repository_a_blob_is_there_already(world: World, transfers: Transfers) -> None:
    world.push(images.image([BLOB]), "v1", name="here", front=world.destination)
    transfers.need("here", source="here", front=world.destination)
    assert transfers.wait() == {BlobOutcome.SKIPPED: 1}


# Failures


def test_those_who_wait_for_the_same_transfer_share_its_failure(world: World, transfers: Transfers) -> None:
    world.source.on("GET", "/blobs/", answer(404, after=0.2))
    for _ in range(5):
        transfers.need("a")
    assert transfers.wait() == {NotFound: 5}
    assert len(world.source.requests) == 1


def test_those_with_another_source_try_for_themselves_when_the_first_fails(world: World, transfers: Transfers) -> None:
    world.push(images.image([BLOB]), "v1", name="other")
    world.source.on("GET", "/app/blobs/", answer(404, after=0.2))
    transfers.need("a")
    for _ in range(3):
        transfers.need("a", source="other")
    assert transfers.wait() == {NotFound: 1, BlobOutcome.COPIED: 1, BlobOutcome.SKIPPED: 2}


def test_those_with_another_repository_try_for_themselves_when_the_first_fails(
    world: World, transfers: Transfers
) -> None:
    world.destination.on("POST", "/forbidden/", answer(404, after=0.2))
    transfers.need("forbidden")
    for _ in range(3):
        transfers.need("a")
    assert transfers.wait() == {NotFound: 1, BlobOutcome.COPIED: 1, BlobOutcome.SKIPPED: 2}


def test_a_failure_is_not_remembered(world: World, transfers: Transfers) -> None:
    world.source.on("GET", "/blobs/", answer(404), times=1)
    transfers.need("a")
    assert transfers.wait() == {NotFound: 1}
    transfers.need("a")
    assert transfers.wait() == {NotFound: 1, BlobOutcome.COPIED: 1}


def test_an_image_that_was_given_up_does_not_take_others_with_it(world: World, transfers: Transfers) -> None:
    transfers.need("a", wanted=lambda: False)
    transfers.need("a")
    transfers.need("b")
    found = transfers.wait()
    assert found[SyncCancelled] == 1
    assert found[BlobOutcome.COPIED] == 1


def test_a_mount_that_is_refused_becomes_an_upload(world: World, transfers: Transfers) -> None:
    world.destination.on("POST", "mount=", answer(405))
    for name in ("a", "b", "b"):
        transfers.need(name)
    assert transfers.wait() == {BlobOutcome.COPIED: 2, BlobOutcome.SKIPPED: 1}


# Counting


def test_bytes_are_counted_as_expected_and_moved(world: World, transfers: Transfers) -> None:
    for name in ("a", "a", "b"):
        transfers.need(name)
    transfers.wait()
    snapshot = transfers.progress.snapshot()
    assert snapshot.bytes_expected == snapshot.bytes_moved == 2 * BLOB.size


def test_bytes_that_will_not_come_are_expected_no_more(world: World, transfers: Transfers) -> None:
    world.source.on("GET", "/blobs/", answer(404))
    transfers.need("a")
    transfers.wait()
    assert transfers.progress.snapshot().bytes_expected == 0
