"""The tags of a repository, page by page, and what Google's lists say of them besides.

OCI distribution specification, "Listing Tags".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import requests

from airflow_imagesync.domain.digest import is_digest
from airflow_imagesync.domain.manifest import load_document
from airflow_imagesync.domain.reference import is_tag
from airflow_imagesync.errors import ContentError, ProtocolError, RegistryError
from airflow_imagesync.registry.auth import Scope, repository_scope
from airflow_imagesync.registry.manifests import ManifestHead
from airflow_imagesync.registry.origin import at_registry, redact, resolve
from airflow_imagesync.registry.transport import read_all

if TYPE_CHECKING:
    from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

#: ECR answers an error for more (google/go-containerregistry#1091).
PAGE_SIZE = 1000
MAX_PAGE = 8 * 1024 * 1024
MAX_PAGES = 1000
MAX_TAGS = 100_000
#: Google's lists end here without a word (Artifact Registry, "Quotas and limits").
GOOGLE_LIST_END = 10_000


@dataclass(frozen=True, slots=True)
class TagList:
    """The tags of a repository, in the registry's order, each once.

    ``heads`` has what the list says of their manifests, where it says that (see `tells_digests`). ``complete`` says
    whether a tag that is not here does not exist.
    """

    tags: list[str]
    heads: Mapping[str, ManifestHead] = field(default_factory=dict)
    complete: bool = True


def tags_of(client: RegistryClient, path: str) -> TagList:
    """Return all tags of the repository `path`; see RegistryClient."""
    base = f"{client.url}/v2/{path}/tags/list"
    try:
        found = _pages(client, path, f"{base}?n={PAGE_SIZE}")
    except RegistryError as error:
        if error.status != 400:
            raise
        found = _pages(client, path, base)  # a page size it does not take
    cut_off = may_be_cut_off(client.registry, len(found.tags))
    if cut_off:
        logger.warning(
            "%s/%s: the list of tags may lack some, because Google's registries list at most %d; name the tags wanted",
            client.registry,
            path,
            GOOGLE_LIST_END,
        )
    return TagList(found.tags, found.heads, complete=not cut_off)


def tells_digests(registry: str) -> bool:
    """Whether the lists of `registry` say which digest each tag has: those of Google do.

    google/go-containerregistry, pkg/v1/google/list.go.
    """
    return registry == "gcr.io" or registry.endswith((".gcr.io", ".pkg.dev"))


def may_be_cut_off(registry: str, count: int) -> bool:
    """Whether a list of `count` tags is one that `registry` leaves incomplete without telling."""
    return tells_digests(registry) and count >= GOOGLE_LIST_END


def _pages(client: RegistryClient, path: str, first: str) -> TagList:
    scopes = (repository_scope(path, "pull"),)
    tags: dict[str, None] = {}
    heads = _Heads()
    seen: set[str] = set()
    url: str | None = first
    # Some registries link a page to itself in the end.
    while url is not None and url not in seen:
        seen.add(url)
        page = url

        def once(page: str = page) -> _Page:
            return _page(client, page, scopes)

        found = client.retrying(once, f"GET {redact(page)}")
        url = found.following
        tags.update(dict.fromkeys(found.tags))
        if tells_digests(client.registry):
            heads.read(found.manifests)
        if len(tags) > MAX_TAGS or len(seen) > MAX_PAGES:
            raise ProtocolError(
                f"{client.registry}/{path} lists more than {MAX_TAGS} tags or {MAX_PAGES} pages of them; "
                "name the tags wanted",
                method="GET",
                url=redact(first),
                status=200,
            )
    return TagList(list(tags), {tag: head for tag, head in heads.found.items() if head is not None and tag in tags})


class _Heads:
    """Gathers what lists say of manifests: ``manifest: {digest: {"tag": [...], "mediaType": ...}}``."""

    def __init__(self) -> None:
        #: None for a tag that is said to have two digests: neither is believed.
        self.found: dict[str, ManifestHead | None] = {}

    def read(self, manifests: object) -> None:
        """Take what can be made sense of in one page's ``manifest``."""
        if not isinstance(manifests, dict):
            return
        for digest, about in manifests.items():
            if not is_digest(digest) or not isinstance(about, dict) or not isinstance(about.get("tag"), list):
                continue
            media_type = about.get("mediaType")
            head = ManifestHead(digest, media_type if isinstance(media_type, str) else "")
            for tag in about["tag"]:
                if isinstance(tag, str) and is_tag(tag):
                    self.found[tag] = head if self.found.get(tag, head) == head else None


@dataclass(frozen=True, slots=True)
class _Page:
    """One page: its tags, what it has under ``manifest``, unchecked, and the address of the page that follows."""

    tags: list[str]
    manifests: Any
    following: str | None = None


def _page(client: RegistryClient, url: str, scopes: Scope) -> _Page:
    """Return what is on a page.

    Registries that put other things into the list (Nexus: null, Artifactory: digests) have them left out.
    """

    def wrong(what: str) -> ProtocolError:
        return ProtocolError(f"GET {redact(url)}: {what}", method="GET", url=redact(url), status=200)

    # Artifactory answers 406 to a manifest's Accept header here (renovatebot/renovate#3078).
    response = client.follow("GET", url, scopes, headers={"Accept": "application/json"})
    if response.status_code != 200:
        raise client.error(response, "GET", url)
    links = ", ".join(response.raw.headers.getlist("Link"))
    body = read_all(response, MAX_PAGE, url)
    try:
        document = load_document(body, "the tag list")
    except ContentError as error:
        raise wrong(f"{error}; check that this is a registry") from error
    names = document.get("tags") or []
    if not isinstance(names, list):
        raise wrong("its tags are not a list")
    found = _Page([name for name in names if isinstance(name, str) and is_tag(name)], document.get("manifest"))
    for link in requests.utils.parse_header_links(links) if links else ():
        if "next" in link.get("rel", "").lower().split():
            following = at_registry(client.url, resolve(url, link["url"]))
            if following is None:
                raise wrong("the next page is said to be on another host, which is not followed")
            return replace(found, following=following)
    return found
