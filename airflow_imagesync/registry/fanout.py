"""One source read for several destinations: a blob is read once and sent to all of them as it comes."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import ImageSyncError, TransportError
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.limiter import LARGE, hold
from airflow_imagesync.registry.retry import RetryPolicy, says_wrong_content

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient
    from airflow_imagesync.registry.upload import UploadOutcome

logger = logging.getLogger(__name__)

#: How many pieces, of at most CHUNK bytes each, are held for those that have yet to take them.
PIECES = 4
#: How long, in seconds, the others wait for one that takes nothing more before they go on without it.
STALLED = 10.0
#: How long, in seconds, all wait for a registry that asked to be left alone; for longer it is left out.
PATIENCE = 5.0
#: How often who waits looks whether the run was told to stop, in seconds.
_LOOK_EVERY = 0.5


class SharedDownload:
    """A blob that is read once from `source` and given to several readers, each on a thread of its own.

    ``bodies`` are the readers: `readers` of them, each the body of a request to another registry. All go at the speed
    of the slowest that still moves: one that has taken nothing for `stalled` seconds while another waits for it is
    left behind. Who comes first to what was not read yet reads it for all; no thread is needed for that. As
    BlobDownload does, this resumes what breaks and gives nobody the last piece of a blob that is wrong.

    The source's ``on_bytes`` is called for each piece that a reader takes: as often as there are readers.
    """

    def __init__(self, source: BlobSource, descriptor: Descriptor, readers: int, *, stalled: float = STALLED) -> None:
        self.descriptor = descriptor
        self.on_bytes = source.on_bytes
        self.bodies = tuple(SharedBody(self) for _ in range(readers))
        self._retry = source.client.retry
        self._stalled = stalled
        self._what = f"{source.client.registry}/{source.path}@{descriptor.digest}"
        self._download = replace(source, on_bytes=None).download(descriptor)
        self._content = iter(self._download)
        self._changed = threading.Condition(threading.Lock())
        # All of this is guarded by the condition's lock, and the network is never waited for under it.
        self._reading = False
        self._opened = False
        self._ended = False
        self._failure: ImageSyncError | None = None
        self._ring: deque[bytes] = deque()
        #: The number of the ring's first piece.
        self._first = 0
        #: Since when there is no room for another piece, by the monotonic clock.
        self._full_since = 0.0
        #: The number of the piece that each reader takes next; those that left are in it no more.
        self._next = dict.fromkeys(self.bodies, 0)

    def open(self, body: SharedBody) -> None:
        """Ask the source for the blob and see its answer, once for all."""
        with self._changed:
            while self._failure is None and not self._opened:
                self._check(body)
                if self._reading:
                    self._changed.wait(_LOOK_EVERY)
                else:
                    self._read()
            self._check(body)
            if self._failure is not None:
                raise copy.copy(self._failure)  # one exception must not be raised by many threads

    def take(self, body: SharedBody) -> bytes | None:
        """Return the next piece for a reader; None after the last."""
        with self._changed:
            while True:
                self._check(body)
                at = self._next[body] - self._first
                if at < len(self._ring):
                    piece = self._ring[at]
                    self._next[body] += 1
                    if at == 0:
                        self._drop_what_all_have()
                    return piece
                if self._failure is not None:
                    raise copy.copy(self._failure)
                if self._ended:
                    return None
                if self._reading:
                    self._changed.wait(_LOOK_EVERY)
                elif len(self._ring) < PIECES:
                    self._read()
                else:
                    self._wait_for_room()

    def leave(self, body: SharedBody) -> None:
        """Give a reader nothing more, and wait for it no longer."""
        with self._changed:
            if self._next.pop(body, None) is None:
                return
            self._drop_what_all_have()
            if not self._next:
                self._download.close()

    def _check(self, body: SharedBody) -> None:
        self._retry.check()
        if body not in self._next:
            raise TransportError(
                f"{self._what} went to other destinations without waiting for this one, which took nothing for "
                f"{self._stalled:.0f} s; it gets the blob by itself when it is tried again"
            )

    def _read(self) -> None:
        """Read what comes next from the source: its answer, a piece, or the end. The lock is let go meanwhile."""
        self._reading = True
        opening = not self._opened
        piece: bytes | None = None
        failure: ImageSyncError | None = None
        # So that nobody takes an error that is not ours, or an interrupt, for the end of the blob.
        unfinished: ImageSyncError | None = TransportError(f"{self._what} was not read to its end")
        self._changed.release()
        try:
            if opening:
                self._download.open()
            else:
                piece = next(self._content, None)
            unfinished = None
        except ImageSyncError as error:
            failure = error
        finally:
            self._changed.acquire()
            self._reading = False
            self._opened = True
            self._failure = failure or unfinished
            if piece is not None:
                self._ring.append(piece)
                if len(self._ring) == PIECES:
                    self._full_since = time.monotonic()
            elif not opening:
                self._ended = True
            self._changed.notify_all()

    def _wait_for_room(self) -> None:
        left = self._full_since + self._stalled - time.monotonic()
        if left > 0:
            self._changed.wait(min(left, _LOOK_EVERY))
            return
        for body in [body for body, number in self._next.items() if number == self._first]:
            logger.info("%s: going on without a destination that takes nothing more", self._what)
            del self._next[body]
        self._drop_what_all_have()

    def _drop_what_all_have(self) -> None:
        needed = min(self._next.values(), default=self._first)
        if needed > self._first:
            for _ in range(needed - self._first):
                self._ring.popleft()
            self._first = needed
            self._changed.notify_all()


class SharedBody:
    """A reader of a SharedDownload: the body of one request, and of no other one after it."""

    def __init__(self, shared: SharedDownload) -> None:
        self._shared = shared
        self._closed = False
        self.failure: ImageSyncError | None = None

    def __len__(self) -> int:
        return self._shared.descriptor.size

    def __bool__(self) -> bool:
        # An empty blob is still a body to be sent.
        return True

    def download(self, descriptor: Descriptor) -> SharedBody:
        """Return this body, whose blob is the one that `descriptor` names; to be opened once."""
        if descriptor != self._shared.descriptor:
            raise ValueError(f"this is {self._shared.descriptor.digest}, not {descriptor.digest}")
        return self

    def open(self) -> None:
        """Wait for the source's answer. Raises what BlobDownload.open does; TransportError when opened once more."""
        try:
            if self._closed:
                raise TransportError(
                    f"the destination wants {self._shared.descriptor.digest} anew, while others get it, too; "
                    "it gets the blob by itself when it is tried again"
                )
            self._shared.open(self)
        except ImageSyncError as error:
            self.failure = error
            raise

    def close(self) -> None:
        """Let the others go on without this one."""
        self._closed = True
        self._shared.leave(self)

    def __iter__(self) -> Iterator[bytes]:
        on_bytes = self._shared.on_bytes
        try:
            while (piece := self._shared.take(self)) is not None:
                if on_bytes is not None:
                    on_bytes(len(piece))
                yield piece
        except ImageSyncError as error:
            self.failure = error
            raise
        finally:
            self.close()


