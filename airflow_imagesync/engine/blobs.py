"""Brings blobs into destination repositories, each one once.

A blob that several images need is sent once to a registry and mounted into the other repositories there: images of
this run, of earlier ones (by the records), and of other tasks that run now. Images that need a blob somebody else is
bringing wait for it without holding a thread. To several registries it is sent with one read of the source.

Limits of that: other tasks are known only through a shared database of records, and of blobs of at least LARGE bytes,
which are worth a look there. Between tasks, a registry that mounts only what a manifest refers to gets a blob twice
when both begin before the first has put its manifest. A destination that is slow to answer is waited for a few seconds
and then reads the source for itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.gathering import Gatherings
from airflow_imagesync.engine.lanes import Lanes
from airflow_imagesync.engine.later import Later
from airflow_imagesync.engine.mounts import Mounting, Mounts
from airflow_imagesync.engine.needs import BlobNeed, BlobOutcome
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, KnownBlob, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import ImageSyncError, SyncCancelled
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.fanout import send_to_all
from airflow_imagesync.registry.limiter import LARGE
from airflow_imagesync.registry.retry import STOPPED

logger = logging.getLogger(__name__)

#: How often it is asked whether another task has brought a blob, in seconds.
LOOK_EVERY = 1.0

#: What the records say of a blob that they do not know.
_UNKNOWN = KnownBlob()

_Result = BlobOutcome | BaseException


@dataclass(eq=False)
class _Blob:
    """What this run knows of one blob in one destination registry."""

    #: Paths of the repositories that have it, and whether a manifest there refers to it.
    homes: dict[str, bool] = field(default_factory=dict)
    #: Repositories it is being brought into, each with the needs that wait for that.
    running: dict[str, list[BlobNeed]] = field(default_factory=dict)
    #: Needs of other repositories, which wait for a first home to mount it from.
    parked: list[BlobNeed] = field(default_factory=list)
    #: Needs that wait until the image that brought it has put its manifest, where nothing else is mounted.
    unreferenced: list[BlobNeed] = field(default_factory=list)
    #: The order of that image, while it is under way.
    bringer: int | None = None

    def take_unreferenced(self) -> list[BlobNeed]:
        """Return the needs that wait for a manifest, which they do no longer."""
        needs, self.unreferenced = self.unreferenced, []
        return needs


class BlobTransfers:
    """Remembers where blobs are and which are on their way, over all images of a run.

    `records` are what other runs know, `later` is for waits, and `untagged` has the destination repositories that have
    no tag: nothing is in them but what an interrupted run left, which the records know.
    """

    def __init__(
        self,
        registries: Registries,
        executor: Lanes,
        progress: Progress,
        later: Later,
        records: Records = NO_RECORDS,
        untagged: Collection[Repository] = (),
    ) -> None:
        self._registries = registries
        self._executor = executor
        self._progress = progress
        self._later = later
        self._records = records
        self._untagged = untagged
        self._mounts = Mounts()
        self._gatherings = Gatherings(self._send_soon, later)
        self._blobs: dict[tuple[str, str], _Blob] = {}
        #: The blobs that each image has brought, by its order, until it ends.
        self._brought: dict[int, set[_Blob]] = {}
        self._lock = threading.Lock()

    def bring(self, needs: Sequence[BlobNeed], siblings: Mapping[int, Repository] | None = None) -> None:
        """See to it that the blobs come to be at their destination, and return at once.

        `needs` are those of one manifest. `siblings` are the destinations that the same manifest goes to, by the
        order of the image.
        """
        if siblings:
            self._gatherings.promise(needs[0].source, [one.descriptor.digest for one in needs], siblings)
        known = self._known(needs)
        here: list[BlobNeed] = []
        waiting: list[BlobNeed] = []
        leading: list[tuple[BlobNeed, _Blob]] = []
        with self._lock:
            for need in needs:
                blob = self._blobs.setdefault((need.destination.registry, need.descriptor.digest), _Blob())
                path = need.destination.path
                elsewhere = known.get(need.descriptor.digest, _UNKNOWN).home
                if path in blob.homes:
                    here.append(need)
                elif path in blob.running:
                    blob.running[path].append(need)
                    waiting.append(need)
                elif blob.running and not blob.homes and elsewhere is None:
                    blob.parked.append(need)
                    waiting.append(need)
                else:
                    blob.running[path] = []
                    leading.append((need, blob))
        for need in (*here, *waiting):
            self._withdraw(need)
        for need in here:
            need.done(BlobOutcome.SKIPPED)
        for need, blob in leading:
            self._executor.submit(self._lead, need, blob, known.get(need.descriptor.digest, _UNKNOWN))

    def withdraw(self, source: Repository, digests: Iterable[str], order: int) -> None:
        """Note that an image whose manifest is there already does not need these blobs of it."""
        self._gatherings.withdraw(source, digests, order)

    def has(self, repository: Repository, digests: Iterable[str]) -> None:
        """Note that a manifest in `repository` refers to these blobs, so that they are there and can be mounted."""
        digests = list(digests)
        self._records.note_blobs(repository, digests, referenced=True)
        freed: list[BlobNeed] = []
        with self._lock:
            for digest in digests:
                blob = self._blobs.setdefault((repository.registry, digest), _Blob())
                blob.homes[repository.path] = True
                freed += blob.take_unreferenced()
        for need in freed:
            self.bring([need])

    def finished(self, order: int) -> None:
        """Note that an image has ended, so that nobody waits for what it may have brought."""
        self._gatherings.finished(order)
        freed: list[BlobNeed] = []
        with self._lock:
            for blob in self._brought.pop(order, ()):
                if blob.bringer == order:
                    blob.bringer = None
                freed += blob.take_unreferenced()
        for need in freed:
            self.bring([need])

    def forget(self, repository: Repository, digests: Iterable[str]) -> None:
        """Believe no longer that `repository` has these blobs: the next need of one asks the registry."""
        digests = list(digests)
        with self._lock:
            for digest in digests:
                blob = self._blobs.get((repository.registry, digest))
                if blob is not None:
                    blob.homes.pop(repository.path, None)
        self._records.forget_blobs(repository, digests)

    def hurry(self) -> None:
        """Hold nothing back any longer; for a run that was told to stop."""
        self._gatherings.hurry()

    def _known(self, needs: Sequence[BlobNeed]) -> Mapping[str, KnownBlob]:
        """Return what the records know of these blobs, where this run does not know it better."""
        if not self._records.lasting or not needs:
            return {}
        to = needs[0].destination
        with self._lock:
            unknown = [
                one.descriptor.digest
                for one in needs
                if (blob := self._blobs.get((to.registry, one.descriptor.digest))) is None or not blob.homes
            ]
        return self._records.blobs(to, unknown) if unknown else {}

    def _withdraw(self, need: BlobNeed) -> None:
        self._gatherings.withdraw(need.source, (need.descriptor.digest,), need.order)

    # What becomes of the need that leads, for one blob and repository

    def _lead(self, need: BlobNeed, blob: _Blob, known: KnownBlob) -> None:
        """Find out whether a blob must be sent, and see that it is."""
        try:
            if not need.wanted():
                raise SyncCancelled(STOPPED)  # or the image failed meanwhile, and says why itself
            result: _Result | None = self._without_sending(need, blob, known)
            if result is None:
                if self._waits_for_manifest(need, blob):
                    self._withdraw(need)
                    return
                if not self._claim(need):
                    logger.info("waiting for another task, which brings %s", need.descriptor.digest)
                    self._withdraw(need)
                    self._look_later(need, blob)
                    return
        except BaseException as error:  # noqa: BLE001  # the images that wait must be told, whatever it was
            result = error
        if result is None:
            together = self._gatherings.ready(need)
            if len(together) == 1 and need.descriptor.size < LARGE:
                self._send(together)
            elif together:
                self._send_soon(together)
        else:
            self._withdraw(need)
            self._settle(need, result)

    def _without_sending(self, need: BlobNeed, blob: _Blob, known: KnownBlob) -> BlobOutcome | None:
        """Return how the blob got there by itself or by a mount; None when it must be sent."""
        descriptor, to = need.descriptor, need.destination
        # What a small one costs is no more than to ask for it.
        ask = known.here or descriptor.size >= LARGE or not self._records.lasting or to not in self._untagged
        if ask and self._registries.client(to).has_blob(to.path, descriptor.digest):
            return BlobOutcome.SKIPPED
        if known.here:
            self._records.forget_blobs(to, (descriptor.digest,))
        home = self._home(need, blob, known)
        if home is None:
            return None
        outcome = self._put(need, home)
        mounted = outcome is BlobOutcome.MOUNTED
        with self._lock:
            referenced = blob.homes.get(home)
        if referenced is not None:
            self._mounts.learn(to.registry, referenced=referenced, mounted=mounted)
        elif not mounted and home in (known.home, known.referenced):
            self._records.forget_blobs(Repository(to.registry, home), (descriptor.digest,))
        return outcome

    def _home(self, need: BlobNeed, blob: _Blob, known: KnownBlob) -> str | None:
        """Return the path of a repository that a blob may be mounted from."""
        to = need.destination
        mounting = self._mounts.of(to.registry)
        if mounting is Mounting.NOTHING:
            return None
        with self._lock:
            homes = [path for path, referenced in blob.homes.items() if referenced or mounting is Mounting.ANYTHING]
        if need.source.registry == to.registry:
            homes.append(need.source.path)
        homes += [one for one in (known.referenced, known.home) if one is not None]
        return next((path for path in homes if path != to.path), None)

    def _waits_for_manifest(self, need: BlobNeed, blob: _Blob) -> bool:
        """Whether a blob that is in the registry is waited for until it can be mounted.

        Only for images that began earlier, so that no two wait for each other.
        """
        if self._mounts.of(need.destination.registry) is not Mounting.REFERENCED:
            return False
        with self._lock:
            unreferenced = bool(blob.homes) and not any(blob.homes.values())
            waits = unreferenced and blob.bringer is not None and blob.bringer < need.order
            if waits:
                followers = blob.running.pop(need.destination.path)
                blob.unreferenced += [need, *followers]
        return waits

    def _claim(self, need: BlobNeed) -> bool:
        return need.descriptor.size < LARGE or self._records.claim(need.destination.registry, need.descriptor.digest)

    def _look_later(self, need: BlobNeed, blob: _Blob) -> None:
        self._later.call(LOOK_EVERY, lambda: self._executor.submit(self._look_again, need, blob))

    def _look_again(self, need: BlobNeed, blob: _Blob) -> None:
        """Go on with a need when the other task is done with its blob."""
        if need.wanted() and not self._claim(need):
            self._look_later(need, blob)
            return
        known = self._records.blobs(need.destination, (need.descriptor.digest,))
        self._lead(need, blob, known.get(need.descriptor.digest, _UNKNOWN))

    # Sending

    def _send_soon(self, needs: list[BlobNeed]) -> None:
        self._executor.submit_large(needs[0].descriptor.size, self._send, needs)

    def _send(self, needs: list[BlobNeed]) -> None:
        """Send one blob to the destinations of all of `needs`."""
        wanted = [need for need in needs if need.wanted()]
        for need in needs:
            if need not in wanted:
                self._settle(need, SyncCancelled(STOPPED))
        if len(wanted) > 1:
            wanted = self._send_together(wanted)
        for need in wanted:
            result: _Result
            try:
                result = self._put(need, None)
            except BaseException as error:  # noqa: BLE001  # the images that wait must be told, whatever it was
                result = error
            self._settle(need, result)

    def _send_together(self, needs: list[BlobNeed]) -> list[BlobNeed]:
        """Send a blob to several destinations at once; return those that are to be tried again alone."""
        descriptor = needs[0].descriptor
        self._progress.add(bytes_expected=descriptor.size * len(needs))
        targets = [(self._registries.client(one.destination), one.destination.path) for one in needs]
        try:
            results: Sequence[object] = send_to_all(self._source(needs[0]), descriptor, targets)
        except BaseException as error:  # noqa: BLE001  # as above
            results = [error] * len(needs)
        again = []
        for need, result in zip(needs, results, strict=True):
            if not isinstance(result, BaseException):
                self._settle(need, BlobOutcome.COPIED)
                continue
            self._progress.add(bytes_expected=-descriptor.size)
            if isinstance(result, ImageSyncError) and result.temporary and not result.tried:
                logger.info("sending %s to %s alone: %s", descriptor.digest, need.destination, result)
                again.append(need)
            else:
                self._settle(need, result)
        for need in again[1:]:
            self._executor.submit_large(descriptor.size, self._send, [need])
        return again[:1]

    def _source(self, need: BlobNeed) -> BlobSource:
        return BlobSource(
            self._registries.client(need.source), need.source.path, lambda count: self._progress.add(bytes_moved=count)
        )

    def _put(self, need: BlobNeed, mount_from: str | None) -> BlobOutcome:
        size = need.descriptor.size
        self._progress.add(bytes_expected=size)
        try:
            outcome = self._registries.client(need.destination).put_blob(
                need.destination.path, need.descriptor, self._source(need), mount_from
            )
        except BaseException:
            self._progress.add(bytes_expected=-size)
            raise
        if outcome.mounted:
            self._progress.add(bytes_moved=size)
            return BlobOutcome.MOUNTED
        return BlobOutcome.COPIED

    def _settle(self, need: BlobNeed, result: _Result) -> None:
        """End a need that led, and go on with those that waited for it."""
        digest, to = need.descriptor.digest, need.destination
        succeeded = isinstance(result, BlobOutcome)
        if succeeded:
            self._records.note_blobs(to, (digest,))
        if need.descriptor.size >= LARGE:
            self._records.release(to.registry, digest)
        with self._lock:
            blob = self._blobs[to.registry, digest]
            followers = blob.running.pop(to.path)
            if succeeded:
                blob.homes.setdefault(to.path, False)
                if blob.bringer is None and result is BlobOutcome.COPIED:
                    blob.bringer = need.order
                    self._brought.setdefault(need.order, set()).add(blob)
            followers += blob.parked
            blob.parked = []
        need.done(result)
        failed = isinstance(result, ImageSyncError) and not isinstance(result, SyncCancelled)
        for follower in followers:
            if failed and (follower.source, follower.destination) == (need.source, need.destination):
                follower.done(result)
            else:
                # After a success they find it or mount it. After a failure each tries for itself, since what failed
                # may be the other one's source, or its repository.
                self.bring([follower])
