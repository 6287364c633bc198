"""What an image needs of a blob, and how that can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.reference import Repository


class BlobOutcome(StrEnum):
    """How a blob came to be at the destination."""

    COPIED = "copied"
    MOUNTED = "mounted"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class BlobNeed:
    """A blob that an image needs at a destination.

    `done` is called from one of the executor's threads, or at once, with the outcome or the error. `wanted` says
    whether anybody still waits: an image that failed meanwhile does not. `order` is the image's number; those with
    smaller ones were begun earlier.
    """

    descriptor: Descriptor
    source: Repository
    destination: Repository
    done: Callable[[BlobOutcome | BaseException], None]
    wanted: Callable[[], bool]
    order: int = 0
