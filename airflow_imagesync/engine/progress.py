"""Counts of what a run has done so far, for whoever shows them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from airflow_imagesync.domain.report import ImageResult, ResultState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts at one moment.

    ``planned`` images have been compared so far; ``to_plan`` is how many are known to need comparing. ``images`` is
    the number to copy, of which ``copied``, ``same`` and ``failed`` are done. ``bytes_moved`` has been sent to
    destinations, restarts included; ``bytes_expected`` is what the blobs that are known to need sending have in all.
    """

    to_plan: int = 0
    planned: int = 0
    images: int = 0
    copied: int = 0
    same: int = 0
    failed: int = 0
    bytes_moved: int = 0
    bytes_expected: int = 0

    @property
    def done(self) -> int:
        """How many images are finished, whatever became of them."""
        return self.copied + self.same + self.failed


class Progress:
    """Counts up as a run goes on; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(
            ("to_plan", "planned", "images", "copied", "same", "failed", "bytes_moved", "bytes_expected"), 0
        )

    def add(self, **amounts: int) -> None:
        """Add to counts by their names in Snapshot."""
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] += amount

    def finished(self, result: ImageResult) -> None:
        """Count one finished image."""
        name = {ResultState.COPIED: "copied", ResultState.SAME: "same"}.get(result.state, "failed")
        self.add(**{name: 1})

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now."""
        with self._lock:
            return Snapshot(**self._counts)
