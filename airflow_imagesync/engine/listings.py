"""What destination tags name, asked with few requests: HEAD by HEAD, or from a list of all of a repository's tags."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable

from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import ImageSyncError, NotFound
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.manifests import ManifestHead

logger = logging.getLogger(__name__)

#: How many tags must be left to ask for that a list pays, after a tag was found missing. A list may have many pages.
LIST_PAYS_FROM = 8
#: The same where the list tells the digests, too, and is asked for in place of HEADs.
DIGESTS_PAY_FROM = 3
_NO_REPOSITORY = "NAME_UNKNOWN"


class DestinationTags:
    """Asks what the destinations of one plan name, all of which are given as `destinations`; for many threads.

    Those in `recorded` are thought to exist. `untagged` gets the repositories that have no tag.
    """

    def __init__(
        self,
        registries: Registries,
        destinations: Iterable[ImageReference],
        recorded: Collection[ImageReference] = (),
        untagged: set[Repository] | None = None,
    ) -> None:
        self._registries = registries
        self._recorded = recorded
        self._untagged = untagged if untagged is not None else set()
        self._places: dict[Repository, _Place] = {}
        for one in destinations:
            if one.tag is not None and one.digest is None:
                place = self._places.setdefault(one.repository, _Place())
                place.wanted.add(one.tag)
                place.left[one in recorded] += 1

    def head(self, destination: ImageReference, expected: str | None = None) -> ManifestHead | None:
        """Return what a destination names, or None when there is nothing; raise what the registry answers.

        `expected` is the digest that it probably has.
        """
        repository = destination.repository
        client = self._registries.client(repository)
        tag, place = destination.tag, self._places.get(repository)
        if place is None or tag is None or destination.digest is not None:
            return client.head_manifest(repository.path, destination.reference, expected)
        recorded = destination in self._recorded
        with place.lock:  # which waits for a list that is on its way
            place.left[recorded] -= 1
            if client.lists_digests and len(place.wanted) >= DIGESTS_PAY_FROM:
                self._list(place, client, repository)
            if tag in place.missing:
                return None
            head = place.heads.get(tag)
        if head is None:
            head = client.head_manifest(repository.path, tag, expected)
        if head is None:
            with place.lock:
                # Tags that a record knows are rather there, until one of them is not.
                left = place.left[False] + (place.left[True] if recorded else 0)
                if left >= LIST_PAYS_FROM:
                    self._list(place, client, repository)
        return head

    def _list(self, place: _Place, client: RegistryClient, repository: Repository) -> None:
        place.list(client, repository)
        if place.untagged:
            self._untagged.add(repository)


class _Place:
    """A destination repository: its tags that are wanted, and what a list of all has told of those."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted: set[str] = set()
        #: How many have not been asked for, by whether a record knows them.
        self.left: Counter[bool] = Counter()
        self.missing: set[str] = set()
        self.heads: dict[str, ManifestHead] = {}
        #: Whether the repository has no tag at all.
        self.untagged = False
        self._listed = False

    def list(self, client: RegistryClient, repository: Repository) -> None:
        """List the tags unless that was done, with the lock held; without an answer all is left to HEADs."""
        if self._listed:
            return
        self._listed = True
        try:
            listed = client.tag_list(repository.path)
        except NotFound as error:
            if _NO_REPOSITORY in error.codes:
                self.missing, self.untagged = self.wanted, True
            return
        except ImageSyncError as error:
            logger.debug("the tags of %s are asked for one by one: %s", repository, error)
            return
        if listed.complete:
            self.missing, self.untagged = self.wanted.difference(listed.tags), not listed.tags
        self.heads = {tag: head for tag, head in listed.heads.items() if tag in self.wanted}
