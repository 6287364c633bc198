"""How sources and destinations are written (image-syncer's notation), and what each of them means.

``registry/repository`` is all tags, ``:tag`` and ``:tag1,tag2`` the tags named, ``:/regex/`` the tags in
which an RE2 expression finds a match, ``@digest`` the content of a digest, ``:tag@digest`` the same under
that tag.
"""

from __future__ import annotations

from airflow_imagesync.domain.digest import check_digest
from airflow_imagesync.domain.reference import (
    Repository,
    check_no_scheme,
    check_tag,
    quoted,
    split_reference,
)
from airflow_imagesync.domain.rules import (
    AllTags,
    ByDigest,
    Destination,
    Select,
    TagPattern,
    Tags,
    compile_pattern,
)
from airflow_imagesync.errors import InvalidReference


def split_pattern(text: str) -> tuple[str, str | None]:
    """Split ``name:/regex/`` into the name and ``/regex/`` with its slashes, unchecked.

    The second part is None where no regular expression begins. Both parts joined by a colon are `text` again.
    """
    name, mark, rest = text.partition(":/")
    # "name://" is the empty expression; "https://host" is none at all.
    if not mark or (rest.startswith("/") and rest != "/"):
        return text, None
    return name, f"/{rest}"


def parse_source(text: str) -> tuple[Repository, Select]:
    """Return the repository that a rule's source names and which of its images; raise InvalidReference."""
    name, pattern = split_pattern(text)
    _check_name(name, "source")
    if pattern is not None:
        if len(pattern) < 2 or not pattern.endswith("/"):
            raise InvalidReference(
                f"{quoted(text)} has a regular expression without an end; expected repository:/regex/"
            )
        expression = pattern[1:-1]
        compile_pattern(expression)
        return Repository.parse(name), TagPattern(expression)
    name, written_tags, digest = split_reference(text)
    repository = Repository.parse(name)
    if digest is not None:
        if written_tags is not None and "," in written_tags:
            raise InvalidReference(f"{quoted(text)} has several tags and a digest; expected one tag at most")
        return repository, ByDigest(check_digest(digest), check_tag(written_tags) if written_tags is not None else None)
    if written_tags is None:
        return repository, AllTags()
    return repository, Tags(_tags(written_tags))


def parse_destination(text: str, select: Select) -> Destination:
    """Return where a rule's destination sends the images of `select`; raise InvalidReference.

    Tags are counted as written: as many as the source names, or none where the source's are kept.
    """
    repository, tags, digest = _destination_parts(text)
    if isinstance(select, ByDigest):
        return Destination(repository, _digest_tags(text, tags, digest, select))
    if digest is not None:
        raise InvalidReference(
            f"{quoted(text)} has a digest, which only a source with the same digest can go to; "
            "expected a tag, or none to keep the source's"
        )
    if tags is None:
        return Destination(repository)
    if not isinstance(select, Tags):
        what = "all tags" if isinstance(select, AllTags) else "the tags that match an expression"
        raise InvalidReference(
            f"{quoted(text)} has a tag, but the source means {what} of its repository; expected no tag"
        )
    if len(tags) != len(select.tags):
        raise InvalidReference(
            f"{quoted(text)} has {_count(tags)}, but the source has {_count(select.tags)}; "
            "expected as many, or none to keep the source's"
        )
    return Destination(repository, tags)


def check_destination(text: str) -> None:
    """Raise InvalidReference when `text` is no destination for any source."""
    _destination_parts(text)


def without_repetition(select: Select, destinations: tuple[Destination, ...]) -> tuple[Select, tuple[Destination, ...]]:
    """Return the same rule without tags and destinations that say again what was said before.

    A tag that stands twice in a source stays twice only where it goes to two tags of one destination.
    """
    destinations = tuple(dict.fromkeys(destinations))
    if not isinstance(select, Tags):
        return select, destinations
    columns = [select.tags, *(one.tags if one.tags is not None else select.tags for one in destinations)]
    rows = list(dict.fromkeys(zip(*columns, strict=True)))
    names, *kept = (tuple(column) for column in zip(*rows, strict=True))
    return Tags(names), tuple(
        Destination(one.repository, tags if one.tags is not None else None)
        for one, tags in zip(destinations, kept, strict=True)
    )


def _check_name(text: str, what: str) -> None:
    """Raise InvalidReference when `text` is empty, begins with a scheme or has a login in it."""
    if not text:
        raise InvalidReference(f"the {what} is empty; expected registry/repository, with or without tags")
    check_no_scheme(text)
    _, _, behind = text.partition("@")
    if "/" in behind and not behind.startswith(("sha256:", "sha512:")):
        raise InvalidReference(
            f"the {what} has an '@' before its name; a login is written under auth or registries instead"
        )


def _destination_parts(text: str) -> tuple[Repository, tuple[str, ...] | None, str | None]:
    """Return the repository, the tags and the digest of a destination; raise InvalidReference."""
    _check_name(text, "destination")
    if split_pattern(text)[1] is not None:
        raise InvalidReference(f"{quoted(text)} has a regular expression; expected tags, or none to keep the source's")
    name, written_tags, digest = split_reference(text)
    repository = Repository.parse(name)
    tags = _tags(written_tags) if written_tags is not None else None
    return repository, tags, check_digest(digest) if digest is not None else None


def _tags(written: str) -> tuple[str, ...]:
    return tuple(check_tag(tag) for tag in written.split(","))


def _digest_tags(text: str, tags: tuple[str, ...] | None, digest: str | None, select: ByDigest) -> tuple[str, ...]:
    """Return the tags that a destination gives to the content of a digest: one, or none."""
    if digest is not None and digest != select.digest:
        raise InvalidReference(
            f"{quoted(text)} has another digest than the source; expected {select.digest}, a tag, or none"
        )
    if tags is None:
        return (select.tag,) if select.tag is not None and digest is None else ()
    if len(tags) > 1:
        raise InvalidReference(
            f"{quoted(text)} has {len(tags)} tags, but the source is one digest; expected one tag or none"
        )
    return tags


def _count(tags: tuple[str, ...]) -> str:
    return "1 tag" if len(tags) == 1 else f"{len(tags)} tags"
