"""Bringing one blob into a repository: mounted from another repository, or sent in one piece.

OCI distribution specification, "Pushing blobs". A blob is sent by POST and one PUT with its length, or where that is
refused by POST, one PATCH of all of it, and PUT: registries disagree about everything in chunks (ECR drops data, GHCR
takes 4 MiB, distribution 2 can't resume).
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from airflow_imagesync.domain.digest import contradicts
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import (
    ContentError,
    ImageSyncError,
    ProtocolError,
    RateLimited,
    RegistryError,
)
from airflow_imagesync.registry.answers import is_web_page
from airflow_imagesync.registry.auth import Scope, repository_scope
from airflow_imagesync.registry.download import BlobBody, BlobSource, BodySource
from airflow_imagesync.registry.limiter import LARGE, hold
from airflow_imagesync.registry.origin import at_registry, redact, resolve, same_origin, upload_problem
from airflow_imagesync.registry.transport import discard

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 5
#: Those that keep method and body. What is sent anew is the whole blob: of the first request some was taken already.
_REDIRECTS = (307, 308)
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """How a blob got there: ``mounted`` without its bytes being sent, or sent."""

    mounted: bool


class BlobUploads:
    """Puts blobs into the repositories of one registry.

    `cross_host` lets it name another host for the data.
    """

    def __init__(self, client: RegistryClient, *, cross_host: bool = False) -> None:
        self._client = client
        self._cross_host = cross_host
        #: Whether blobs go by PATCH, since a PUT with a body was refused.
        self._by_patch = False
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
            for client in (self._client, source.client):
                client.limiter.pace.wait_for_hold(retry)
            # All slots together: transfers in opposite directions must not wait for each other.
            with hold(self._client.limiter, source.client.limiter, large=descriptor.size >= LARGE):
                retry.check()
                return self.attempt(path, descriptor, source, mount_from)

        return retry.call(once, f"the upload of {descriptor.digest} to {self._client.registry}/{path}")

    def attempt(
        self, path: str, descriptor: Descriptor, source: BodySource, mount_from: str | None = None
    ) -> UploadOutcome:
        """Bring a blob into the repository `path` as `put` does, in a single try, for who holds the slots it needs."""
        if not self._by_patch:
            try:
                return self._upload(path, descriptor, source, mount_from, by_patch=False)
            except RegistryError as error:
                if not _refuses_body(error):
                    raise
                logger.info("%s takes no blob in one PUT, so PATCH is tried: %s", self._client.registry, error)
            self._by_patch, mount_from = True, None
        try:
            return self._upload(path, descriptor, source, mount_from, by_patch=True)
        except RegistryError as error:
            if not error.temporary:
                self._by_patch = False  # what was refused may have been refused for another reason
            raise

    def _upload(
        self, path: str, descriptor: Descriptor, source: BodySource, mount_from: str | None, *, by_patch: bool
    ) -> UploadOutcome:
        location = self._begin(path, descriptor, mount_from)
        if location is None:
            return UploadOutcome(mounted=True)
        by_patch = by_patch and descriptor.size > 0
        target = location if by_patch else _with_digest(location, descriptor)
        for _ in range(_MAX_REDIRECTS + 1):
            download = source.download(descriptor)
            try:
                # Only with the source's answer in hand: an upload that waits for data is cut off by proxies.
                download.open()
                moved = self._send(path, descriptor, target, download, by_patch=by_patch)
            except ImageSyncError as error:
                if download.failure is not None:
                    self._abandon(path, location)
                    raise download.failure from error.__cause__
                if not self._committed(path, descriptor, error):
                    # After a 429 the answer to that would be waited for, too.
                    if isinstance(error, RegistryError) and not isinstance(error, RateLimited):
                        self._abandon(path, location)
                    raise
                moved = None
            finally:
                download.close()
            if moved is None:
                return UploadOutcome(mounted=False)
            target = moved
        raise ProtocolError(
            f"PUT {redact(target)} was redirected more than {_MAX_REDIRECTS} times", method="PUT", url=redact(target)
        )

    def _begin(self, path: str, descriptor: Descriptor, mount_from: str | None) -> str | None:
        """Open an upload session and return its address, or None when the blob was mounted instead."""
        base = f"{self._client.url}/v2/{path}/blobs/uploads/"
        push = repository_scope(path, "pull", "push")
        if mount_from is not None and (mount_from, path) not in self._no_mount:
            # Push comes first: some token services only look at the first scope.
            scopes = (push, repository_scope(mount_from, "pull"))
            try:
                return self._post(f"{base}?mount={descriptor.digest}&from={mount_from}", path, scopes)
            except RegistryError as error:
                # Registries answer all kinds of errors to a mount they can't or won't do (goharbor/harbor#17097,
                # google/go-containerregistry#1741). What is wrong with the upload itself, the next answer tells.
                if error.temporary:
                    raise
                logger.info("no mount from %s to %s: %s", mount_from, path, error)
                with self._lock:
                    self._no_mount.add((mount_from, path))
        location = self._post(base, path, (push,))
        if location is None:
            raise ProtocolError(
                f"POST {base} answered 201 where an upload was asked for", method="POST", url=base, status=201
            )
        return location

    def _post(self, url: str, path: str, scopes: Scope) -> str | None:
        def once() -> str | None:
            response = self._client.follow("POST", url, scopes, headers={})
            if response.status_code not in (201, 202):
                raise self._client.error(response, "POST", url)
            discard(response)
            if response.status_code == 201:
                return None
            return self._location("POST", url, response)

        return self._client.missing.creating(path, once)

    def _location(self, method: str, url: str, response: requests.Response) -> str:
        """Return the absolute address where the answer to `url` wants an upload to go on.

        That is on the registry's own origin, or elsewhere where its login allows that.
        """

        def problem(sentence: str) -> ProtocolError:
            shown = redact(url)
            return ProtocolError(f"{method} {shown} {sentence}", method=method, url=shown, status=response.status_code)

        location = response.headers.get("Location")
        if not location:
            raise problem(f"answered {response.status_code} without a Location")
        target = resolve(response.url, location)
        here = at_registry(self._client.url, target)
        if here is not None:
            return here
        if not self._cross_host:
            raise problem(
                f"wants the data at {redact(target)}, on another host or port, which is not followed; check the "
                "external address in the registry's configuration, or set allow_cross_host_upload: true for it if "
                "that is meant"
            )
        reason = upload_problem(self._client.url, target)
        if reason is not None:
            raise problem(f"wants the data at {redact(target)}, which is not followed: {reason}")
        return target

    def _moved(self, method: str, url: str, response: requests.Response) -> str:
        discard(response)
        return self._location(method, url, response)

    def _send(self, path: str, descriptor: Descriptor, target: str, source: BlobBody, *, by_patch: bool) -> str | None:
        """Send a blob to the address of its session; return another where all of it is wanted instead."""
        if by_patch:
            # All of it at once, with no Content-Range: that would be a chunk, for which some have limits.
            response = self._request("PATCH", path, target, source)
            if response.status_code in _REDIRECTS:
                return self._moved("PATCH", target, response)
            self._expect_success("PATCH", target, response)
            target = _with_digest(self._location("PATCH", target, response), descriptor)
            self._commit(path, descriptor, target)
            return None
        body = source if descriptor.size else b"".join(source)
        response = self._request("PUT", path, target, body)
        if response.status_code in _REDIRECTS:
            return self._moved("PUT", target, response)
        self._check_stored(descriptor, target, response)
        return None

    def _commit(self, path: str, descriptor: Descriptor, target: str) -> None:
        """End a session whose data was sent."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._request("PUT", path, target, b"")
            if response.status_code not in _REDIRECTS:
                break
            target = self._moved("PUT", target, response)
        self._check_stored(descriptor, target, response)

    def _request(self, method: str, path: str, url: str, body: BlobBody | bytes) -> requests.Response:
        client, patience = self._client, self._client.timeouts.commit
        if not same_origin(url, client.url):
            return client.send_elsewhere(method, url, _OCTETS, body, read_timeout=patience)
        scopes = (repository_scope(path, "pull", "push"),)
        return client.exchange(method, url, scopes, headers=_OCTETS, body=body, read_timeout=patience)

    def _expect_success(self, method: str, url: str, response: requests.Response) -> None:
        if response.status_code in (200, 201, 202, 204) and not is_web_page(response):
            discard(response)
            return
        error = self._client.error(response, method, url)
        if 300 <= response.status_code < 400 or "BLOB_UNKNOWN" in error.codes:
            error.temporary = True  # the next session may be somewhere else, or not be lost (GHCR)
        raise error

    def _check_stored(self, descriptor: Descriptor, url: str, response: requests.Response) -> None:
        self._expect_success("PUT", url, response)
        stated = response.headers.get("Docker-Content-Digest", "")
        # Distribution 2.8 takes a sha512 and answers the sha256 of it.
        if contradicts(stated, descriptor.digest):
            raise ContentError(f"PUT {redact(url)} stored {stated} where {descriptor.digest} was sent")

    def _committed(self, path: str, descriptor: Descriptor, error: ImageSyncError) -> bool:
        """Whether a blob is there although its commit seemed to fail: of GHCR's lost answers most were committed."""
        if not error.temporary or isinstance(error, RateLimited) or self._client.retry.cancelled.is_set():
            return False
        with suppress(ImageSyncError):
            return self._client.sees_blob(path, descriptor.digest)
        return False

    def _abandon(self, path: str, location: str) -> None:
        """Tell the registry that an upload will not go on; it forgets it by itself sooner or later."""
        if self._client.retry.cancelled.is_set() or not same_origin(location, self._client.url):
            return
        # A right of its own: what is needed for uploads must not come to depend on it.
        scopes = (repository_scope(path, "delete", "pull", "push"),)
        with suppress(ImageSyncError):
            discard(self._client.exchange("DELETE", location, scopes))


def _with_digest(location: str, descriptor: Descriptor) -> str:
    # Appended as text: the rest of the address is the registry's own and must not be encoded anew.
    return f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"


def _refuses_body(error: RegistryError) -> bool:
    """Whether an answer may mean that a PUT must not bring the blob itself: some registries want it by PATCH."""
    if error.method != "PUT":
        return False
    lost = any(code.startswith("BLOB_") for code in error.codes)
    return error.status in (405, 501) or (error.status == 404 and not lost)
