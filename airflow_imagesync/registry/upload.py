"""Bringing one blob into a repository: mounted from another repository, or sent in one piece.

OCI distribution specification, "Pushing blobs". A blob is sent by POST and one PUT with its length: registries
disagree about everything in chunks (ECR drops data, GHCR takes 4 MiB, distribution 2 can't resume).
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_imagesync.domain.digest import contradicts
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import (
    ContentError,
    ImageSyncError,
    ProtocolError,
    RegistryError,
)
from airflow_imagesync.registry.auth import Scope, repository_scope
from airflow_imagesync.registry.download import BlobDownload, BlobSource
from airflow_imagesync.registry.limiter import hold
from airflow_imagesync.registry.origin import at_registry, redact, resolve
from airflow_imagesync.registry.transport import discard

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """How a blob got there: ``mounted`` without its bytes being sent, or sent."""

    mounted: bool


class BlobUploads:
    """Puts blobs into the repositories of one registry."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._no_mount: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def put(
        self, path: str, descriptor: Descriptor, source: BlobSource, mount_from: str | None = None
    ) -> UploadOutcome:
        """Bring a blob into the repository `path`.

        `source` is where it is read if it must be sent; `mount_from` a repository of this registry that has it. What
        fails temporarily is done again from the blob's first byte, at most as often as the retry policy says.
        Raises what source or destination answered.
        """
        retry = self._client.retry

        def once() -> UploadOutcome:
            # All slots together: transfers in opposite directions must not wait for each other.
            with hold(self._client.limiter, source.client.limiter):
                retry.check()
                return self._try(path, descriptor, source, mount_from)

        return retry.call(once, f"the upload of {descriptor.digest} to {self._client.registry}/{path}")

    def _try(self, path: str, descriptor: Descriptor, source: BlobSource, mount_from: str | None) -> UploadOutcome:
        location = self._begin(path, descriptor, mount_from)
        if location is None:
            return UploadOutcome(mounted=True)
        download = BlobDownload(source, descriptor)
        try:
            # Only with the source's answer in hand: an upload that waits for data is cut off by proxies.
            download.open()
            self._send(path, descriptor, location, download)
        except ImageSyncError as error:
            if download.failure is not None:
                self._abandon(path, location)
                raise download.failure from error.__cause__
            if not self._committed(path, descriptor, error):
                if isinstance(error, RegistryError):
                    self._abandon(path, location)
                raise
        finally:
            download.close()
        return UploadOutcome(mounted=False)

    def _begin(self, path: str, descriptor: Descriptor, mount_from: str | None) -> str | None:
        """Open an upload session and return its address, or None when the blob was mounted instead."""
        base = f"{self._client.url}/v2/{path}/blobs/uploads/"
        push = repository_scope(path, "pull", "push")
        if mount_from is not None and (mount_from, path) not in self._no_mount:
            # Push comes first: some token services only look at the first scope.
            scopes = (push, repository_scope(mount_from, "pull"))
            try:
                return self._post(f"{base}?mount={descriptor.digest}&from={mount_from}", scopes)
            except RegistryError as error:
                # Registries answer all kinds of errors to a mount they can't or won't do (goharbor/harbor#17097,
                # google/go-containerregistry#1741). What is wrong with the upload itself, the next answer tells.
                if error.temporary:
                    raise
                logger.info("no mount from %s to %s: %s", mount_from, path, error)
                with self._lock:
                    self._no_mount.add((mount_from, path))
        location = self._post(base, (push,))
        if location is None:
            raise ProtocolError(
                f"POST {base} answered 201 where an upload was asked for", method="POST", url=base, status=201
            )
        return location

    def _post(self, url: str, scopes: Scope) -> str | None:
        response = self._client.follow("POST", url, scopes, headers={})
        if response.status_code not in (201, 202):
            raise self._client.error(response, "POST", url)
        discard(response)
        if response.status_code == 201:
            return None
        return self._location(response.url, response.headers.get("Location"))

    def _location(self, url: str, location: str | None) -> str:
        """Return the absolute address of an upload session, which must be on the registry's own origin."""
        if not location:
            raise ProtocolError(
                f"POST {redact(url)} answered 202 without a Location", method="POST", url=redact(url), status=202
            )
        target = resolve(url, location)
        here = at_registry(self._client.url, target)
        if here is None:
            raise ProtocolError(
                f"POST {redact(url)} wants the data at {redact(target)}, on another host or port, which is not "
                "followed; check the external address in the registry's configuration",
                method="POST",
                url=redact(url),
                status=202,
            )
        return here

    def _send(self, path: str, descriptor: Descriptor, location: str, source: BlobDownload) -> None:
        # Appended as text: the rest of the address is the registry's own and must not be encoded anew.
        url = f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"
        scopes = (repository_scope(path, "pull", "push"),)
        client = self._client
        body = source if descriptor.size else b"".join(source)
        response = client.exchange("PUT", url, scopes, headers=_OCTETS, body=body, read_timeout=client.timeouts.commit)
        if response.status_code not in (200, 201, 202, 204):
            error = client.error(response, "PUT", url)
            if 300 <= response.status_code < 400:
                error.temporary = True  # the next session may be somewhere else
            raise error
        stated = response.headers.get("Docker-Content-Digest", "")
        discard(response)
        # Distribution 2.8 takes a sha512 and answers the sha256 of it.
        if contradicts(stated, descriptor.digest):
            raise ContentError(f"PUT {redact(url)} stored {stated} where {descriptor.digest} was sent")

    def _committed(self, path: str, descriptor: Descriptor, error: ImageSyncError) -> bool:
        """Whether a blob is there although its commit seemed to fail: of GHCR's lost answers most were committed."""
        if not error.temporary or self._client.retry.cancelled.is_set():
            return False
        with suppress(ImageSyncError):
            return self._client.sees_blob(path, descriptor.digest)
        return False

    def _abandon(self, path: str, location: str) -> None:
        """Tell the registry that an upload will not go on; it forgets it by itself sooner or later."""
        if self._client.retry.cancelled.is_set():
            return
        # A right of its own: what is needed for uploads must not come to depend on it.
        scopes = (repository_scope(path, "delete", "pull", "push"),)
        with suppress(ImageSyncError):
            discard(self._client.exchange("DELETE", location, scopes))