def send_to_all(
    source: BlobSource,
    descriptor: Descriptor,
    targets: Sequence[tuple[RegistryClient, str]],
    *,
    stalled: float = STALLED,
) -> list[UploadOutcome | ImageSyncError]:
    """Bring a blob to several places with one read of the source, each in a single try.

    `targets` are clients of registries, each with the path of a repository there; nothing is mounted. Returns for each
    how the blob got there, or the error; no fault of a registry is raised.

    What is ``temporary`` and not ``tried`` is the caller's to do again alone, by `put_blob`, which waits and tries as
    usual. So it is with a target that asked to be left alone for more than PATIENCE seconds (RateLimited, and nothing
    was sent there), that took nothing for `stalled` seconds, or that wants the blob once more after a part of it (a
    redirect, a PUT that it refuses). The slots of the source and of all targets are held until the last has finished.
    """
    retry = source.client.retry
    try:
        source.client.limiter.pace.wait_for_hold(retry)
    except ImageSyncError as error:
        return [retry.final(copy.copy(error)) for _ in targets]
    outcomes: dict[int, UploadOutcome | ImageSyncError] = {}
    ours: list[BaseException] = []
    for number, (client, _) in enumerate(targets):
        try:
            client.limiter.pace.wait_for_hold(replace(client.retry, longest_wait=PATIENCE))
        except ImageSyncError as error:
            outcomes[number] = error
    ready = [number for number in range(len(targets)) if number not in outcomes]
    shared = SharedDownload(source, descriptor, len(ready), stalled=stalled)

    def send(number: int, body: SharedBody) -> None:
        client, path = targets[number]
        try:
            with source.client.limiter.lent(), client.limiter.lent():
                client.retry.check()
                outcomes[number] = client.try_blob(path, descriptor, body)
        except ImageSyncError as error:
            outcomes[number] = _judged(error, client.retry)
        except BaseException as error:  # noqa: BLE001  # raised where somebody sees it
            ours.append(error)
        finally:
            body.close()

    limiters = [targets[number][0].limiter for number in ready]
    if ready:
        with hold(source.client.limiter, *limiters, large=descriptor.size >= LARGE), ExitStack() as stack:
            for number, body in zip(ready[1:], shared.bodies[1:], strict=True):
                name = f"imagesync-to-{targets[number][0].registry}"
                thread = threading.Thread(target=send, args=(number, body), name=name)
                thread.start()
                stack.callback(thread.join)
            send(ready[0], shared.bodies[0])
    if ours:
        raise ours[0]
    return [outcomes[number] for number in range(len(targets))]


def _judged(error: ImageSyncError, retry: RetryPolicy) -> ImageSyncError:
    """Return what came of a try, so that it says whether another one may help."""
    if retry.cancelled.is_set():
        return retry.final(error)
    if says_wrong_content(error) and not error.tried:
        error.temporary = True  # once may be a bad wire
    return error
