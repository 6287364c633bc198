"""Which blobs can be read once for several destinations, and how long the first of these waits for the others.

The images that a rule sends from one source to several destinations promise, each for its destination, to say of every
blob whether it must be sent there. With the last promise kept, one read serves all that need it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.later import Handle, Later
from airflow_imagesync.engine.needs import BlobNeed

#: How long, in seconds, those that are ready wait for a destination that does not answer. What comes later than that
#: reads the source for itself.
PATIENCE = 5.0

_Key = tuple[Repository, str]


@dataclass(eq=False)
class _Gathering:
    """One blob of one source repository: who may still want it, by the order of the image, and who does."""

    promises: dict[int, Repository] = field(default_factory=dict)
    needs: list[BlobNeed] = field(default_factory=list)
    timer: Handle | None = None


class Gatherings:
    """Gathers needs of the same blob from the same source; safe to use from many threads.

    `send` is called with those that can be served together, with no lock held, and must return soon; `later` measures
    the patience.
    """

    def __init__(self, send: Callable[[list[BlobNeed]], None], later: Later) -> None:
        self._send = send
        self._later = later
        self._lock = threading.Lock()
        self._open: dict[_Key, _Gathering] = {}
        self._promised: dict[int, set[_Key]] = defaultdict(set)
        #: What each image has said, so that nobody promises it once more; and those that say nothing more.
        self._said: dict[int, set[_Key]] = defaultdict(set)
        self._ended: set[int] = set()

    def promise(self, source: Repository, digests: Iterable[str], siblings: Mapping[int, Repository]) -> None:
        """Note that these images, by their order, will say of the blobs whether they need them there."""
        with self._lock:
            for digest in digests:
                key = source, digest
                missing = {
                    order: to
                    for order, to in siblings.items()
                    if order not in self._ended and key not in self._said.get(order, ())
                }
                if missing:
                    self._open.setdefault(key, _Gathering()).promises.update(missing)
                for order in missing:
                    self._promised[order].add(key)

    def ready(self, need: BlobNeed) -> list[BlobNeed]:
        """Note that a blob must be sent to `need`'s destination; return what is to be sent now, with `need` or without.

        What is not returned is sent when the others that may want it are known.
        """
        key = need.source, need.descriptor.digest
        with self._lock:
            self._said[need.order].add(key)
            gathering = self._open.get(key)
            if gathering is None:
                return [need]
            gathering.needs.append(need)
            for order in [one for one, to in gathering.promises.items() if to == need.destination]:
                self._keep(key, gathering, order)
            together = self._complete(key, gathering)
            if not together and gathering.timer is None:
                gathering.timer = self._later.call(PATIENCE, lambda: self._lose_patience(key, gathering))
            return together

    def withdraw(self, source: Repository, digests: Iterable[str], order: int) -> None:
        """Note that an image does not need these blobs sent."""
        complete = []
        with self._lock:
            for digest in digests:
                key = source, digest
                self._said[order].add(key)
                gathering = self._open.get(key)
                if gathering is not None and order in gathering.promises:
                    self._keep(key, gathering, order)
                    complete.append(self._complete(key, gathering))
        for together in complete:
            if together:
                self._send(together)

    def finished(self, order: int) -> None:
        """Note that an image has ended: it needs nothing more."""
        with self._lock:
            self._ended.add(order)
            keys = list(self._promised.get(order, ()))
        for source, digest in keys:
            self.withdraw(source, (digest,), order)
        with self._lock:
            self._said.pop(order, None)

    def hurry(self) -> None:
        """Wait for nobody any longer; for a run that was told to stop."""
        with self._lock:
            waiting = list(self._open.items())
        for key, gathering in waiting:
            self._lose_patience(key, gathering)

    def _keep(self, key: _Key, gathering: _Gathering, order: int) -> None:
        del gathering.promises[order]
        keys = self._promised[order]
        keys.discard(key)
        if not keys:
            del self._promised[order]

    def _complete(self, key: _Key, gathering: _Gathering) -> list[BlobNeed]:
        """Return the needs of a gathering that has nobody to wait for, and end it."""
        if gathering.promises:
            return []
        if self._open.get(key) is gathering:
            del self._open[key]
        if gathering.timer is not None:
            gathering.timer.cancel()
        needs, gathering.needs = gathering.needs, []
        return needs

    def _lose_patience(self, key: _Key, gathering: _Gathering) -> None:
        with self._lock:
            for order in list(gathering.promises):
                self._keep(key, gathering, order)
            together = self._complete(key, gathering)
        if together:
            self._send(together)
