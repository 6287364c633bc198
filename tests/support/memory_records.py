"""Records held in memory, with what was asked of them and noted, for tests to plant wrong ones in."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from airflow_imagesync.engine.records import ImageRecord, KnownImage, Records


class MemoryRecords(Records):
    """Keeps what is noted of images, as the database does."""

    lasting = True

    def __init__(self, known: Mapping[str, KnownImage] | None = None) -> None:
        self.known: dict[str, KnownImage] = dict(known or {})
        #: What was noted, in order, and how often images were asked for.
        self.noted: list[ImageRecord] = []
        self.asked = 0
        self._lock = threading.Lock()

    def images(self, destinations: Collection[str]) -> Mapping[str, KnownImage]:
        """Return what was noted or planted."""
        with self._lock:
            self.asked += 1
            return {name: self.known[name] for name in destinations if name in self.known}

    def note_images(self, records: Iterable[ImageRecord]) -> None:
        """Take a note of results."""
        with self._lock:
            for one in records:
                self.noted.append(one)
                before = self.known.get(one.destination)
                if one.result == "failed":
                    if before is not None:
                        self.known[one.destination] = replace(before, failed=True)
                    continue
                unchecked = before.unchecked + 1 if one.trusted and before is not None else 0
                self.known[one.destination] = KnownImage(
                    one.source, one.source_digest or "", one.platforms, one.digest or "", unchecked
                )

    def forget_notes(self) -> list[ImageRecord]:
        """Return what was noted since the last time."""
        with self._lock:
            noted, self.noted = self.noted, []
        return noted
