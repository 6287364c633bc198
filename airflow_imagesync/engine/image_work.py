"""One image on its way to a destination: what it waits for, what it has cost, and its manifests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_imagesync.domain.manifest import Descriptor, Manifest
from airflow_imagesync.domain.plan import ImagePair
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.engine.blobs import BlobOutcome
from airflow_imagesync.engine.planner import describe, is_temporary, retry_time


class ImageWork:
    """One image on its way, with what it has cost so far."""

    def __init__(self, pair: ImagePair, rule: Rule, finish: Callable[[ImageResult], None]) -> None:
        self.pair = pair
        self.rule = rule
        self.source, self.destination = pair.images
        self.rewritten: dict[str, Manifest] = {}
        self.source_digest = pair.source_digest
        self.digest: str | None = None
        self._finish = finish
        self._started = time.monotonic()
        self._bytes = dict.fromkeys(BlobOutcome, 0)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._same = False
        # Pieces of work that are under way or promised; the result is ready when none is left.
        self._open = 0

    @property
    def alive(self) -> bool:
        """Whether the image has not failed."""
        return self._error is None

    def begin(self) -> None:
        """Promise a piece of work."""
        with self._lock:
            self._open += 1

    def end(self) -> None:
        """Keep one promise; with the last one the image is finished."""
        with self._lock:
            self._open -= 1
            finished = self._open == 0
        if finished:
            self._finish(self._result())

    def fail(self, error: BaseException) -> None:
        """Note why the image fails; the first reason counts."""
        with self._lock:
            self._error = self._error or error

    def count(self, outcome: BlobOutcome, size: int) -> None:
        """Credit a blob's bytes to this image."""
        with self._lock:
            self._bytes[outcome] += size

    def is_same(self) -> None:
        """Note that there was nothing to do."""
        self._same = True

    def _result(self) -> ImageResult:
        error = self._error
        state = ResultState.FAILED if error else ResultState.SAME if self._same else ResultState.COPIED
        note = None
        if state is not ResultState.FAILED and self.digest != self.source_digest:
            note = "the platform filter changes the digest"
        return ImageResult(
            rule=self.pair.rule,
            source=self.pair.source,
            destination=self.pair.destination,
            state=state,
            source_digest=self.source_digest,
            digest=self.digest if error is None else self.pair.destination_digest,
            bytes_copied=self._bytes[BlobOutcome.COPIED],
            bytes_mounted=self._bytes[BlobOutcome.MOUNTED],
            bytes_skipped=self._bytes[BlobOutcome.SKIPPED],
            seconds=time.monotonic() - self._started,
            error=describe(error) if error is not None else None,
            temporary=is_temporary(error) if error is not None else False,
            retry_at=retry_time(error) if error is not None else None,
            note=note,
        )


@dataclass
class Node:
    """A manifest of an image: what it waits for, and what waits for it.

    ``reference`` is what it is put under: the tag for the root, the digest below it. ``descriptor`` is how its index
    refers to it, None for the root.
    """

    image: ImageWork
    reference: str
    descriptor: Descriptor | None = None
    parent: Node | None = None
    depth: int = 1
    manifest: Manifest | None = None
    waiting: int = 0
    #: Whether others may wait for this node's content.
    leads: bool = False
    finished: bool = False
    #: Whether the registry did not know, of what had been brought there, what this manifest refers to.
    again: bool = False
    #: Why this content can't be brought; None where only its image failed, for another reason.
    error: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def digest(self) -> str:
        """The digest of the manifest; of the root, only once that was fetched."""
        if self.descriptor is not None:
            return self.descriptor.digest
        return self.manifest.digest if self.manifest is not None else self.reference

    @property
    def key(self) -> tuple[Repository, str]:
        """What this node brings into being: a digest in a repository."""
        return self.image.destination.repository, self.digest
