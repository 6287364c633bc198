"""Reading one blob in pieces, verified as it passes, resumed where the connection breaks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from airflow_imagesync.domain.digest import hasher
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import DigestMismatch, ImageSyncError, ProtocolError, SizeMismatch, TransportError
from airflow_imagesync.registry.auth import repository_scope
from airflow_imagesync.registry.origin import redact
from airflow_imagesync.registry.transport import CHUNK, read_piece

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class BlobSource:
    """Where a blob is read: a registry and the path of a repository in it.

    `on_bytes`, where given, is called with the number of bytes of each piece.
    """

    client: RegistryClient
    path: str
    on_bytes: Callable[[int], None] | None = None


class BlobDownload:
    """A blob of a known digest and size, read once, in order, by iterating over it.

    Its length is the blob's size, and it has no ``read``, so that it can be the body of a request. The last
    piece is given out only when the whole blob hashes to its digest: a registry that takes it can then never
    commit bytes that are wrong. A connection that breaks or stalls is replaced by a request for the rest,
    at most as often as the client's retry policy says since the last progress. ``failure`` is the error that ended the reading,
    for whoever sees the request fail whose body this is.
    """

    def __init__(self, source: BlobSource, descriptor: Descriptor) -> None:
        self._client = source.client
        self._path = source.path
        self._on_bytes = source.on_bytes
        self._descriptor = descriptor
        self._url = source.client.blob_url(source.path, descriptor.digest)
        self._response: requests.Response | None = None
        self.failure: ImageSyncError | None = None

    def __len__(self) -> int:
        return self._descriptor.size

    def __bool__(self) -> bool:
        # An empty blob is still a body to be sent.
        return True

    def open(self) -> None:
        """Ask for the blob and see the answer. Raises RegistryError, TransportError, SizeMismatch."""
        try:
            if self._response is None:
                self._response = self._request(0)
        except ImageSyncError as error:
            self.failure = error
            raise

    def close(self) -> None:
        """Let go of the connection; one that is in the middle of a blob is closed."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _request(self, offset: int) -> requests.Response:
        """Ask for the blob from `offset` on, and check that this is what the answer brings."""
        size = self._descriptor.size
        headers = {"Accept": "*/*"}
        if offset:
            # A closed range: some registries answer 416 to an open one. Always at the registry again, since
            # the address it redirects to may have ended.
            headers["Range"] = f"bytes={offset}-{size - 1}"
        scopes = (repository_scope(self._path, "pull"),)
        response = self._client.follow("GET", self._url, scopes, headers=headers)
        if response.status_code == 206 and offset:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if found is None or int(found[1]) != offset or int(found[2]) != size - 1:
                response.close()
                raise ProtocolError(
                    f"GET {redact(self._url)} answered another range than bytes {offset}-{size - 1}",
                    method="GET", url=redact(self._url), status=206,
                )
            return response
        if response.status_code != 200:
            raise self._client.error(response, "GET", self._url)
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != size:
            response.close()
            raise SizeMismatch(
                f"{redact(self._url)} has {length} bytes where its manifest says {size}: the source is damaged"
            )
        if offset:
            self._skip(response, offset)
        return response

    def _skip(self, response: requests.Response, count: int) -> None:
        """Read `count` bytes that were read before, where a registry does not know ranges."""
        while count > 0:
            piece = read_piece(response, min(CHUNK, count), self._url)
            if not piece:
                raise TransportError(f"GET {redact(self._url)}: the answer ended too early")
            count -= len(piece)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        except ImageSyncError as error:
            self.failure = error
            raise
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        digest, size = self._descriptor.digest, self._descriptor.size
        content = hasher(digest)
        self.open()
        position = 0
        while position < size:
            piece = self._next(position)
            content.update(piece)
            position += len(piece)
            if position == size:
                self._finish(content.hexdigest())
            if self._on_bytes is not None:
                self._on_bytes(len(piece))
            yield piece
        if size == 0:
            self._finish(content.hexdigest())

    def _next(self, position: int) -> bytes:
        """Return the next piece, from a new request for the rest where the connection broke."""
        retry = self._client.retry
        attempt = 0
        while True:
            retry.check()
            try:
                if self._response is None:
                    self._response = self._request(position)
                piece = read_piece(self._response, min(CHUNK, self._descriptor.size - position), self._url)
                if piece:
                    return piece
                raise TransportError(f"GET {redact(self._url)}: the answer ended at byte {position} of {len(self)}")
            except ImageSyncError as error:
                self.close()
                attempt += 1
                if attempt > retry.retries or not retry.should_retry(error):
                    raise retry.unless_cancelled(error) from error
                wait = retry.wait_before(attempt, error) if attempt > 1 else 0.0
                logger.info("resuming %s at byte %d of %d: %s", redact(self._url), position, len(self), error)
                retry.cancelled.wait(wait)

    def _finish(self, hexdigest: str) -> None:
        """Check the digest, and that nothing follows, before the last piece goes out."""
        algorithm, _, expected = self._descriptor.digest.partition(":")
        if hexdigest != expected:
            raise DigestMismatch(
                f"{redact(self._url)} hashes to {algorithm}:{hexdigest}: the content was altered on its way or the source is damaged"
            )
        if self._response is not None:
            self._response.raw.release_conn()
            self._response = None
