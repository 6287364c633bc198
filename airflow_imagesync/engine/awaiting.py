"""Whether an image is as somebody waits for it: there at all, with a digest, for a platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.digest import check_digest
from airflow_imagesync.domain.platform import Platform, wanted
from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.engine.selection import listed_platforms, platforms_of
from airflow_imagesync.errors import ConfigError, NotFound
from airflow_imagesync.registry.client import RegistryClient


@dataclass(frozen=True, slots=True)
class AwaitedImage:
    """An image that is waited for: a tag that exists or, where ``digest`` is said, names that; for ``platform``."""

    image: ImageReference
    digest: str | None = None
    platform: Platform | None = None

    @classmethod
    def parse(cls, image: str, digest: str | None = None, platform: str | None = None) -> AwaitedImage:
        """Return what is waited for, ``repository:tag@digest`` being a tag and the digest it shall have.

        Raises InvalidReference for what is none of these, ConfigError where two different digests are said.
        """
        reference = ImageReference.parse(image)
        expected = check_digest(digest) if digest is not None else None
        if reference.digest is not None and expected not in (None, reference.digest):
            raise ConfigError(f"{reference} has another digest than the one to wait for, {expected}; leave one out")
        if reference.tag is not None:
            expected = expected or reference.digest
            reference = ImageReference(reference.repository, reference.tag)
        return cls(reference, expected, Platform.parse(platform) if platform is not None else None)


@dataclass(frozen=True, slots=True)
class FoundImage:
    """The image as it was found; ``platforms`` are known where one was waited for."""

    image: str
    digest: str
    media_type: str
    platforms: tuple[str, ...] | None = None

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        found: dict[str, Any] = {"image": self.image, "digest": self.digest, "media_type": self.media_type or None}
        return found if self.platforms is None else {**found, "platforms": list(self.platforms)}


class ImageLookout:
    """Looks for one image, again and again: a HEAD each time, and once for each digest what a platform needs besides.

    ``missing`` says what was still missing at the last look.
    """

    def __init__(self, awaited: AwaitedImage) -> None:
        self._awaited = awaited
        self._seen: str | None = None
        #: The digest of an image that was found to be for other platforms.
        self._other: str | None = None
        self.missing = f"{awaited.image} was not looked for yet"

    def look(self, client: RegistryClient) -> FoundImage | None:
        """Return the image if it is there as it is waited for; raise what the registry answers."""
        awaited, image = self._awaited, self._awaited.image
        path = image.repository.path
        head = client.head_manifest(path, image.reference, self._seen)
        if head is None:
            self.missing = f"{image} is not there"
            return None
        self._seen = head.digest
        if awaited.digest is not None and head.digest != awaited.digest:
            self.missing = f"{image} is {head.digest}, not {awaited.digest}"
            return None
        if awaited.platform is None:
            return FoundImage(str(image), head.digest, head.media_type)
        if head.digest == self._other:
            return None
        try:
            manifest = client.get_manifest(path, head.digest)
            platforms = platforms_of(client, path, manifest)
        except NotFound as error:
            self.missing = f"{image} is not whole: {error}"
            return None
        if not any(wanted((awaited.platform,), one) for one in platforms):
            self._other = head.digest
            self.missing = (
                f"{image} ({head.digest}) has nothing for {awaited.platform}; "
                f"its platforms: {listed_platforms(platforms)}"
            )
            return None
        names = tuple(sorted({str(one) for one in platforms}))
        return FoundImage(str(image), head.digest, manifest.media_type, names)
