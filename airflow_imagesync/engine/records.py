"""What earlier syncs learned, as hints: which repositories hold a blob, and what a destination tag was made of.

The destination registry is the truth (see the planner and `engine.blobs`): a record that is stale or wrong costs a
request, never correctness. What is here knows nothing and keeps nothing; `engine.records_database` keeps it in a
database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from airflow_imagesync.domain.reference import Repository


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """What is remembered of a blob in one registry.

    ``here`` says whether the repository that was asked for has it. ``home`` is the path of another repository that has
    it, and ``referenced`` that of one where a manifest refers to it (ECR mounts no others); None where none is known.
    """

    here: bool = False
    home: str | None = None
    referenced: str | None = None


@dataclass(frozen=True, slots=True)
class KnownImage:
    """What is remembered of a destination: what it was made of when it was last seen to be right.

    ``source`` is the full reference it was made of, ``source_digest`` what that named then, ``platforms`` the filter
    as text, sorted, with commas (`Rule.filter_text`). ``digest`` is what the destination had. ``unchecked`` is in how
    many runs since then this was believed without all of it being asked for. ``failed`` says that the last result
    was a failure, so that a better one is worth a note.
    """

    source: str
    source_digest: str
    platforms: str
    digest: str
    unchecked: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a run found or did for one destination, to be remembered.

    ``destination`` and ``source`` are full references. ``result`` is ``copied``, ``same`` or ``failed``; what failed
    leaves what was known of the digests as it was. ``trusted`` says that a record's word was taken: that of what the
    destination has, or of what a filter makes of the source.
    """

    destination: str
    source: str
    platforms: str
    result: str
    source_digest: str | None = None
    digest: str | None = None
    error: str | None = None
    trusted: bool = False


class Records:
    """Remembers nothing; safe to use from many threads, as those are that do. Nothing here raises.

    Use it as a context manager: what is noted may be written only at its end.
    """

    #: Whether what is noted will be known to later runs.
    lasting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def blobs(self, repository: Repository, digests: Collection[str]) -> Mapping[str, KnownBlob]:
        """Return what is known of blobs in the registry of `repository`, by digest; unknown ones are left out."""
        return {}

    def note_blobs(self, repository: Repository, digests: Iterable[str], *, referenced: bool = False) -> None:
        """Note that `repository` has these blobs; `referenced`, that a manifest there refers to them."""

    def forget_blobs(self, repository: Repository, digests: Iterable[str]) -> None:
        """Note that `repository` has these blobs no longer."""

    def claim(self, registry: str, digest: str) -> bool:
        """Return whether this process is the one to bring a blob to a registry now.

        False while another process has said so and is still at it. What is claimed is to be released.
        """
        return True

    def release(self, registry: str, digest: str) -> None:
        """Give a claim back, after the blob was noted or failed to come."""

    def images(self, destinations: Collection[str]) -> Mapping[str, KnownImage]:
        """Return what is known of destinations, by their full references; unknown ones are left out."""
        return {}

    def note_images(self, records: Iterable[ImageRecord]) -> None:
        """Note what became of destinations."""

    def close(self) -> None:
        """Write what was noted."""


#: For who keeps no records.
NO_RECORDS = Records()
