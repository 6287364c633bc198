"""Images on their way to destinations: what they wait for, what they have cost, and their manifests."""

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
from airflow_imagesync.engine.failures import describe, is_temporary, missing_source, retry_time
from airflow_imagesync.engine.needs import BlobOutcome
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.engine.selection import Selected, select_platforms
from airflow_imagesync.errors import NotFound


class Siblings:
    """The images that one rule makes of one source image: they differ in their destinations alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._content: tuple[str, Selected] | BaseException | None = None
        self._alive: dict[int, Repository] = {}
        self._there: dict[str, set[int]] = {}
        self._blobs: dict[str, list[str]] = {}

    def join(self, image: ImageWork) -> None:
        """Let an image be one of them."""
        self._alive[image.order] = image.destination.repository

    def leave(self, image: ImageWork) -> bool:
        """Note that an image has ended; return whether it was the last one."""
        with self._lock:
            del self._alive[image.order]
            return not self._alive

    def content(self, image: ImageWork, registries: Registries) -> tuple[str, Selected]:
        """Return the digest that the source names now, and what the platform filter leaves; asked for once for all.

        Raises NotFound for a source that is not there, and what the registry answers.
        """
        with self._fetching:
            if self._content is None:
                try:
                    self._content = self._fetch(image, registries)
                except BaseException as error:  # noqa: BLE001  # it is the answer for the others, too
                    self._content = error
            if isinstance(self._content, BaseException):
                raise self._content
            return self._content

    def _fetch(self, image: ImageWork, registries: Registries) -> tuple[str, Selected]:
        source, expected = image.source, image.pair.source_digest
        client, path = registries.client(source.repository), source.repository.path
        asked = expected is not None
        if not asked and client.counts_pulls:
            # A HEAD is free there, and tells which tags are one image, which is pulled once.
            head = client.head_manifest(path, source.reference)
            if head is None:
                raise missing_source(source)
            expected = head.digest
        try:
            root = client.get_manifest(path, source.reference, expected)
        except NotFound as error:
            if not asked:
                raise missing_source(source) from error
            raise
        return root.digest, select_platforms(client, path, root, image.rule.platforms)

    def wanting(self, node: Node) -> dict[int, Repository]:
        """Return the destinations that may want the blobs of a manifest, `node`'s own included, by the image's order.

        Empty where there is only one.
        """
        blobs = [one.digest for one in node.manifest.blobs] if node.manifest is not None else []
        with self._lock:
            self._blobs[node.digest] = blobs
            there = self._there.get(node.digest, ())
            wanting = {order: to for order, to in self._alive.items() if order not in there}
        return wanting if len(wanting) > 1 else {}

    def not_wanting(self, node: Node) -> list[str]:
        """Note that a destination has a manifest; return those of its blobs that others were told it may want."""
        with self._lock:
            self._there.setdefault(node.digest, set()).add(node.image.order)
            return self._blobs.get(node.digest, [])


class ImageWork:
    """One image on its way, with what it has cost so far; `order` is its number among those of the run."""

    def __init__(
        self, pair: ImagePair, rule: Rule, siblings: Siblings, order: int, finish: Callable[[ImageResult], None]
    ) -> None:
        self.pair = pair
        self.rule = rule
        self.siblings = siblings
        self.order = order
        self.source, self.destination = pair.images
        self.rewritten: dict[str, Manifest] = {}
        self.source_digest = pair.source_digest
        self.digest: str | None = None
        siblings.join(self)
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
