"""How the images of one plan stand: what each source names, what its destinations have, and what records spare asking.

A record's word is taken for what a platform filter makes of an index, and for what a destination has where a rule
trusts records: in some runs, and then in one none. Everything else is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_imagesync.domain.manifest import INDEX_TYPES
from airflow_imagesync.domain.plan import ImagePair, PairState
from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.engine.failures import describe, is_temporary, missing_source, retry_time
from airflow_imagesync.engine.listings import DestinationTags
from airflow_imagesync.engine.records import ImageRecord, KnownImage, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.engine.selection import select_platforms
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.manifests import ManifestHead


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image that a rule wants at one destination; ``head`` is what a list has told of the source."""

    rule: Rule
    source: ImageReference
    destination: ImageReference
    head: ManifestHead | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The source and the destination as texts."""
        return str(self.source), str(self.destination)

    def unforced(self) -> Wanted:
        """Return the same image, to be copied only where it is not the same already."""
        return replace(self, rule=replace(self.rule, force=False))


class _NotAsked:
    """Stands for what a destination has where it was not asked yet."""


_NOT_ASKED = _NotAsked()
#: What a destination names, None for nothing; or why that is not known.
_There = ManifestHead | Exception | _NotAsked | None


class Comparison:
    """Compares all of `wanted`, group by group, on any threads. `lazy` is explained at Planner.plan.

    ``notes`` grows by what records don't know yet, and `untagged` by the destination repositories that have no tag.
    """

    def __init__(
        self,
        registries: Registries,
        records: Records,
        wanted: Sequence[Wanted],
        *,
        lazy: bool,
        untagged: set[Repository] | None = None,
    ) -> None:
        self._registries = registries
        self._lazy = lazy
        destinations = [one.destination for one in wanted]
        self._known = records.images({str(one) for one in destinations})
        recorded = {one for one in destinations if str(one) in self._known}
        self._tags = DestinationTags(registries, destinations, recorded, untagged)
        #: Destinations of several images, whose digests must be known to tell whether they are in each other's way.
        self._shared = {one for one, count in Counter(destinations).items() if count > 1}
        self.notes: list[ImageRecord] = []

    def compare(self, images: Sequence[Wanted]) -> list[ImagePair]:
        """Return how images of one rule and one source stand; a fault of a registry makes failed rows."""
        try:
            return self._compare(images)
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            return [failed(one, error) for one in images]

    def _compare(self, images: Sequence[Wanted]) -> list[ImagePair]:
        there: list[_There] = [_NOT_ASKED] * len(images)
        if self._may_be_lazy(images):
            there = [self._ask(one) for one in images]
            if not any(isinstance(one, ManifestHead) for one in there):
                return [
                    failed(one, at) if isinstance(at, Exception) else _row(one, PairState.NEW)
                    for one, at in zip(images, there, strict=True)
                ]
        client = self._registries.client(images[0].source.repository)
        source = _Source(client, images[0], self._expected_source(images, there))
        return [self._compare_one(one, source, at) for one, at in zip(images, there, strict=True)]

    def _may_be_lazy(self, images: Sequence[Wanted]) -> bool:
        """Whether the source need not be asked where no destination has anything.

        It is where its pulls are counted: a HEAD is free there, and tells which tags are one image, pulled once.
        """
        return (
            self._lazy
            and images[0].head is None
            and not any(one.destination in self._shared for one in images)
            and not any(one.rule.trust_records and self._record(one) is not None for one in images)
            and not self._registries.client(images[0].source.repository).counts_pulls
        )

    def _known_of(self, one: Wanted) -> KnownImage | None:
        return self._known.get(str(one.destination)) if self._known else None

    def _ask(self, one: Wanted) -> ManifestHead | Exception | None:
        known = self._known_of(one)
        try:
            return self._tags.head(one.destination, known.digest if known is not None else None)
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            return error

    def _expected_source(self, images: Sequence[Wanted], there: Sequence[_There]) -> str | None:
        """Return the digest that the source probably has: that of a record, or of a destination."""
        for one, at in zip(images, there, strict=True):
            known = self._known_of(one)
            if known is not None and known.source == str(one.source):
                return known.source_digest
            if isinstance(at, ManifestHead) and not one.rule.platforms:
                return at.digest
        return None

    def _record(self, one: Wanted) -> KnownImage | None:
        """Return the record that tells what the destination was made of, if its word may be taken in this run."""
        known, rule = self._known_of(one), one.rule
        if known is None or rule.force or known.unchecked + 1 >= rule.full_check_every:
            return None
        same = known.source == str(one.source) and known.platforms == rule.filter_text
        return known if same else None

    def _compare_one(self, one: Wanted, source: _Source, there: _There) -> ImagePair:
        head, record = source.head, self._record(one)
        if record is not None and record.source_digest != head.digest:
            record = None
        if record is not None and one.rule.trust_records and (one.rule.platforms or record.digest == head.digest):
            return self._same(one, head.digest, record.digest, trusted=True)
        try:
            if isinstance(there, Exception):
                raise there
            guess = record.digest if record is not None and source.may_change else None
            if isinstance(there, _NotAsked):
                there = self._tags.head(one.destination, guess or source.target())
            if there is None and self._lazy and one.destination not in self._shared:
                return _row(one, PairState.NEW, head.digest)  # the copier finds out what a filter makes of it
            if guess is not None and there is not None and there.digest == guess:
                return self._same(one, head.digest, guess, trusted=True)
            target = source.target()
            if there is not None and there.digest == target and not one.rule.force:
                return self._same(one, head.digest, target)
            if not self._lazy and (there is None or there.digest != target):
                source.check_platform()
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            return replace(failed(one, error), source_digest=head.digest)
        state = PairState.NEW if there is None else PairState.CHANGED
        return _row(one, state, head.digest, there.digest if there is not None else None, target)

    def _same(self, one: Wanted, source_digest: str, digest: str, *, trusted: bool = False) -> ImagePair:
        """Return the row of an image that is the same, and note what its record does not know yet."""
        row = _row(one, PairState.SAME, source_digest, digest, digest)
        known = self._known.get(row.destination)
        now = KnownImage(row.source, source_digest, one.rule.filter_text, digest)
        if trusted or known != now:
            self.notes.append(
                ImageRecord(row.destination, row.source, now.platforms, "same", source_digest, digest, trusted=trusted)
            )
        return row


class _Source:
    """What a source names, and what a platform filter makes of that, found out when first needed.

    `expected` is the digest that it probably has. Raises NotFound when it names nothing, and what the registry answers.
    """

    def __init__(self, client: RegistryClient, one: Wanted, expected: str | None) -> None:
        self._client = client
        self._path = one.source.repository.path
        self._rule = one.rule
        head = one.head
        if head is None or (one.rule.platforms and not head.media_type):
            head = client.head_manifest(self._path, one.source.reference, expected)
        if head is None:
            raise missing_source(one.source)
        self.head = head
        self._selected: str | Exception | None = None

    @property
    def may_change(self) -> bool:
        """Whether the filter may make something else of it; so it may where the registry did not tell the type."""
        return bool(self._rule.platforms) and (not self.head.media_type or self.head.media_type in INDEX_TYPES)

    def target(self) -> str:
        """Return the digest that destinations should have."""
        return self._select() if self.may_change else self.head.digest

    def check_platform(self) -> None:
        """Raise UnsupportedContent when it is for other platforms only."""
        if self._rule.platforms:
            self._select()

    def _select(self) -> str:
        if self._selected is None:
            try:
                root = self._client.get_manifest(self._path, self.head.digest)
                self._selected = select_platforms(self._client, self._path, root, self._rule.platforms).root.digest
            except Exception as error:  # noqa: BLE001  # each destination's row tells it
                self._selected = error
        if isinstance(self._selected, Exception):
            raise self._selected
        return self._selected


def failed(one: Wanted, error: BaseException) -> ImagePair:
    """Return the row of an image that could not be compared."""
    return replace(
        _row(one, PairState.FAILED),
        error=describe(error),
        temporary=is_temporary(error),
        retry_at=retry_time(error),
    )


def _row(
    one: Wanted,
    state: PairState,
    source_digest: str | None = None,
    destination_digest: str | None = None,
    target: str | None = None,
) -> ImagePair:
    return ImagePair(
        rule=one.rule.index,
        source=str(one.source),
        destination=str(one.destination),
        state=state,
        source_digest=source_digest,
        # The same digest came in two answers: it is held once.
        destination_digest=source_digest if destination_digest == source_digest else destination_digest,
        filtered_digest=target if target != source_digest else None,
    )
