"""One registry's API: tags, manifests and blobs.

OCI distribution specification 1.1. Every method returns domain values and raises the errors of
airflow_imagesync.errors; temporary failures have been tried again before they come out of here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin

import requests

from airflow_imagesync.domain.digest import algorithm, is_digest, verify
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.manifest import ACCEPT, MAX_MANIFEST_SIZE, Descriptor, Manifest, load_document, parse_manifest
from airflow_imagesync.domain.reference import DOCKER_HUB, DOCKER_HUB_API, is_tag
from airflow_imagesync.errors import (
    ContentError,
    ImageSyncError,
    NotFound,
    ProtocolError,
    RegistryError,
    SizeMismatch,
    Unauthorized,
)
from airflow_imagesync.registry.answers import conflict, error_of, immutable_tag
from airflow_imagesync.registry.auth import Authenticator, Scope, repository_scope
from airflow_imagesync.registry.download import BlobDownload, BlobSource
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.origin import redact, redirect_problem, same_origin
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.transport import Body, Timeouts, Transport, read_all
from airflow_imagesync.registry.upload import BlobUploads, UploadOutcome

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: ECR answers an error for more (google/go-containerregistry#1091).
_TAGS_PER_PAGE = 1000
_MAX_TAG_PAGE = 8 * 1024 * 1024
_MAX_TAGS = 100_000
_MAX_PAGES = 1000
_MAX_REDIRECTS = 5
_MAX_CONFIG_SIZE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a registry says of a manifest without sending it."""

    digest: str
    media_type: str


