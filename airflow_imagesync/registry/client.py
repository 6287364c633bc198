"""One registry's API: tags, manifests and blobs.

OCI distribution specification 1.1. Every method returns domain values and raises the errors of
airflow_imagesync.errors; temporary failures have been tried again before they come out of here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import requests

from airflow_imagesync.domain.digest import contradicts, is_digest, verify
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.manifest import ACCEPT, MAX_MANIFEST_SIZE, Descriptor, Manifest, parse_manifest
from airflow_imagesync.domain.reference import DOCKER_HUB, DOCKER_HUB_API
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    ImageSyncError,
    NotFound,
    ProtocolError,
    RegistryError,
    SizeMismatch,
    Unauthorized,
)
from airflow_imagesync.registry.answers import conflict, error_body, error_of, may_be_immutable, storage_error
from airflow_imagesync.registry.auth import Authenticator, Scope, repository_scope
from airflow_imagesync.registry.download import BlobDownload, BlobSource
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.origin import redact, redirect_problem, resolve, same_origin
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.tags import list_tags
from airflow_imagesync.registry.transport import Body, Transport, discard, read_all
from airflow_imagesync.registry.upload import BlobUploads, UploadOutcome

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_REDIRECTS = 5
#: 301 to 303 turn a POST into a GET, which is never what is meant here.
_REDIRECTS = {"GET": frozenset({301, 302, 303, 307, 308}), "POST": frozenset({307, 308})}
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
        self._auth = Authenticator(self.url, login, self._transport)
        self._uploads = BlobUploads(self)
        #: Whether HEAD of a manifest can be trusted to say what GET would: None until seen.
        self._head_works: bool | None = None

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
        streamed = not isinstance(body, bytes | None)
        repeatable = not streamed
        while True:
            authorization = self._auth.authorization(scopes)
            sent = dict(headers or {})
            if authorization is not None:
                sent["Authorization"] = authorization
            response = self._transport.send(method, url, sent, body, read_timeout=read_timeout)
            if response.status_code != 401:
                return response
            answer = error_body(response, url)
            can_help = self._auth.respond(response, scopes, authorization)
            if can_help and repeatable:
                repeatable = False
                continue
            error = error_of(response, method, url, logged_in=self._auth.sends_credentials, body=answer)
            raise Unauthorized(
                str(error) + self._auth.advice(),
                method=method,
                url=error.url,
                status=error.status,
                codes=error.codes,
                temporary=can_help and streamed,
            )

    def error(self, response: requests.Response, method: str, url: str) -> RegistryError:
        """Return the error that an answer stands for."""
        return error_of(response, method, url, logged_in=self._auth.sends_credentials)

    def follow(self, method: str, url: str, scopes: Scope, *, headers: Mapping[str, str]) -> requests.Response:
        """Send a GET, or a POST without a body, and follow its redirects.

        Credentials stay at the registry's own origin, and a POST goes nowhere else. Raises as `exchange` does, and
        ProtocolError for a redirect that must not be followed.
        """
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            if same_origin(target, self.url):
                response = self.exchange(method, target, scopes, headers=headers)
            else:
                response = self._transport.send(method, target, headers)
                if response.status_code >= 400:
                    raise storage_error(response, method, target, self.registry)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS[method] or not location:
                return response
            discard(response)
            here, target = target, resolve(target, location)
            problem = redirect_problem(self.url, target, same_content=method != "POST")
            if problem is not None:
                raise ProtocolError(
                    f"{method} {redact(here)} was redirected to {redact(target)}, which is not followed: {problem}",
                    method=method,
                    url=redact(url),
                    status=response.status_code,
                )
        raise ProtocolError(
            f"{method} {redact(url)} was redirected more than {_MAX_REDIRECTS} times", method=method, url=redact(url)
        )

    def retrying(self, function: Callable[[], T], what: str) -> T:
        """Return what `function` returns, tried again by this client's policy, holding one of the registry's slots."""

        def limited() -> T:
            with self.limiter.slot():
                self.retry.check()
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
            discard(response)

        self.retrying(once, f"GET {url}")

    def list_tags(self, path: str) -> list[str]:
        """Return all tags of the repository `path`, in the registry's order, each once.

        Raises NotFound when the registry does not know the repository.
        """
        return list_tags(self, path)

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
            try:
                response = self.exchange("HEAD", url, scopes, headers={"Accept": ACCEPT})
            except Unauthorized as error:
                return error.status, None
            status = response.status_code
            if status in (408, 425, 429) or (status >= 500 and status != 501):
                raise self.error(response, "HEAD", url)
            read_all(response, 0, url)
            digest = response.headers.get("Docker-Content-Digest", "")
            if status != 200 or not is_digest(digest) or contradicts(digest, reference):
                return status, None
            return status, ManifestHead(digest, response.headers.get("Content-Type", "").partition(";")[0].strip())

        status, head = self.retrying(once, f"HEAD {url}")
        if head is not None:
            self._head_works = True
            return head
        if status == 404 and self._head_works:
            return None
        # Without a digest, redirected, with an error that has no body to tell why, or with a 404 before this
        # registry's HEAD has proved itself: GET tells. Nexus once answered 404 to HEAD where GET worked.
        found = self._head_by_get(path, reference)
        if self._head_works is None and (found is not None or status == 404):
            self._head_works = found is None
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
            digest = reference if is_digest(reference) else None
            if digest is not None:
                verify(body, digest, f"the manifest {self.registry}/{path}@{digest}")
            stated = response.headers.get("Docker-Content-Digest", "")
            if is_digest(stated) and not contradicts(stated, reference):
                verify(body, stated, f"the manifest {self.registry}/{path}:{reference}")
                digest = digest or stated
            return parse_manifest(body, content_type=response.headers.get("Content-Type"), digest=digest)

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
            discard(response)
            if contradicts(stated, manifest.digest):
                raise ProtocolError(
                    f"PUT {redact(url)} was answered with the digest {stated} for a manifest that is {manifest.digest}",
                    method="PUT",
                    url=redact(url),
                    status=response.status_code,
                )

        try:
            self.retrying(once, f"PUT {url}")
        except ImageSyncError as error:
            # The answer may have been lost, or the tag may be immutable and right already.
            immutable = isinstance(error, RegistryError) and may_be_immutable(error)
            stands = self._stands(path, reference) if error.temporary or immutable else None
            if stands == manifest.digest:
                return
            if isinstance(error, RegistryError) and immutable and stands is not None:
                raise conflict(error, f"{self.registry}/{path}:{reference}") from error
            raise

    def _stands(self, path: str, reference: str) -> str | None:
        """Return the digest that a tag has, or None when it has none or that can't be known."""
        try:
            head = self.head_manifest(path, reference)
        except ImageSyncError:
            return None
        return head.digest if head is not None else None

    # Blobs

    def blob_url(self, path: str, digest: str) -> str:
        """Return the address of a blob."""
        return f"{self.url}/v2/{path}/blobs/{digest}"

    def has_blob(self, path: str, digest: str) -> bool:
        """Whether the repository `path` is known to have the blob. Raises RegistryError and TransportError."""
        return self.retrying(lambda: self.sees_blob(path, digest), f"HEAD {self.blob_url(path, digest)}")

    def sees_blob(self, path: str, digest: str) -> bool:
        """Answer as `has_blob` does, from a single try.

        A refusal is no answer: some logins may push but not read, and only the answer to the push has a body that says
        what is wrong.
        """
        url = self.blob_url(path, digest)
        # Asked where the blob shall go, so that the token is good for sending it, too.
        scopes = (repository_scope(path, "pull", "push"),)
        try:
            response = self.exchange("HEAD", url, scopes, headers={"Accept": "*/*"})
        except RegistryError as error:
            if error.temporary:
                raise
            return False
        if response.status_code in (408, 425, 429) or response.status_code >= 500:
            raise self.error(response, "HEAD", url)
        read_all(response, 0, url)
        # A redirect to where the blob is stored means it is there; its address may be signed for GET alone.
        return response.status_code < 400

    def read_config(self, path: str, descriptor: Descriptor) -> bytes:
        """Return the bytes of a small blob, an image's configuration, verified."""
        if descriptor.size > _MAX_CONFIG_SIZE:
            raise SizeMismatch(
                f"{self.registry}/{path}@{descriptor.digest} is no configuration: it has {descriptor.size} bytes"
            )

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
