"""Manifests of one registry: asked for, fetched and put.

OCI distribution specification, "Pulling manifests" and "Pushing manifests".
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_imagesync.domain.digest import contradicts, is_digest, verify
from airflow_imagesync.domain.manifest import ACCEPT, MAX_MANIFEST_SIZE, Manifest, parse_manifest
from airflow_imagesync.errors import (
    DigestMismatch,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RegistryError,
    Unauthorized,
)
from airflow_imagesync.registry.answers import conflict, is_web_page, may_be_immutable
from airflow_imagesync.registry.auth import repository_scope
from airflow_imagesync.registry.manifest_cache import ManifestCache
from airflow_imagesync.registry.origin import redact
from airflow_imagesync.registry.quota import Quota
from airflow_imagesync.registry.transport import discard, read_all

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a registry says of a manifest without sending it; ``media_type`` is empty where it does not say that."""

    digest: str
    media_type: str


class Manifests:
    """Reads and writes the manifests of one registry, whose pulls `quota` counts."""

    def __init__(self, client: RegistryClient, quota: Quota) -> None:
        self._client = client
        self._quota = quota
        self._cache = ManifestCache()
        #: Whether HEAD of a manifest can be trusted to say what GET would: None until seen.
        self._head_works: bool | None = None
        #: Held by the one who finds that out for a 404.
        self._proving = threading.Lock()

    def _url(self, path: str, reference: str) -> str:
        return f"{self._client.url}/v2/{path}/manifests/{reference}"

    def head(self, path: str, reference: str, expected: str | None = None) -> ManifestHead | None:
        """Return the digest and media type of the manifest that a tag or digest names, or None when there is none.

        Where a registry's HEAD can't be trusted the manifest is fetched instead, unless the registry says that it is
        still `expected`: then its media type may not be known. Raises RegistryError and TransportError.
        """
        if self._head_works is False:
            return self._head_by_get(path, reference, expected)
        url = self._url(path, reference)
        scopes = (repository_scope(path, "pull"),)

        def once() -> tuple[int, ManifestHead | None]:
            try:
                response = self._client.exchange("HEAD", url, scopes, headers={"Accept": ACCEPT})
            except Unauthorized as error:
                return error.status, None
            self._quota.read(response.headers)
            status = response.status_code
            if status in (408, 425, 429) or (status >= 500 and status != 501):
                raise self._client.error(response, "HEAD", url)
            read_all(response, 0, url)
            digest = response.headers.get("Docker-Content-Digest", "")
            if status != 200 or not is_digest(digest) or contradicts(digest, reference):
                return status, None
            return status, ManifestHead(digest, response.headers.get("Content-Type", "").partition(";")[0].strip())

        status, head = self._client.retrying(once, f"HEAD {url}")
        if head is not None:
            self._head_works = True
            return head
        if status != 404:
            return self._instead_of_head(status, path, reference, expected)
        with self._proving:  # one GET is enough, however many tags are missing
            return None if self._head_works else self._instead_of_head(status, path, reference, expected)

    def _instead_of_head(self, status: int, path: str, reference: str, expected: str | None) -> ManifestHead | None:
        """Ask with GET what HEAD, which was answered with `status`, has left open.

        It came without a digest, redirected, with an error that has no body to tell why, or was a 404 before this
        registry's HEAD had proved itself: Nexus once answered 404 to HEAD where GET worked.
        """
        found = self._head_by_get(path, reference, expected if status != 404 else None)
        if self._head_works is None and (found is not None or status == 404):
            self._head_works = found is None
        return found

    def _head_by_get(self, path: str, reference: str, expected: str | None) -> ManifestHead | None:
        # Of a digest distribution answers that it has not changed before it looks whether it is there.
        unless = expected if not is_digest(reference) else None
        try:
            manifest = self._fetch(path, reference) if unless is None else self._get(path, reference, unless)
        except NotFound:
            return None
        if manifest is None:
            return ManifestHead(unless or "", "")
        return ManifestHead(manifest.digest, manifest.media_type)

    def get(self, path: str, reference: str, expected: str | None = None) -> Manifest:
        """Return the manifest that a tag or digest names, verified.

        `expected` is the digest that a tag had a moment ago: where that manifest was fetched already, a HEAD, which no
        registry counts, tells whether the tag still names it. Raises NotFound, ContentError when the bytes are not
        what the digest or the media type says, and other RegistryErrors.
        """
        if is_digest(reference):
            expected = reference
        if expected is None:
            return self._fetch(path, reference)
        known = self._cache.get(path, expected)
        if known is None:
            with self._cache.fetching(path, expected):
                known = self._cache.get(path, expected)
                if known is None:
                    return self._fetch(path, reference)
        if reference != expected:
            head = self.head(path, reference, expected)
            if head is None or head.digest != expected:
                return self._fetch(path, reference)
        return known

    def _fetch(self, path: str, reference: str) -> Manifest:
        manifest = self._get(path, reference)
        if manifest is None:
            raise self._odd_304(path, reference, "without having been asked whether the manifest has changed")
        return manifest

    def _odd_304(self, path: str, reference: str, what: str) -> ProtocolError:
        url = self._url(path, reference)
        return ProtocolError(
            f"GET {redact(url)} answered 304 {what}; check the proxies on the way",
            method="GET",
            url=redact(url),
            status=304,
        )

    def _get(self, path: str, reference: str, unless: str | None = None) -> Manifest | None:
        """Return the manifest that a tag or digest names, or None where the registry says that it is still `unless`.

        https://www.rfc-editor.org/rfc/rfc9110.html#name-if-none-match - registries have the digest for ETag.
        """
        url = self._url(path, reference)
        scopes = (repository_scope(path, "pull"),)

        headers = {"Accept": ACCEPT} | ({"If-None-Match": f'"{unless}"'} if unless is not None else {})

        def once() -> Manifest | None:
            response = self._client.follow("GET", url, scopes, headers=headers)
            self._quota.read(response.headers)
            if response.status_code == 304:
                stated = response.headers.get("Docker-Content-Digest", "")
                discard(response)
                if unless is not None and contradicts(stated, unless):
                    raise self._odd_304(path, reference, f"for {stated} where {unless} was asked about")
                return None
            if response.status_code != 200:
                raise self._client.error(response, "GET", url)
            body = read_all(response, MAX_MANIFEST_SIZE, url)
            digest = reference if is_digest(reference) else None
            if digest is not None:
                verify(body, digest, f"the manifest {self._client.registry}/{path}@{digest}")
            stated = response.headers.get("Docker-Content-Digest", "")
            if is_digest(stated) and not contradicts(stated, reference):
                verify(body, stated, f"the manifest {self._client.registry}/{path}:{reference}")
                digest = digest or stated
            return parse_manifest(body, content_type=response.headers.get("Content-Type"), digest=digest)

        manifest = self._client.retrying(once, f"GET {url}", pulls=True)
        if manifest is not None:
            self._cache.put(path, manifest)
        return manifest

    def put(self, path: str, reference: str, manifest: Manifest) -> None:
        """Put a manifest under a tag or its digest; everything it refers to must be there before.

        Raises Conflict for a tag that must not change, and other RegistryErrors.
        """
        url = self._url(path, reference)
        scopes = (repository_scope(path, "pull", "push"),)

        unseen = 0

        def once() -> None:
            nonlocal unseen
            response = self._client.exchange(
                "PUT", url, scopes, headers={"Content-Type": manifest.media_type}, body=manifest.body
            )
            if response.status_code not in (200, 201, 202, 204) or is_web_page(response):
                error = self._client.error(response, "PUT", url)
                if error.misses_blobs:
                    # Blobs that were just put may take a while to be seen, longer than most faults last.
                    error.temporary = True
                    pause = 2 * self._client.retry.first_wait * 3**unseen
                    error.retry_after = error.retry_after or min(pause, self._client.retry.longest_wait)
                    unseen += 1
                raise error
            stated = response.headers.get("Docker-Content-Digest", "")
            discard(response)
            if contradicts(stated, manifest.digest):
                # Changed on its way, and now under that tag: sent once more, that is mended.
                raise DigestMismatch(f"PUT {redact(url)} stored {stated} where {manifest.digest} was sent")

        try:
            self._client.retrying(lambda: self._client.missing.creating(path, once), f"PUT {url}")
        except ImageSyncError as error:
            # The answer may have been lost, or the tag may be immutable and right already.
            immutable = isinstance(error, RegistryError) and may_be_immutable(error)
            stands = self._stands(path, reference) if error.temporary or immutable else None
            if stands == manifest.digest:
                return
            if isinstance(error, RegistryError) and immutable and stands is not None:
                raise conflict(error, f"{self._client.registry}/{path}:{reference}") from error
            raise

    def _stands(self, path: str, reference: str) -> str | None:
        """Return the digest that a tag has, or None when it has none or that can't be known."""
        try:
            head = self.head(path, reference)
        except ImageSyncError:
            return None
        return head.digest if head is not None else None