class RegistryClient:
    """Speaks with one registry; safe to use from many threads.

    `registry` is its normalised host with port; `login` how it is reached. `retry` says how temporary
    failures are tried again, `timeouts` how long to wait, and `connections` how many connections are kept open.
    """

    def __init__(
        self,
        registry: str,
        login: Login | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        connections: int = 18,
        limiter: Limiter | None = None,
    ) -> None:
        login = login or Login()
        self.registry = registry
        host = DOCKER_HUB_API if registry == DOCKER_HUB else registry
        self.url = f"{'http' if login.insecure else 'https'}://{host}"
        self.retry = retry or RetryPolicy()
        self.limiter = limiter or Limiter(login.max_concurrent)
        self._transport = Transport(
            tls_verify=login.tls_verify, ca_file=login.ca_file, pool_size=connections, timeouts=timeouts
        )
        self._auth = Authenticator(self.url, login, self._transport, self.retry)
        self._uploads = BlobUploads(self)
        #: Whether HEAD of a manifest can be trusted to say what GET would: None until seen.
        self._head_works: bool | None = None
        self._head_lock = threading.Lock()

    # Exchanges

    @property
    def timeouts(self) -> Timeouts:
        """How long this client waits, in seconds."""
        return self._transport.timeouts

    def exchange(
        self,
        method: str,
        url: str,
        scopes: Scope,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        read_timeout: float | None = None,
    ) -> requests.Response:
        """Send one request to the registry's own origin, logged in for `scopes`, once more after a 401 if that helps.

        A body that is read piece by piece can't be sent twice: the 401 is then raised, as a temporary error when a
        new token may help. Returns the response with its body unread, whatever its other status. Raises Unauthorized,
        TransportError, and what fetching a token raises.
        """
        for attempt in (1, 2):
            authorization = self._auth.authorization(scopes)
            sent = dict(headers or {})
            if authorization is not None:
                sent["Authorization"] = authorization
            response = self._transport.send(method, url, sent, body, read_timeout=read_timeout)
            if response.status_code != 401:
                if authorization is not None:
                    self._auth.accepted()
                return response
            error_body = self._error_body(response, url)
            can_help = attempt == 1 and self._auth.respond(response, scopes, authorization)
            if can_help and (body is None or isinstance(body, bytes)):
                continue
            error = error_of(response, method, url, logged_in=self._auth.sends_credentials, body=error_body)
            if can_help:
                error.temporary = True
            elif authorization is not None:
                self._auth.refused(error)
            if self._auth.advice():
                raise Unauthorized(
                    str(error) + self._auth.advice(), method=method, url=error.url, status=401, codes=error.codes
                )
            raise error
        raise ProtocolError(f"{method} {redact(url)} answered 401 to a new token", status=401)  # pragma: no cover

    @staticmethod
    def _error_body(response: requests.Response, url: str) -> bytes:
        try:
            return read_all(response, 64 * 1024, url)
        except ImageSyncError:
            return b""

    def error(self, response: requests.Response, method: str, url: str) -> RegistryError:
        """Return the error that an answer stands for."""
        return error_of(response, method, url, logged_in=self._auth.sends_credentials)

    def follow(
        self, method: str, url: str, scopes: Scope, *, headers: Mapping[str, str], read_timeout: float | None = None
    ) -> requests.Response:
        """Send a request without a body and follow its redirects; credentials stay at the registry's own origin.

        Raises as `exchange` does, and ProtocolError for a redirect that must not be followed.
        """
        response = self.exchange(method, url, scopes, headers=headers, read_timeout=read_timeout)
        for _ in range(_MAX_REDIRECTS):
            location = response.headers.get("Location")
            if response.status_code not in (301, 302, 303, 307, 308) or not location:
                return response
            response.close()
            target = urljoin(response.url or url, location)
            problem = redirect_problem(self.url, target)
            if problem is not None:
                raise ProtocolError(
                    f"{method} {redact(url)} was redirected to {redact(target)}, which is not followed: {problem}",
                    method=method, url=redact(url), status=response.status_code,
                )
            if same_origin(target, self.url):
                response = self.exchange(method, target, scopes, headers=headers, read_timeout=read_timeout)
            else:
                response = self._transport.send(method, target, headers, read_timeout=read_timeout)
        response.close()
        raise ProtocolError(
            f"{method} {redact(url)} was redirected more than {_MAX_REDIRECTS} times", method=method, url=redact(url)
        )

    def retrying(self, function: Callable[[], T], what: str) -> T:
        """Return what `function` returns, tried again by this client's policy, holding one of the registry's slots."""

        def limited() -> T:
            with self.limiter.slot():
                return function()

        return self.retry.call(limited, what)

    # The registry as a whole

    def ping(self) -> None:
        """Ask whether this is a registry that takes the login; raise what it answers otherwise."""
        url = f"{self.url}/v2/"

        def once() -> None:
            response = self.exchange("GET", url, (), headers={"Accept": "application/json"})
            if response.status_code != 200:
                raise self.error(response, "GET", url)
            read_all(response, 64 * 1024, url)

        self.retrying(once, f"GET {url}")

    # Tags

    def list_tags(self, path: str) -> list[str]:
        """Return all tags of the repository `path`, in the registry's order, each once.

        Raises NotFound when the registry does not know the repository. Registries that put other things
        into the list (Nexus: null, Artifactory: digests) have them left out.
        """
        scopes = (repository_scope(path, "pull"),)
        first = f"{self.url}/v2/{path}/tags/list?n={_TAGS_PER_PAGE}"
        tags: dict[str, None] = {}
        seen: set[str] = set()
        url: str | None = first
        while url is not None and url not in seen and len(seen) < _MAX_PAGES:
            seen.add(url)
            page = url

            def once(page: str = page) -> tuple[list[str], str | None]:
                return self._tag_page(page, scopes)

            try:
                names, url = self.retrying(once, f"GET {redact(page)}")
            except RegistryError as error:
                if page is first and error.status == 400:
                    url = f"{self.url}/v2/{path}/tags/list"  # a page size it does not take
                    continue
                raise
            tags.update(dict.fromkeys(names))
            if len(tags) > _MAX_TAGS:
                raise ProtocolError(
                    f"{self.registry}/{path} lists more than {_MAX_TAGS} tags; name the tags or use a smaller repository",
                    url=redact(first),
                )
        return list(tags)

    def _tag_page(self, url: str, scopes: Scope) -> tuple[list[str], str | None]:
        # Artifactory answers 406 to a manifest's Accept header here (renovatebot/renovate#3078).
        response = self.exchange("GET", url, scopes, headers={"Accept": "application/json"})
        if response.status_code != 200:
            raise self.error(response, "GET", url)
        links = ", ".join(response.raw.headers.getlist("Link"))
        body = read_all(response, _MAX_TAG_PAGE, url)
        try:
            names = load_document(body, f"the tag list of {redact(url)}").get("tags") or []
        except ContentError as error:
            raise ProtocolError(f"{error}; check that this is a registry", method="GET", url=redact(url), status=200) from error
        if not isinstance(names, list):
            raise ProtocolError(f"GET {redact(url)}: tags is not a list", method="GET", url=redact(url), status=200)
        for link in requests.utils.parse_header_links(links) if links else ():
            if link.get("rel", "").lower() == "next":
                following = urljoin(url, link["url"])
                if not same_origin(following, self.url):
                    raise ProtocolError(
                        f"GET {redact(url)} links to its next page on another host, which is not followed",
                        method="GET", url=redact(url), status=200,
                    )
                return [name for name in names if isinstance(name, str) and is_tag(name)], following
        return [name for name in names if isinstance(name, str) and is_tag(name)], None

    # Manifests

    def _manifest_url(self, path: str, reference: str) -> str:
        return f"{self.url}/v2/{path}/manifests/{reference}"

    def head_manifest(self, path: str, reference: str) -> ManifestHead | None:
        """Return the digest and media type of the manifest that a tag or digest names, or None when there is none.

        Where a registry's HEAD can't be trusted the manifest is fetched instead. Raises RegistryError and
        TransportError.
        """
        if self._head_works is False:
            return self._head_by_get(path, reference)
        url = self._manifest_url(path, reference)
        scopes = (repository_scope(path, "pull"),)

        def once() -> tuple[int, ManifestHead | None]:
            response = self.exchange("HEAD", url, scopes, headers={"Accept": ACCEPT})
            status = response.status_code
            digest = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if status in (408, 425, 429) or status >= 500:
                raise self.error(response, "HEAD", url)
            read_all(response, 0, url)
            return status, ManifestHead(digest, media_type) if status == 200 and is_digest(digest) else None

        status, head = self.retrying(once, f"HEAD {url}")
        if head is not None:
            self._head_works = True
            return head
        if status == 404 and self._head_works:
            return None
        # Without a digest, with an error that has no body to tell why, or before this registry's HEAD has proved
        # itself: GET tells. Nexus once answered 404 to HEAD where GET worked.
        found = self._head_by_get(path, reference)
        if status == 404:
            with self._head_lock:
                self._head_works = found is None or None
                if found is not None:
                    self._head_works = False
        return found

    def _head_by_get(self, path: str, reference: str) -> ManifestHead | None:
        try:
            manifest = self.get_manifest(path, reference)
        except NotFound:
            return None
        return ManifestHead(manifest.digest, manifest.media_type)

    def get_manifest(self, path: str, reference: str) -> Manifest:
        """Return the manifest that a tag or digest names, verified.

        Raises NotFound, ContentError when the bytes are not what the digest or the media type says, and
        other RegistryErrors.
        """
        url = self._manifest_url(path, reference)
        scopes = (repository_scope(path, "pull"),)

        def once() -> Manifest:
            response = self.follow("GET", url, scopes, headers={"Accept": ACCEPT})
            if response.status_code != 200:
                raise self.error(response, "GET", url)
            body = read_all(response, MAX_MANIFEST_SIZE, url)
            if is_digest(reference):
                verify(body, reference, f"the manifest {self.registry}/{path}@{reference}")
            stated = response.headers.get("Docker-Content-Digest", "")
            if is_digest(stated) and (not is_digest(reference) or algorithm(stated) == algorithm(reference)):
                verify(body, stated, f"the manifest {self.registry}/{path}:{reference}")
            return parse_manifest(
                body,
                content_type=response.headers.get("Content-Type"),
                digest=reference if is_digest(reference) else (stated if is_digest(stated) else None),
            )

        return self.retrying(once, f"GET {url}")

    def put_manifest(self, path: str, reference: str, manifest: Manifest) -> None:
        """Put a manifest under a tag or its digest; everything it refers to must be there before.

        Raises Conflict for a tag that must not change, and other RegistryErrors.
        """
        url = self._manifest_url(path, reference)
        scopes = (repository_scope(path, "pull", "push"),)

        def once() -> None:
            response = self.exchange(
                "PUT", url, scopes, headers={"Content-Type": manifest.media_type}, body=manifest.body
            )
            if response.status_code not in (200, 201, 202, 204):
                error = self.error(response, "PUT", url)
                if "MANIFEST_BLOB_UNKNOWN" in error.codes or "BLOB_UNKNOWN" in error.codes:
                    error.temporary = True  # blobs that were just put may take a moment to be seen
                raise error
            stated = response.headers.get("Docker-Content-Digest", "")
            read_all(response, 64 * 1024, url)
            if is_digest(stated) and algorithm(stated) == algorithm(manifest.digest) and stated != manifest.digest:
                raise ProtocolError(
                    f"PUT {redact(url)} was answered with the digest {stated} for a manifest that is {manifest.digest}",
                    method="PUT", url=redact(url), status=response.status_code,
                )

        try:
            self.retrying(once, f"PUT {url}")
        except ImageSyncError as error:
            # The answer may have been lost, or the tag may be immutable and right already.
            lost = error.temporary or (isinstance(error, RegistryError) and immutable_tag(error))
            if lost and not self.retry.cancelled.is_set() and self._stands(path, reference, manifest.digest):
                return
            if isinstance(error, RegistryError) and immutable_tag(error) and not is_digest(reference):
                raise conflict(error, f"{self.registry}/{path}:{reference}") from error
            raise

    def _stands(self, path: str, reference: str, digest: str) -> bool:
        try:
            head = self.head_manifest(path, reference)
        except ImageSyncError:
            return False
        return head is not None and head.digest == digest

    # Blobs

    def blob_url(self, path: str, digest: str) -> str:
        """Return the address of a blob."""
        return f"{self.url}/v2/{path}/blobs/{digest}"

    def has_blob(self, path: str, digest: str) -> bool:
        """Whether the repository `path` has the blob. Raises RegistryError and TransportError."""
        url = self.blob_url(path, digest)
        scopes = (repository_scope(path, "pull"),)

        def once() -> bool:
            response = self.exchange("HEAD", url, scopes, headers={"Accept": "*/*"})
            status = response.status_code
            # A redirect to where the blob is stored means it is there; its address may be signed for GET alone.
            if status == 200 or 300 <= status < 400:
                response.close() if status != 200 else read_all(response, 0, url)
                return True
            if status == 404:
                read_all(response, 0, url)
                return False
            raise self.error(response, "HEAD", url)

        return self.retrying(once, f"HEAD {url}")

    def read_config(self, path: str, descriptor: Descriptor) -> bytes:
        """Return the bytes of a small blob, an image's configuration, verified."""
        if descriptor.size > _MAX_CONFIG_SIZE:
            raise SizeMismatch(f"{self.registry}/{path}@{descriptor.digest} is no configuration: it has {descriptor.size} bytes")

        def once() -> bytes:
            return b"".join(BlobDownload(BlobSource(self, path), descriptor))

        return self.retrying(once, f"GET {self.blob_url(path, descriptor.digest)}")

    def put_blob(
        self, path: str, descriptor: Descriptor, source: BlobSource, mount_from: str | None = None
    ) -> UploadOutcome:
        """Bring a blob into the repository `path`; see BlobUploads.put."""
        return self._uploads.put(path, descriptor, source, mount_from)

    def abort(self) -> None:
        """Shut every connection, so that what is under way fails at once; for a run that was told to stop."""
        self._transport.abort()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
