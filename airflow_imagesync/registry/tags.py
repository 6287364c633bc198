"""The tags of a repository, page by page.

OCI distribution specification, "Listing Tags".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import requests

from airflow_imagesync.domain.manifest import load_document
from airflow_imagesync.domain.reference import is_tag
from airflow_imagesync.errors import ContentError, ProtocolError, RegistryError
from airflow_imagesync.registry.auth import Scope, repository_scope
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


def list_tags(client: RegistryClient, path: str) -> list[str]:
    """Return all tags of the repository `path`, in the registry's order, each once; see RegistryClient."""
    base = f"{client.url}/v2/{path}/tags/list"
    try:
        tags = _pages(client, path, f"{base}?n={PAGE_SIZE}")
    except RegistryError as error:
        if error.status != 400:
            raise
        tags = _pages(client, path, base)  # a page size it does not take
    if may_be_cut_off(client.registry, len(tags)):
        logger.warning(
            "%s/%s: the list of tags may lack some, because Google's registries list at most %d; name the tags wanted",
            client.registry,
            path,
            GOOGLE_LIST_END,
        )
    return tags


def may_be_cut_off(registry: str, count: int) -> bool:
    """Whether a list of `count` tags is one that `registry` leaves incomplete without telling."""
    google = registry == "gcr.io" or registry.endswith((".gcr.io", ".pkg.dev"))
    return google and count >= GOOGLE_LIST_END


def _pages(client: RegistryClient, path: str, first: str) -> list[str]:
    scopes = (repository_scope(path, "pull"),)
    tags: dict[str, None] = {}
    seen: set[str] = set()
    url: str | None = first
    # Some registries link a page to itself in the end.
    while url is not None and url not in seen:
        seen.add(url)
        page = url

        def once(page: str = page) -> tuple[list[str], str | None]:
            return _page(client, page, scopes)

        names, url = client.retrying(once, f"GET {redact(page)}")
        tags.update(dict.fromkeys(names))
        if len(tags) > MAX_TAGS or len(seen) > MAX_PAGES:
            raise ProtocolError(
                f"{client.registry}/{path} lists more than {MAX_TAGS} tags or {MAX_PAGES} pages of them; "
                "name the tags wanted",
                method="GET",
                url=redact(first),
                status=200,
            )
    return list(tags)


def _page(client: RegistryClient, url: str, scopes: Scope) -> tuple[list[str], str | None]:
    """Return the tags on a page and the address of the next one.

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
        names = load_document(body, "the tag list").get("tags") or []
    except ContentError as error:
        raise wrong(f"{error}; check that this is a registry") from error
    if not isinstance(names, list):
        raise wrong("its tags are not a list")
    found = [name for name in names if isinstance(name, str) and is_tag(name)]
    for link in requests.utils.parse_header_links(links) if links else ():
        if "next" in link.get("rel", "").lower().split():
            following = at_registry(client.url, resolve(url, link["url"]))
            if following is None:
                raise wrong("the next page is said to be on another host, which is not followed")
            return found, following
    return found, None
