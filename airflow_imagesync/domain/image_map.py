"""Where the images of a run are now: source -> destination by digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from airflow_imagesync.domain.digest import check_digest
from airflow_imagesync.domain.reference import ImageReference, Repository, quoted, split_reference
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.errors import ConfigError, InvalidReference, Problem

DEFAULT_TAG = "latest"


def image_reference(text: str) -> ImageReference:
    """Return the image that `text` means to a container runtime: without tag and digest it is ``latest``.

    Raises InvalidReference.
    """
    name, tag, digest = split_reference(text)
    return ImageReference.parse(text if tag is not None or digest is not None else f"{name}:{DEFAULT_TAG}")


class ImageMap:
    """Where images are now: each source with its destination, pinned to the digest that is there.

    A source is a repository with a tag, a digest or both. Since a digest names the same content everywhere, an image
    written by digest is found, too: by the digest that is at the destination, which is the source's unless a platform
    filter changed it; for those that one changed, the map has an entry of its own.
    """

    def __init__(self, entries: Mapping[ImageReference, ImageReference]) -> None:
        """Take images and their destinations; the latter need a digest, and a tag there means nothing."""
        self.entries: Mapping[ImageReference, ImageReference] = {
            source: ImageReference(entries[source].repository, digest=entries[source].digest)
            for source in sorted(entries, key=str)
        }
        self._by_content: dict[ImageReference, ImageReference] = {
            source: to for source, to in self.entries.items() if source.tag is None
        }
        for source, to in self.entries.items():
            for digest in (source.digest, to.digest):
                if digest is not None:
                    self._by_content.setdefault(ImageReference(source.repository, digest=digest), to)
        self._destinations = frozenset(self.entries.values())
        self._destination_repositories = frozenset(one.repository for one in self._destinations)

    @classmethod
    def of(cls, results: Iterable[ImageResult]) -> Self:
        """Return the map of the images that are there: copied or the same, and of a known digest.

        Of several destinations of one source the first, in the order of `results`, is taken.
        """
        entries: dict[ImageReference, ImageReference] = {}
        changed: dict[ImageReference, ImageReference] = {}
        for one in results:
            if one.state is ResultState.FAILED or one.digest is None:
                continue
            source = ImageReference.parse(one.source)
            to = ImageReference(ImageReference.parse(one.destination).repository, digest=check_digest(one.digest))
            taken = entries.setdefault(source, to)
            if one.source_digest not in (None, taken.digest):
                changed.setdefault(ImageReference(source.repository, digest=one.source_digest), taken)
        return cls({**changed, **entries})

    def dump(self) -> dict[str, str]:
        """Return ``{source: destination@digest}`` in the order of the sources, for XCom; `load` reads it back."""
        return {str(source): str(to) for source, to in self.entries.items()}

    @classmethod
    def load(cls, mapping: object) -> Self:
        """Return the map that `dump` wrote, or somebody by hand: a source without tag and digest means ``latest``.

        Raises ConfigError, naming every entry that is no such pair.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError(
                f"an image map is a mapping of images to destination@digest, not {type(mapping).__name__}"
            )
        entries: dict[ImageReference, ImageReference] = {}
        problems: list[Problem] = []
        for key, value in mapping.items():
            try:
                source, to = _entry(key, value)
            except InvalidReference as error:
                problems.append(Problem(str(error), field=f"image map: {quoted(str(key))}"))
                continue
            if entries.setdefault(source, to) != to:
                problems.append(Problem(f"{source} is there twice, with different destinations", field="image map"))
        if problems:
            raise ConfigError(problems)
        return cls(entries)

    def find(self, image: ImageReference) -> ImageReference | None:
        """Return where `image` is now, or None. What is written by digest is found by that, whatever its tag says."""
        if image.digest is not None:
            return self._by_content.get(ImageReference(image.repository, digest=image.digest))
        return self.entries.get(image)

    def get(self, reference: str) -> str | None:
        """Return ``destination@digest`` of an image as people write it, or None when it is not in the map.

        ``nginx`` is ``docker.io/library/nginx:latest``; ``name:tag@digest`` is what that digest names. A text that is
        no image reference is not in the map.
        """
        try:
            found = self.find(image_reference(reference))
        except InvalidReference:
            return None
        return None if found is None else str(found)

    def has_destination(self, image: ImageReference) -> bool:
        """Whether `image` is one of the destinations, by its digest; a tag beside that means nothing."""
        return ImageReference(image.repository, digest=image.digest) in self._destinations

    def has_destination_repository(self, repository: Repository) -> bool:
        """Whether some image went to `repository`."""
        return repository in self._destination_repositories

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageMap) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(tuple(self.entries.items()))

    def __repr__(self) -> str:
        return f"ImageMap({self.dump()!r})"


def _entry(key: object, value: object) -> tuple[ImageReference, ImageReference]:
    """Return one entry of a dumped map; raise InvalidReference."""
    if not isinstance(key, str):
        raise InvalidReference(f"expected an image as text, not {type(key).__name__}")
    if not isinstance(value, str):
        raise InvalidReference(f"expected destination@digest as text, not {type(value).__name__}")
    source, to = image_reference(key), image_reference(value)
    if to.digest is None:
        raise InvalidReference(f"the destination {quoted(value)} has no digest; write it as {to.repository}@sha256:...")
    return source, to
