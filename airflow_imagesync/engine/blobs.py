"""Brings blobs into destination repositories, each one once.

A blob that several images of a run need is sent once to a registry, and mounted into the other
repositories there. Images that need a blob somebody else is bringing wait for it without holding a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import ImageSyncError, SyncCancelled
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.retry import STOPPED


class BlobOutcome(StrEnum):
    """How a blob came to be at the destination."""

    COPIED = "copied"
    MOUNTED = "mounted"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class BlobNeed:
    """A blob that an image needs at a destination.

    `done` is called from one of the executor's threads, or at once, with the outcome or the error. `wanted` says
    whether anybody still waits: an image that failed meanwhile does not.
    """

    descriptor: Descriptor
    source: Repository
    destination: Repository
    done: Callable[[BlobOutcome | BaseException], None]
    wanted: Callable[[], bool]


@dataclass
class _Blob:
    """What is known of one blob in one destination registry."""

    #: Repositories that have it.
    homes: set[str] = field(default_factory=set)
    #: Repositories it is being brought into, each with the needs that wait for that.
    running: dict[str, list[BlobNeed]] = field(default_factory=dict)
    #: Needs of other repositories, which wait for a first home to mount it from.
    parked: list[BlobNeed] = field(default_factory=list)


class BlobTransfers:
    """Remembers where blobs are and which are on their way, over all images of a run."""

    def __init__(self, registries: Registries, executor: Executor, progress: Progress) -> None:
        self._registries = registries
        self._executor = executor
        self._progress = progress
        self._blobs: dict[tuple[str, str], _Blob] = {}
        self._lock = threading.Lock()

    def bring(self, need: BlobNeed) -> None:
        """See to it that the blob comes to be at its destination, and return at once."""
        path = need.destination.path
        with self._lock:
            blob = self._blobs.setdefault((need.destination.registry, need.descriptor.digest), _Blob())
            here = path in blob.homes
            if not here:
                if path in blob.running:
                    blob.running[path].append(need)
                    return
                if blob.running and not blob.homes:
                    blob.parked.append(need)
                    return
                blob.running[path] = []
        if here:
            need.done(BlobOutcome.SKIPPED)
        else:
            self._executor.submit(self._run, need, blob)

    def forget(self, repository: Repository, digests: Iterable[str]) -> None:
        """Believe no longer that `repository` has these blobs: the next need of one asks the registry."""
        with self._lock:
            for digest in digests:
                blob = self._blobs.get((repository.registry, digest))
                if blob is not None:
                    blob.homes.discard(repository.path)

    def _run(self, need: BlobNeed, blob: _Blob) -> None:
        outcome: BlobOutcome | BaseException
        try:
            if not need.wanted():
                raise SyncCancelled(STOPPED)  # or the image failed meanwhile, and says why itself
            outcome = self._transfer(need, blob)
        except BaseException as error:  # noqa: BLE001  # the images that wait must be told, whatever it was
            outcome = error
        with self._lock:
            followers = blob.running.pop(need.destination.path)
            if isinstance(outcome, BlobOutcome):
                blob.homes.add(need.destination.path)
            followers += blob.parked
            blob.parked = []
        need.done(outcome)
        failed = isinstance(outcome, ImageSyncError) and not isinstance(outcome, SyncCancelled)
        for follower in followers:
            if failed and (follower.source, follower.destination) == (need.source, need.destination):
                follower.done(outcome)
            else:
                # After a success they find it or mount it. After a failure each tries for itself, since what failed
                # may be the other one's source, or its repository.
                self.bring(follower)

    def _transfer(self, need: BlobNeed, blob: _Blob) -> BlobOutcome:
        descriptor, path = need.descriptor, need.destination.path
        destination = self._registries.client(need.destination)
        if destination.has_blob(path, descriptor.digest):
            return BlobOutcome.SKIPPED
        with self._lock:
            mount_from = next(iter(blob.homes), None)
        if mount_from is None and need.source.registry == need.destination.registry and need.source.path != path:
            mount_from = need.source.path
        self._progress.add(bytes_expected=descriptor.size)
        source = BlobSource(
            self._registries.client(need.source), need.source.path, lambda count: self._progress.add(bytes_moved=count)
        )
        try:
            outcome = destination.put_blob(path, descriptor, source, mount_from)
        except BaseException:
            self._progress.add(bytes_expected=-descriptor.size)
            raise
        if outcome.mounted:
            self._progress.add(bytes_moved=descriptor.size)
            return BlobOutcome.MOUNTED
        return BlobOutcome.COPIED
