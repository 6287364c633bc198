"""What was noted and is not in the database yet: where it waits, put together so that the last word counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from airflow_imagesync.engine.records import ImageRecord, KnownBlob


@dataclass(slots=True)
class BlobChange:
    """What became of a blob in a repository, in this order: forgotten, noted, noted as referenced."""

    forgotten: bool = False
    noted: bool = False
    referenced: bool = False

    def applied(self, known: KnownBlob, path: str, here: bool) -> KnownBlob:
        """Return `known` as it is after this change, which was in the repository `path`, the asked one if `here`."""
        has, home, referenced = known.here, known.home, known.referenced
        if self.forgotten:
            has = has and not here
            home = None if home == path else home
            referenced = None if referenced == path else referenced
        if self.noted and here:
            has = True
        elif self.noted:
            home = home or path
            referenced = referenced or (path if self.referenced else None)
        return KnownBlob(has, home, referenced)


@dataclass(frozen=True, slots=True)
class TimedRecord:
    """What became of an image, and when, in seconds since 1970."""

    record: ImageRecord
    at: int


@dataclass(slots=True)
class Pending:
    """Changes in the order in which they are to be written: images that failed after those that did not.

    ``blobs`` are by registry and digest, then by path. Images are by destination; ``touched`` are those that were asked
    for. ``released`` are claims, by registry and digest. Not safe to use from several threads at once.
    """

    blobs: dict[tuple[str, str], dict[str, BlobChange]] = field(default_factory=dict)
    known: dict[str, TimedRecord] = field(default_factory=dict)
    trusted: dict[str, TimedRecord] = field(default_factory=dict)
    failed: dict[str, TimedRecord] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    released: set[tuple[str, str]] = field(default_factory=set)
    count: int = 0

    def note_blobs(self, registry: str, path: str, digests: Iterable[str], referenced: bool) -> None:
        """Have a repository hold blobs."""
        for digest in digests:
            change = self._change(registry, path, digest)
            change.noted = True
            change.referenced |= referenced

    def forget_blobs(self, registry: str, path: str, digests: Iterable[str]) -> None:
        """Have a repository hold blobs no longer."""
        for digest in digests:
            change = self._change(registry, path, digest)
            change.forgotten, change.noted, change.referenced = True, False, False

    def _change(self, registry: str, path: str, digest: str) -> BlobChange:
        by_path = self.blobs.setdefault((registry, digest), {})
        change = by_path.get(path)
        if change is None:
            change = by_path[path] = BlobChange()
            self.count += 1
        return change

    def touch_images(self, destinations: Collection[str]) -> None:
        """Have images be seen."""
        self.touched.update(destinations)
        self.count += len(destinations)

    def note_image(self, record: ImageRecord, at: int) -> None:
        """Have an image be known, trusted or failed."""
        timed = TimedRecord(record, at)
        destination = record.destination
        self.count += 1
        if record.result == "failed":
            self.failed[destination] = timed
            return
        self.failed.pop(destination, None)
        if record.trusted:
            self.trusted[destination] = timed
        else:
            self.trusted.pop(destination, None)
            self.known[destination] = timed
