"""Looks at the watched tags of a repository, in the fewest requests.

A list only where the selection needs one, a HEAD for each tag whose digest no list tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airflow_imagesync.domain.digest import is_digest
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, TagPattern, Tags, compile_pattern
from airflow_imagesync.engine.listings import DIGESTS_PAY_FROM
from airflow_imagesync.errors import ImageSyncError, NotFound, RateLimited, SyncCancelled
from airflow_imagesync.registry.client import RegistryClient

logger = logging.getLogger(__name__)

#: After so many failures in a row it is the registry that fails, and no single tag.
_IN_A_ROW = 3

Watchable = AllTags | Tags | TagPattern


@dataclass(frozen=True, slots=True)
class Candidates:
    """The watched tags that there may be.

    ``told`` has the digests that a list has told. ``complete`` says whether a tag that is not among ``tags`` is not
    there.
    """

    tags: tuple[str, ...]
    told: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True


@dataclass
class Answers:
    """What HEADs have answered: digests by tag, None for a tag that is not there; and why asking ended early."""

    digests: dict[str, str | None] = field(default_factory=dict)
    error: ImageSyncError | None = None


def candidates(client: RegistryClient, repository: Repository, select: Watchable) -> Candidates:
    """Return the tags of `repository` that `select` means; raise what the registry answers.

    Named tags are not looked for in a list, unless many are named and the registry's lists tell their digests.
    """
    named = tuple(dict.fromkeys(select.tags)) if isinstance(select, Tags) else None
    if named is not None and not (client.lists_digests and len(named) >= DIGESTS_PAY_FROM):
        return Candidates(named)
    listed = client.tag_list(repository.path)
    if named is not None:
        tags: Iterable[str] = set(named) & set(listed.tags) if listed.complete else named
    elif isinstance(select, TagPattern):
        pattern = compile_pattern(select.pattern)
        tags = [tag for tag in listed.tags if pattern.search(tag)]
    else:
        tags = listed.tags
    found = tuple(sorted(tags))
    told = {tag: listed.heads[tag].digest for tag in found if tag in listed.heads}
    return Candidates(found, told, listed.complete)


def ask(client: RegistryClient, repository: Repository, tags: Iterable[str], known: Mapping[str, str]) -> Answers:
    """Ask what each of `tags` names, one after the other.

    `known` are digests that they probably have. Ends early, with the error, where the registry refuses to go on or
    fails for several tags in a row; one that fails for itself is left out.
    """
    answers = Answers()
    in_a_row = 0
    for tag in tags:
        expected = known.get(tag, "")
        try:
            head = client.head_manifest(repository.path, tag, expected if is_digest(expected) else None)
        except NotFound:
            answers.digests[tag] = None
        except SyncCancelled:
            raise
        except ImageSyncError as error:
            in_a_row += 1
            if not error.temporary or isinstance(error, RateLimited) or in_a_row == _IN_A_ROW:
                answers.error = error
                return answers
            logger.warning("%s:%s is looked at again later: %s", repository, tag, error)
            continue
        else:
            answers.digests[tag] = head.digest if head is not None else None
        in_a_row = 0
    return answers
