"""One registry's API: tags, manifests and blobs.

OCI distribution specification 1.1. Every method returns domain values and raises the errors of
airflow_imagesync.errors; temporary failures have been tried again before they come out of here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import requests

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.manifest import Descriptor, Manifest
from airflow_imagesync.domain.reference import DOCKER_HUB, DOCKER_HUB_API
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    ProtocolError,
    RateLimited,
    RegistryError,
    SizeMismatch,
    Unauthorized,
)
from airflow_imagesync.registry import tags
from airflow_imagesync.registry.answers import (
    error_body,
    error_of,
    is_web_page,
    storage_error,
)
from airflow_imagesync.registry.auth import Authenticator, Scope, repository_scope
from airflow_imagesync.registry.creation import MissingRepositories
from airflow_imagesync.registry.download import BlobDownload, BlobSource, BodySource
from airflow_imagesync.registry.limiter import Limiter
from airflow_imagesync.registry.manifests import ManifestHead, Manifests
from airflow_imagesync.registry.origin import redact, redirect_problem, resolve, same_origin
from airflow_imagesync.registry.quota import Quota
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.statistics import RegistryStatistics
from airflow_imagesync.registry.transport import Body, Transport, discard, read_all, unread
from airflow_imagesync.registry.upload import BlobUploads, UploadOutcome

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_REDIRECTS = 5
#: 301 to 303 turn a POST into a GET, which is never what is meant here.
_REDIRECTS = {"GET": frozenset({301, 302, 303, 307, 308}), "POST": frozenset({307, 308})}
_MAX_CONFIG_SIZE = 4 * 1024 * 1024


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
        self._retries = 0
        self.retry = replace(retry or RetryPolicy(), on_repeat=self._count_retry)
        self.limiter = limiter or Limiter(
            login.max_concurrent, registry=registry, requests_per_second=login.requests_per_second
        )
        # One for each login: Docker Hub counts the pulls of each account, and of each address for those without.
        self._quota = Quota(registry, login.min_remaining)
        self._transport = Transport.of(self.url, login, pool_size=connections, timeouts=timeouts)
        self._auth = Authenticator(self.url, login, self._transport)
        #: Those that a push finds missing, where they may be created.
        self.missing = MissingRepositories(login, self.retry.cancelled)
        self._uploads = BlobUploads(self, cross_host=login.allow_cross_host_upload)
        self._manifests = Manifests(self, self._quota)

    # Exchanges

    @property
    def held_for(self) -> float:
        """How many seconds what is to be done still waits for the registry's limits; 0 where nothing does."""
        return max(self.limiter.pace.held_for, self._quota.held_for)

    @property
    def statistics(self) -> RegistryStatistics:
        """What was asked of the registry so far."""
        return RegistryStatistics(self._transport.requests, self._retries, self._quota.left)

    def _count_retry(self) -> None:
        self._retries += 1

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
        """Send one request to the registry's own origin, logged in for `scopes`, once more where a new login helps.

        It helps after a 401, and after other answers that say a login has ended. A body that is read piece by piece
        can't be sent twice: the answer is then raised, as a temporary error when a new login may help. Returns the
        response with its body unread, whatever its other status. Raises Unauthorized, TransportError, and what
        logging in raises.
        """
        streamed = not isinstance(body, bytes | None)
        may_log_in = may_renew = not streamed
        while True:
            self.limiter.pace.begin(self.retry)
            authorization = self._auth.authorization(scopes, lasting=streamed)
            sent = dict(headers or {})
            if authorization is not None:
                sent["Authorization"] = authorization
            response = self._transport.send(method, url, sent, body, read_timeout=read_timeout)
            status = response.status_code
            if status == 401:
                answer = error_body(response, url)
                can_help = self._auth.respond(response, scopes, authorization)
                repeat, may_log_in = can_help and may_log_in, False
            elif authorization is not None and status in (400, 403):
                answer = error_body(response, url)
                can_help = self._auth.ended(method, status, answer, scopes, authorization)
                repeat, may_renew = can_help and may_renew, False
                if not (repeat or (can_help and streamed)):
                    return unread(response, answer)
            else:
                return response
            if repeat:
                continue
            error = error_of(response, method, url, logged_in=self._auth.sends_credentials, body=answer)
            if status != 401:
                error.temporary = True
                raise error
            raise Unauthorized(
                str(error) + self._auth.advice(),
                method=method,
                url=error.url,
                status=error.status,
                codes=error.codes,
                temporary=can_help and streamed,
            )

    def error(self, response: requests.Response, method: str, url: str) -> RegistryError:
        """Return the error that an answer stands for; one that refuses for being too much is heeded from now on."""
        error = error_of(response, method, url, logged_in=self._auth.sends_credentials)
        self.limiter.refused(error, self.retry)
        return error

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
                response = self.send_elsewhere(method, target, headers)
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

    def send_elsewhere(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None = None,
        *,
        read_timeout: float | None = None,
    ) -> requests.Response:
        """Send one request to another origin that the registry named, with no login of any kind.

        Raises TransportError, and RegistryError for what is answered with an error.
        """
        response = self._transport.send(method, url, headers, body, read_timeout=read_timeout)
        if response.status_code >= 400:
            raise storage_error(response, method, url, self.registry)
        return response

    def retrying(self, function: Callable[[], T], what: str, *, pulls: bool = False) -> T:
        """Return what `function` returns, tried again by this client's policy, holding one of the registry's slots.

        `pulls` says whether it gets a manifest, which some registries count.
        """

        def limited() -> T:
            # What may take long comes before the slot, which others may have a use for.
            self.limiter.pace.wait_for_hold(self.retry)
            with self._quota.pull(self.retry) if pulls else nullcontext(), self.limiter.slot():
                self.retry.check()
                try:
                    return function()
                except RateLimited as error:
                    if error.status:  # perhaps the token service's
                        self.limiter.refused(error, self.retry)
                    raise

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
        return self.tag_list(path).tags

    def tag_list(self, path: str) -> tags.TagList:
        """Return the tags of the repository `path` with all that its list says; raise as `list_tags` does."""
        return tags.tags_of(self, path)

    @property
    def lists_digests(self) -> bool:
        """Whether a list of tags says which manifests they name."""
        return tags.tells_digests(self.registry)

    # Manifests

    @property
    def counts_pulls(self) -> bool:
        """Whether each GET of a manifest is known to use up a limit, which a HEAD does not."""
        return self.registry == DOCKER_HUB or self._quota.counts

    def head_manifest(self, path: str, reference: str, expected: str | None = None) -> ManifestHead | None:
        """Return the digest and media type of the manifest that a tag or digest names, or None when there is none.

        `expected` is the digest that it probably has; see Manifests.head.
        """
        return self._manifests.head(path, reference, expected)

    def get_manifest(self, path: str, reference: str, expected: str | None = None) -> Manifest:
        """Return the manifest that a tag or digest names, verified; see Manifests.get."""
        return self._manifests.get(path, reference, expected)

    def put_manifest(self, path: str, reference: str, manifest: Manifest) -> None:
        """Put a manifest under a tag or its digest; see Manifests.put."""
        self._manifests.put(path, reference, manifest)

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
        return response.status_code < 400 and not is_web_page(response)

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

    def try_blob(self, path: str, descriptor: Descriptor, source: BodySource) -> UploadOutcome:
        """Bring a blob into the repository `path` in a single try, within slots held already; see BlobUploads."""
        return self._uploads.attempt(path, descriptor, source)

    def abort(self) -> None:
        """Shut every connection, so that what is under way fails at once; for a run that was told to stop."""
        self._transport.abort()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
