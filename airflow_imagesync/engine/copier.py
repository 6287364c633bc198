"""Copies images: blobs first, then the manifests below an index, the tag last.

Everything happens in short pieces of work on the threads of an executor. An image whose blobs are on their
way is not on any thread; the last of them to arrive sets its manifest going.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import groupby

from airflow_imagesync.domain.manifest import MAX_DEPTH, Descriptor, Manifest
from airflow_imagesync.domain.plan import ImagePair
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.engine.blobs import BlobTransfers
from airflow_imagesync.engine.image_work import ImageWork, Node, Siblings
from airflow_imagesync.engine.lanes import Lanes
from airflow_imagesync.engine.later import Later
from airflow_imagesync.engine.needs import BlobNeed, BlobOutcome
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, ImageRecord, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import ContentError, RegistryError, SizeMismatch, SyncCancelled
from airflow_imagesync.registry.retry import STOPPED

logger = logging.getLogger(__name__)


class Copier:
    """Copies images on the threads of `executor`, at most `open_images` of them begun at a time.

    One image to several destinations counts as one. `later` is for waits; `records` and `untagged` are as for
    BlobTransfers.
    """

    def __init__(
        self,
        registries: Registries,
        executor: Lanes,
        progress: Progress,
        cancelled: threading.Event,
        later: Later,
        open_images: int,
        records: Records = NO_RECORDS,
        untagged: Collection[Repository] = (),
    ) -> None:
        self._registries = registries
        self._executor = executor
        self._progress = progress
        self._cancelled = cancelled
        self._records = records
        self._untagged = untagged
        self._blobs = BlobTransfers(registries, executor, progress, later, records, untagged)
        # Manifests of open images are held in memory: their number is bounded, whatever the plan's.
        self._places = threading.Semaphore(open_images)
        self._lock = threading.Lock()
        self._present: set[tuple[Repository, str]] = set()
        self._pending: dict[tuple[Repository, str], list[Node]] = {}

    def copy(self, pairs: Sequence[tuple[ImagePair, Rule]]) -> list[ImageResult]:
        """Copy images and return their results, in the same order; never raises for a registry's fault."""
        results: dict[int, ImageResult] = {}
        all_done = threading.Event()
        self._progress.add(images=len(pairs))

        def finish(position: int, result: ImageResult) -> None:
            image = images[position]
            self._blobs.finished(image.order)
            self._note(image, result)
            self._progress.finished(result)
            if image.siblings.leave(image):
                self._places.release()
            results[position] = result
            if len(results) == len(pairs):
                all_done.set()

        images: dict[int, ImageWork] = {}
        for _, group in groupby(enumerate(pairs), key=lambda one: (one[1][1].index, one[1][0].source)):
            while not self._places.acquire(timeout=0.2) and not self._cancelled.is_set():
                pass
            siblings = Siblings()
            together = [
                ImageWork(pair, rule, siblings, position, partial(finish, position)) for position, (pair, rule) in group
            ]
            images.update((image.order, image) for image in together)
            for image in together:
                self._submit(Node(image, image.destination.reference), self._start)
        if pairs:
            all_done.wait()
        return [results[position] for position in range(len(pairs))]

    def hurry(self) -> None:
        """Hold nothing back any longer; for a run that was told to stop."""
        self._blobs.hurry()

    def _note(self, image: ImageWork, result: ImageResult) -> None:
        """Remember what became of an image."""
        self._records.note_images(
            [
                ImageRecord(
                    destination=result.destination,
                    source=result.source,
                    platforms=image.rule.filter_text,
                    result=result.state.value,
                    source_digest=result.source_digest,
                    digest=result.digest if result.state is not ResultState.FAILED else None,
                    error=result.error,
                )
            ]
        )

    def _submit(self, node: Node, work: Callable[[Node], None]) -> None:
        node.image.begin()
        self._executor.submit(self._guarded, node, work)

    def _guarded(self, node: Node, work: Callable[[Node], None]) -> None:
        """Do a piece of work for a node; what it raises fails the image, and it alone."""
        try:
            if self._cancelled.is_set():
                raise SyncCancelled(STOPPED)
            if node.image.alive:
                work(node)
            else:
                self._finish(node, succeeded=False)
        except BaseException as error:  # noqa: BLE001  # one bad image must not stop the others
            if node.parent is not None or work != self._put:
                node.error = error  # and not where only this tag is refused
            node.image.fail(error)
            self._finish(node, succeeded=False)
        finally:
            node.image.end()

    # The pieces of work, in the order in which a node meets them

    def _start(self, node: Node) -> None:
        """Fetch what the source names now, and leave it at that when the destination has it."""
        image = node.image
        image.source_digest, selected = image.siblings.content(image, self._registries)
        image.rewritten = selected.rewritten
        image.digest = selected.root.digest
        if image.destination.digest not in (None, image.digest):
            raise ContentError(
                f"{image.source} becomes {image.digest} under the platform filter and can't be pushed as "
                f"{image.destination.digest}; give the destination a tag"
            )
        if image.digest == image.pair.destination_digest and not image.rule.force and self._stands(image):
            image.is_same()  # the source's tag has moved since the plan, to what the destination has
            return
        node.manifest = selected.root
        self._enter(node)

    def _stands(self, image: ImageWork) -> bool:
        """Whether the destination's tag names what it should: the plan may be old."""
        repository = image.destination.repository
        head = self._registries.client(repository).head_manifest(repository.path, image.destination.reference)
        return head is not None and head.digest == image.digest

    def _enter(self, node: Node) -> None:
        """Bring a node to the destination unless it is there or on its way already."""
        key = node.key
        with self._lock:
            present = key in self._present
            if not present and key in self._pending:
                node.image.begin()  # kept when the other one is through
                self._pending[key].append(node)
                return
            if not present:
                self._pending[key] = []
                node.leads = True
        repository, digest = key
        # Where there is no tag, an interrupted run may have left manifests: to put one again costs no more than to ask.
        ask = not (self._records.lasting and repository in self._untagged)
        if not present and ask and not node.image.rule.force:
            present = self._registries.client(repository).head_manifest(repository.path, digest) is not None
        if present:
            self._is_present(node)
            return
        if node.again:
            self._forget(node, _references(self._fetch(node)))
        self._descend(node)

    def _is_present(self, node: Node) -> None:
        """Go on with a node whose content is at the destination: only a root's tag is missing."""
        repository, image = node.image.destination.repository, node.image
        self._blobs.withdraw(image.source.repository, image.siblings.not_wanting(node), image.order)
        if node.manifest is not None:
            for blob in node.manifest.blobs:
                image.count(BlobOutcome.SKIPPED, blob.size)
            self._there(repository, node.manifest)
        if node.parent is None:
            self._fetch(node)
            self._put(node)
        else:
            self._finish(node, succeeded=True)

    def _there(self, repository: Repository, manifest: Manifest) -> None:
        """Note that a destination has a manifest, and with it everything that it refers to."""
        self._blobs.has(repository, [blob.digest for blob in manifest.blobs])
        with self._lock:
            self._present.update((repository, child.digest) for child in manifest.children if child.is_manifest)

    def _fetch(self, node: Node) -> Manifest:
        """Return a node's manifest, from the source unless the filter made it."""
        if node.manifest is None:
            descriptor, image, digest = node.descriptor, node.image, node.digest
            node.manifest = image.rewritten.get(digest)
            if node.manifest is None:
                repository = image.source.repository
                node.manifest = self._registries.client(repository).get_manifest(repository.path, digest)
            if descriptor is not None and node.manifest.size != descriptor.size:
                raise SizeMismatch(
                    f"{image.source.repository}@{digest} has {node.manifest.size} bytes "
                    f"where its index says {descriptor.size}"
                )
        return node.manifest

    def _descend(self, node: Node) -> None:
        """Set everything going that a manifest refers to."""
        manifest, image = self._fetch(node), node.image
        if node.depth > MAX_DEPTH:
            raise ContentError(f"manifest {manifest.digest} is nested deeper than {MAX_DEPTH} indexes")
        children = {child.digest: child for child in manifest.children if child.is_manifest}.values()
        # One more than there is, so that what is quick can't end the node while it is still being set up.
        node.waiting = len(manifest.blobs) + len(children) + 1
        needs = []
        for blob in manifest.blobs:
            image.begin()
            needs.append(
                BlobNeed(
                    blob,
                    image.source.repository,
                    image.destination.repository,
                    done=partial(self._blob_arrived, node, blob),
                    wanted=lambda: image.alive and not self._cancelled.is_set(),
                    order=image.order,
                )
            )
        if needs:
            self._blobs.bring(needs, image.siblings.wanting(node))
        for child in children:
            self._submit(Node(image, child.digest, child, node, node.depth + 1, again=node.again), self._enter)
        self._arrived(node)

    def _blob_arrived(self, node: Node, blob: Descriptor, outcome: BlobOutcome | BaseException) -> None:
        if isinstance(outcome, BlobOutcome):
            if not (node.again and outcome is BlobOutcome.SKIPPED):  # that was counted the first time
                node.image.count(outcome, blob.size)
        else:
            node.error = node.error or outcome
            node.image.fail(outcome)
        self._arrived(node)
        node.image.end()

    def _arrived(self, node: Node) -> None:
        """Count one thing that a node waited for; after the last one its manifest can go."""
        with node.lock:
            node.waiting -= 1
            complete = node.waiting == 0
        if complete and node.image.alive:
            self._submit(node, self._put)
        elif complete:
            self._finish(node, succeeded=False)

    def _put(self, node: Node) -> None:
        repository, manifest = node.image.destination.repository, self._fetch(node)
        try:
            self._registries.client(repository).put_manifest(repository.path, node.reference, manifest)
        except RegistryError as error:
            if not error.misses_blobs:
                raise
            known = _references(manifest)
            missing = [digest for digest in error.digests if digest in known] or list(known)
            if node.again:
                raise error.with_advice(f"it was sent {_some(missing)} and does not find it") from error
            # Lost there, or never seen by the one of several servers that answers now.
            logger.info("bringing %s to %s again: %s", _some(missing), repository, error)
            node.again = True
            self._forget(node, missing)
            self._descend(node)
            return
        self._there(repository, manifest)
        self._finish(node, succeeded=True)

    def _forget(self, node: Node, digests: Sequence[str]) -> None:
        """Believe no longer that the destination has these blobs and manifests."""
        repository = node.image.destination.repository
        self._blobs.forget(repository, digests)
        with self._lock:
            self._present.difference_update((repository, digest) for digest in digests)

    def _finish(self, node: Node, *, succeeded: bool) -> None:
        """End a node: go on with those that waited for the same content, and with the index above."""
        with node.lock:
            if node.finished:
                return
            node.finished = True
        with self._lock:
            followers = self._pending.pop(node.key) if node.leads else []
            if succeeded:
                self._present.add(node.key)
        error = node.error if not isinstance(node.error, SyncCancelled) else None
        for follower in followers:
            if error is not None and follower.image.source.repository == node.image.source.repository:
                follower.error = error
                follower.image.fail(error)
            # Found present after a success; after another's failure the first of them tries from its own source.
            self._submit(follower, self._enter)
            follower.image.end()
        if node.parent is not None:
            node.parent.error = node.parent.error or error
            self._arrived(node.parent)


def _references(manifest: Manifest) -> list[str]:
    """Return the digests of everything that a manifest refers to and that is copied with it."""
    return list(dict.fromkeys(one.digest for one in (*manifest.blobs, *manifest.children)))


def _some(digests: Sequence[str]) -> str:
    shown = ", ".join(digests[:3])
    return f"{shown} and {len(digests) - 3} more" if len(digests) > 3 else shown
