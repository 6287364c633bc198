"""What a configuration asks for: rules from a source to destinations, and the logins to use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import re2

from airflow_imagesync.domain.login import DockerLogins, Login
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import ImageReference, Repository, quoted
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import InvalidReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_CONCURRENCY = 8
DEFAULT_RETRIES = 3
DEFAULT_FULL_CHECK_EVERY = 10


@dataclass(frozen=True, slots=True)
class AllTags:
    """Every tag the source repository has."""

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags named, in the order written; a tag may stand twice when it goes to two destination tags."""

    tags: tuple[str, ...]

    def __str__(self) -> str:
        return ":" + ",".join(dict.fromkeys(self.tags))


@dataclass(frozen=True, slots=True)
class TagPattern:
    """Every tag in which a regular expression (RE2 syntax, unanchored) finds a match."""

    pattern: str

    def __str__(self) -> str:
        return f":/{self.pattern}/"


@dataclass(frozen=True, slots=True)
class ByDigest:
    """The content of one digest; ``tag`` is the tag that stood before it, or None."""

    digest: str
    tag: str | None = None

    def __str__(self) -> str:
        return f":{self.tag}@{self.digest}" if self.tag else f"@{self.digest}"


Select = AllTags | Tags | TagPattern | ByDigest


class CompiledPattern(Protocol):
    """A regular expression that is ready to be looked for."""

    def search(self, text: str, /) -> object | None:
        """Return what was found anywhere in `text`, or None."""


def compile_pattern(pattern: str) -> CompiledPattern:
    """Return the regular expression `pattern` (RE2 syntax), ready for searching; raise InvalidReference."""
    options = re2.Options()
    options.log_errors = False  # the library would write to stderr by itself
    try:
        compiled: CompiledPattern = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        detail = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        hint = "; RE2 has no look-around and no back-references" if "perl operator" in detail else ""
        raise InvalidReference(
            f"{quoted(pattern)} is not a regular expression in RE2 syntax: {quoted(detail)[1:-1]}{hint}"
        ) from None
    return compiled


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a rule's images go.

    ``tags`` has one tag for each that the source's select names, in the same order; None where the source's
    own tags are kept. For a source that is a digest it has at most one: the tag to give, and is empty where
    the image is pushed by its digest alone.
    """

    repository: Repository
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: which images of a source repository go to which destinations.

    ``index`` is the rule's 0-based position in the configuration. ``platforms`` empty means all.
    ``allow_empty`` lets the rule match no tag without failing. ``force`` copies what is the same, too.
    ``trust_records`` takes a record's word for what the destination has; each ``full_check_every``-th run takes no
    record's word for anything, 1 for no run that does.
    """

    index: int
    source: Repository
    select: Select
    destinations: tuple[Destination, ...]
    platforms: tuple[Platform, ...] = ()
    allow_empty: bool = False
    force: bool = False
    trust_records: bool = False
    full_check_every: int = DEFAULT_FULL_CHECK_EVERY

    def __str__(self) -> str:
        return f"{self.source}{self.select}"

    @property
    def label(self) -> str:
        """``source -> destination``, as people read it."""
        return f"{self} -> {', '.join(str(one.repository) for one in self.destinations)}"

    @property
    def filter_text(self) -> str:
        """The platforms as records have them: sorted, with commas; empty for all."""
        return ",".join(sorted({str(one) for one in self.platforms}))

    def pairs(self, tags: Iterable[str] = ()) -> list[tuple[ImageReference, ImageReference]]:
        """Return the (source, destination) images of this rule, each pair once.

        `tags` are the tags of the source repository that the select matches, for selects that need a
        listing. Order: tags as written or given, then destinations as written.
        """
        select = self.select
        if isinstance(select, ByDigest):
            source = ImageReference(self.source, digest=select.digest)
            rows = [
                (
                    source,
                    ImageReference(to.repository, tag=to.tags[0])
                    if to.tags
                    else ImageReference(to.repository, digest=select.digest),
                )
                for to in self.destinations
            ]
            return list(dict.fromkeys(rows))
        names = select.tags if isinstance(select, Tags) else tuple(tags)
        rows = [
            (
                ImageReference(self.source, tag=tag),
                ImageReference(to.repository, tag=to.tags[position] if to.tags is not None else tag),
            )
            for position, tag in enumerate(names)
            for to in self.destinations
        ]
        return list(dict.fromkeys(rows))


@dataclass(frozen=True)
class SyncConfig:
    """A whole configuration, checked and with its environment variables filled in.

    ``concurrency`` counts transfers at once, over all images; ``retries`` is how often a request or a
    transfer that failed temporarily is tried again. ``docker`` says where Docker keeps logins, for those registries
    that take theirs from there. ``warnings`` are for a person to read.
    """

    rules: tuple[Rule, ...] = ()
    logins: tuple[Login, ...] = ()
    concurrency: int = DEFAULT_CONCURRENCY
    retries: int = DEFAULT_RETRIES
    timeouts: Timeouts = field(default_factory=Timeouts)
    docker: DockerLogins = field(default_factory=DockerLogins)
    warnings: tuple[str, ...] = field(default=())

    def login_for(self, repository: Repository) -> Login | None:
        """Return the login with the longest key that applies to `repository`, or None."""
        namespace = repository.path
        while (login := self._by_key.get((repository.registry, namespace))) is None and namespace:
            namespace = namespace.rpartition("/")[0]
        return login

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], Login]:
        return {(login.registry, login.namespace): login for login in self.logins}

    def with_connections(self, resolve: Callable[[Login], Login]) -> SyncConfig:
        """Return this configuration with every login that names a connection filled in by `resolve`."""
        return replace(self, logins=tuple(resolve(one) if one.conn_id else one for one in self.logins))
