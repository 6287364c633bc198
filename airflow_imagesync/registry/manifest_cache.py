"""Manifests that were fetched a moment ago: the same one is wanted for a plan and a copy, and under several tags."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_imagesync.domain.manifest import Manifest

#: Bytes of manifests that are kept. Parsed, they take several times as much.
MAX_BYTES = 1024 * 1024
_LOCKS = 64


class ManifestCache:
    """Holds manifests of one registry by repository and digest, the latest used `limit` bytes of them.

    Content under a digest does not change, so nothing here is ever wrong. Safe to use from many threads.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(_LOCKS)]

    def get(self, path: str, digest: str) -> Manifest | None:
        """Return the manifest with a digest in the repository `path`, or None."""
        with self._lock:
            found = self._held.get((path, digest))
            if found is not None:
                self._held.move_to_end((path, digest))
            return found

    def put(self, path: str, manifest: Manifest) -> None:
        """Hold a manifest of the repository `path`."""
        key = (path, manifest.digest)
        with self._lock:
            if key in self._held or manifest.size > self._limit:
                return
            self._held[key] = manifest
            self._bytes += manifest.size
            while self._bytes > self._limit:
                _, gone = self._held.popitem(last=False)
                self._bytes -= gone.size

    @contextmanager
    def fetching(self, path: str, digest: str) -> Iterator[None]:
        """Wait until nobody else fetches this manifest; some others have the same lock, which only costs time."""
        with self._fetching[hash((path, digest)) % _LOCKS]:
            yield
