"""What a run changed at the destinations, as others are told of it: one change for each pair of repositories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.errors import InvalidReference

#: So many images of a change are named. Whoever is told keeps that in a database, and reads it in a page.
MOST_NAMED = 200


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """What came into a destination repository from one source repository.

    ``images`` are tags, or digests where there is no tag, each with the digest that it names now; ``size`` is the bytes
    of the blobs that were sent for that.
    """

    source: Repository
    destination: Repository
    images: tuple[tuple[ImageReference, str | None], ...]
    size: int = 0

    def details(self, run_id: str) -> dict[str, Any]:
        """Return the change as plain JSON: tags, digests, source, bytes and run.

        Of many images the first are named, and the number of the others is under ``more``.
        """
        named = self.images[:MOST_NAMED]
        details: dict[str, Any] = {
            "tags": [one.tag for one, _ in named if one.tag is not None],
            "digests": {one.tag or one.reference: digest for one, digest in named if digest is not None},
            "source": str(self.source),
            "bytes": self.size,
            "run": run_id,
        }
        if len(self.images) > len(named):
            details["more"] = len(self.images) - len(named)
        return details

    @property
    def announced(self) -> list[list[str | None]]:
        """The images as pairs of destination and digest, which `changes` takes as told already."""
        return [[str(one), digest] for one, digest in self.images]


def changes(results: Iterable[ImageResult], already: Iterable[Collection[str | None]] = ()) -> list[RepositoryChange]:
    """Return what the copied images of `results` changed, sorted by destination and source.

    What is the same or failed is no change. `already` are pairs of destination and digest that others have been told
    of.
    """
    told = {tuple(one) for one in already}
    images: dict[tuple[Repository, Repository], dict[ImageReference, str | None]] = defaultdict(dict)
    sizes: dict[tuple[Repository, Repository], int] = defaultdict(int)
    for one in results:
        if one.state is not ResultState.COPIED or (one.destination, one.digest) in told:
            continue
        source, destination = ImageReference.parse(one.source), ImageReference.parse(one.destination)
        pair = destination.repository, source.repository
        images[pair][destination] = one.digest
        sizes[pair] += one.bytes_copied
    return [
        RepositoryChange(
            source,
            destination,
            tuple(sorted(images[destination, source].items(), key=_tags_first)),
            sizes[destination, source],
        )
        for destination, source in sorted(images)
    ]


def _tags_first(image: tuple[ImageReference, str | None]) -> tuple[bool, str]:
    reference, _ = image
    return reference.tag is None, reference.tag or reference.reference


def repositories(results: Iterable[ImageResult]) -> tuple[list[Repository], list[Repository]]:
    """Return, sorted, the source repositories of `results` and the destination repositories of what is there now.

    Rows of rules that could not be planned name no image, and count for neither.
    """
    sources: set[Repository] = set()
    destinations: set[Repository] = set()
    for one in results:
        try:
            source, destination = ImageReference.parse(one.source), ImageReference.parse(one.destination)
        except InvalidReference:
            continue
        sources.add(source.repository)
        if one.state is not ResultState.FAILED:
            destinations.add(destination.repository)
    return sorted(sources), sorted(destinations)
