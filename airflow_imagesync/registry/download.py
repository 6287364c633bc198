"""Reading one blob in pieces, verified as it passes, resumed where the connection breaks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import requests

from airflow_imagesync.domain.digest import hasher
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import DigestMismatch, ImageSyncError, ProtocolError, SizeMismatch, TransportError
from airflow_imagesync.registry.auth import repository_scope
from airflow_imagesync.registry.origin import redact
from airflow_imagesync.registry.transport import CHUNK, Body, check_encoding, read_piece

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)
# With less than this between two failures, the second counts as one more of the same.
_PROGRESS = 1024 * 1024
#: How long, in seconds, the next try to go on is put off at most. Meanwhile the destination waits in the middle of an
#: upload, and proxies cut off what is idle (containers/image#1083).
_PATIENCE = 2.0


class BlobBody(Body, Protocol):
    """A blob as the body of a request; ``failure`` is the error of ours that ended the reading, if one did."""

    failure: ImageSyncError | None

    def open(self) -> None:
        """See that there is something to send, before a request is begun. Raises as the reading does."""

    def close(self) -> None:
        """Let go of what is read from; does nothing when that was done before."""


class BodySource(Protocol):
    """Where the bodies of an upload come from: one for each time that the blob is sent."""

    def download(self, descriptor: Descriptor) -> BlobBody:
        """Return the blob as a body that is not opened yet."""


@dataclass(frozen=True, slots=True)
class BlobSource:
    """Where a blob is read: a registry and the path of a repository in it.

    `on_bytes`, where given, is called with the number of bytes of each piece.
    """

    client: RegistryClient
    path: str
    on_bytes: Callable[[int], None] | None = None

    def download(self, descriptor: Descriptor) -> BlobDownload:
        """Return a blob of the repository, to be read once."""
        return BlobDownload(self, descriptor)


class BlobDownload:
    """A blob of a known digest and size, read once, in order, by iterating over it.

    Its length is the blob's size, and it has no ``read``, so that it can be the body of a request. The last
    piece is given out only when the whole blob hashes to its digest: a registry that takes it can then never
    commit bytes that are wrong. A connection that breaks or stalls is replaced by a request for the rest,
    as often as the client's retry policy says without progress in between. ``failure`` is the error that ended
    the reading, for whoever sees the request fail whose body this is.
    """

    def __init__(self, source: BlobSource, descriptor: Descriptor) -> None:
        self._client = source.client
        self._path = source.path
        self._on_bytes = source.on_bytes
        self._descriptor = descriptor
        self._url = source.client.blob_url(source.path, descriptor.digest)
        self._response: requests.Response | None = None
        self._ranges_work = True
        self._failures = 0
        self._failed_at = 0
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

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces()
        except ImageSyncError as error:
            self.failure = error
            raise
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        size = self._descriptor.size
        content = hasher(self._descriptor.digest)
        self.open()
        position = 0
        while position < size:
            piece = self._next(position)
            content.update(piece)
            position += len(piece)
            if position == size:
                self._check(content.hexdigest())
            if self._on_bytes is not None:
                self._on_bytes(len(piece))
            yield piece
        if size == 0:
            self._check(content.hexdigest())

    def _next(self, position: int) -> bytes:
        """Return the next piece, from a new request for the rest where the connection broke."""
        retry = self._client.retry
        while True:
            retry.check()
            try:
                if self._response is None:
                    if position:
                        self._client.limiter.pace.wait_for_hold(replace(retry, longest_wait=_PATIENCE))
                    self._response = self._request(position)
                piece = read_piece(self._response, min(CHUNK, self._descriptor.size - position), self._url)
                if piece:
                    return piece
                raise TransportError(f"GET {redact(self._url)}: the answer ended at byte {position} of {len(self)}")
            except ImageSyncError as error:
                self.close()
                if position - self._failed_at >= _PROGRESS:
                    self._failures = 0
                self._failures, self._failed_at = self._failures + 1, position
                if self._failures > retry.retries or not retry.should_retry(error):
                    raise retry.final(error) from error.__cause__
                if (getattr(error, "retry_after", None) or 0.0) > _PATIENCE:
                    raise  # what is above begins the whole blob anew, after that time
                logger.info("resuming %s at byte %d of %d: %s", redact(self._url), position, len(self), error)
                if self._failures > 1:  # at once the first time: the destination is waiting
                    retry.sleep(min(_PATIENCE, retry.wait_before(self._failures - 1, error)))
                retry.repeated()

    def _check(self, hexdigest: str) -> None:
        """Raise DigestMismatch unless what was read is what was asked for; give the connection back."""
        algorithm, _, expected = self._descriptor.digest.partition(":")
        if hexdigest != expected:
            raise DigestMismatch(
                f"{redact(self._url)} hashes to {algorithm}:{hexdigest}: "
                "the content was altered on its way, or the source is damaged"
            )
        if self._response is not None:
            self._response.raw.release_conn()
            self._response = None

    def _request(self, offset: int) -> requests.Response:
        """Ask for the blob from `offset` on, and check that this is what the answer brings."""
        if offset and self._ranges_work:
            response = self._request_rest(offset)
            if response is not None:
                return response
            logger.info("%s knows no ranges: reading %s from its beginning", self._client.registry, redact(self._url))
            self._ranges_work = False
        response = self._get({})
        if response.status_code != 200:
            raise self._client.error(response, "GET", self._url)
        self._skip(response, offset)
        return response

    def _request_rest(self, offset: int) -> requests.Response | None:
        """Return the answer to a request for the blob from `offset` on; None where ranges are not answered right."""
        last = self._descriptor.size - 1
        # A closed range: some registries answer 416 to an open one. Always at the registry again, since
        # the address it redirects to may have ended.
        response = self._get({"Range": f"bytes={offset}-{last}"})
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            if found is not None and int(found[1]) == offset and int(found[2]) == last:
                return response
        elif response.status_code == 200:
            self._skip(response, offset)
            return response
        elif response.status_code != 416:
            raise self._client.error(response, "GET", self._url)
        response.close()
        return None

    def _get(self, headers: dict[str, str]) -> requests.Response:
        scopes = (repository_scope(self._path, "pull"),)
        response = self._client.follow("GET", self._url, scopes, headers={"Accept": "*/*", **headers})
        try:
            if response.status_code in (200, 206):
                check_encoding(response, self._url)
        except ProtocolError:
            response.close()
            raise
        length = response.headers.get("Content-Length", "")
        if response.status_code == 200 and length.isdecimal() and int(length[:20]) != self._descriptor.size:
            response.close()
            raise SizeMismatch(
                f"{redact(self._url)} has {length[:20]} bytes where its manifest says {self._descriptor.size}: "
                "the source is damaged"
            )
        return response

    def _skip(self, response: requests.Response, count: int) -> None:
        """Read `count` bytes that were read before."""
        try:
            while count > 0:
                piece = read_piece(response, min(CHUNK, count), self._url)
                if not piece:
                    raise TransportError(f"GET {redact(self._url)}: the answer ended too early")
                count -= len(piece)
        except TransportError:
            response.close()
            raise
