"""From rules to images with their states: lists tags and compares both sides, one HEAD each.

The destination registry is the truth: nothing else is asked. A fault of a registry makes failed rows, never
an exception.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import groupby

from airflow_imagesync.domain.manifest import INDEX_TYPES
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.domain.rules import AllTags, Rule, TagPattern, compile_pattern
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.engine.selection import select_platforms
from airflow_imagesync.errors import ImageSyncError, NotFound
from airflow_imagesync.registry.manifests import ManifestHead

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image that a rule wants at one destination."""

    rule: Rule
    source: ImageReference
    destination: ImageReference


_Rows = list[ImagePair]


class Planner:
    """Compares sources with destinations, on the threads of `executor`."""

    def __init__(
        self, registries: Registries, executor: Executor, progress: Progress, records: Records = NO_RECORDS
    ) -> None:
        self._registries = registries
        self._executor = executor
        self._progress = progress
        self._records = records

    def plan(self, rules: Sequence[Rule]) -> Plan:
        """Return every image of `rules` with its state; a pair that two rules name is there once."""
        listings = [(rule, self._executor.submit(self.expand, rule)) for rule in rules]
        rows: list[_Rows | Future[_Rows]] = []
        seen: set[tuple[object, ...]] = set()
        notes: list[str] = []
        for rule, listing in listings:
            fresh = []
            try:
                wanted = listing.result()
            except Exception as error:  # noqa: BLE001  # one bad rule must not stop the others
                rows.append(failed_rule(rule, error))
                continue
            if not wanted:
                notes.append(f"rule {rule.index}: {rule} matches no tag, which it allows (allow_empty)")
            for one in wanted:
                key = (one.source, one.destination, frozenset(rule.platforms))
                if key not in seen:
                    seen.add(key)
                    fresh.append(one)
            rows.extend(self._submit(fresh))
        return replace(_collect(rows), notes=tuple(notes))

    def compare(self, wanted: Iterable[Wanted]) -> Plan:
        """Return the images of `wanted`, in that order, with their states."""
        return _collect(list(self._submit(wanted)))

    def expand(self, rule: Rule) -> list[Wanted]:
        """Return the images that `rule` names, listing the source's tags where it takes that.

        Raises NotFound when no tag matches and the rule does not allow it, and what the registry answers.
        """
        tags: list[str] = []
        if isinstance(rule.select, AllTags | TagPattern):
            tags = sorted(self._registries.client(rule.source).list_tags(rule.source.path))
            if isinstance(rule.select, TagPattern):
                pattern = compile_pattern(rule.select.pattern)
                tags = [tag for tag in tags if pattern.search(tag)]
            if not tags and not rule.allow_empty:
                raise NotFound(
                    f"{rule} matches no tag of the source repository; "
                    "check the selection, or set allow_empty: true for the rule if that is fine"
                )
        return [Wanted(rule, source, destination) for source, destination in rule.pairs(tags)]

    def _submit(self, wanted: Iterable[Wanted]) -> list[Future[_Rows]]:
        """Compare images on the executor, those of one source together so that it is asked once."""
        futures = []
        for _, group in groupby(wanted, key=lambda one: (one.rule.index, one.source)):
            images = list(group)
            self._progress.add(to_plan=len(images))
            futures.append(self._executor.submit(self._compare, images))
        return futures

    def _compare(self, images: list[Wanted]) -> _Rows:
        rule, source = images[0].rule, images[0].source
        try:
            head = self._head_source(source)
            target = self._target(rule, source, head)
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            rows = [_failed(one, error) for one in images]
        else:
            rows = [self._compare_one(one, head, target) for one in images]
        self._progress.add(planned=len(images))
        return rows

    def _head_source(self, source: ImageReference) -> ManifestHead:
        head = self._registries.client(source.repository).head_manifest(source.repository.path, source.reference)
        if head is None:
            raise NotFound(f"{source} does not exist at the source; check the repository and the tag")
        return head

    def _target(self, rule: Rule, source: ImageReference, head: ManifestHead) -> str:
        """Return the digest that the destination should have: the source's, unless a platform filter changes it."""
        if not rule.platforms or head.media_type not in INDEX_TYPES:
            return head.digest
        return self._select(rule, source, head.digest)

    def _select(self, rule: Rule, source: ImageReference, digest: str) -> str:
        client, path = self._registries.client(source.repository), source.repository.path
        root = client.get_manifest(path, digest)
        return select_platforms(client, path, root, rule.platforms).root.digest

    def _compare_one(self, one: Wanted, head: ManifestHead, target: str) -> ImagePair:
        repository = one.destination.repository
        try:
            there = self._registries.client(repository).head_manifest(repository.path, one.destination.reference)
            same = there is not None and there.digest == target
            if one.rule.platforms and not same and head.media_type not in INDEX_TYPES:
                self._select(one.rule, one.source, head.digest)  # raises when the image is for another platform
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            return replace(_failed(one, error), source_digest=head.digest)
        state = PairState.NEW if there is None else PairState.CHANGED
        if same and not one.rule.force:
            state = PairState.SAME
        return ImagePair(
            rule=one.rule.index,
            source=str(one.source),
            destination=str(one.destination),
            state=state,
            source_digest=head.digest,
            destination_digest=there.digest if there is not None else None,
            filtered_digest=target if target != head.digest else None,
        )


def describe(error: BaseException) -> str:
    """Return the text of an error for a result; an error that is no fault of registry or user is logged as a bug."""
    if isinstance(error, ImageSyncError):
        return str(error)
    logger.error("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}; this is a bug, please report it with the log"


def is_temporary(error: BaseException) -> bool:
    """Whether an error may pass by itself."""
    return isinstance(error, ImageSyncError) and error.temporary


def retry_time(error: BaseException) -> float | None:
    """Return from when on trying again is of use, in POSIX seconds, where that is longer than was waited."""
    return error.retry_at if isinstance(error, ImageSyncError) else None


def failed_rule(rule: Rule, error: BaseException) -> _Rows:
    """Return the rows of a rule that could not be planned: one for each destination."""
    return [
        ImagePair(
            rule=rule.index,
            source=str(rule),
            destination=str(to.repository),
            state=PairState.FAILED,
            error=describe(error),
            temporary=is_temporary(error),
            retry_at=retry_time(error),
            whole_rule=True,
        )
        for to in rule.destinations
    ]


def _failed(one: Wanted, error: BaseException) -> ImagePair:
    return ImagePair(
        rule=one.rule.index,
        source=str(one.source),
        destination=str(one.destination),
        state=PairState.FAILED,
        error=describe(error),
        temporary=is_temporary(error),
        retry_at=retry_time(error),
    )


def _collect(rows: Iterable[_Rows | Future[_Rows]]) -> Plan:
    pairs = [pair for row in rows for pair in (row.result() if isinstance(row, Future) else row)]
    return Plan(tuple(_without_overlaps(pairs)))


def _without_overlaps(pairs: _Rows) -> _Rows:
    """Fail the images that would write different content to one destination tag."""
    by_destination: dict[str, list[ImagePair]] = defaultdict(list)
    for pair in pairs:
        if pair.state is not PairState.FAILED:
            by_destination[pair.destination].append(pair)
    clashes: dict[str, str] = {}
    for destination, group in by_destination.items():
        if len({one.filtered_digest or one.source_digest for one in group}) > 1:
            sources = ", ".join(f"{one.source} (rule {one.rule})" for one in group)
            clashes[destination] = (
                f"{destination} would be written from several sources with different content: {sources}; "
                "nothing is copied there until one rule is changed"
            )
    return [
        replace(pair, state=PairState.FAILED, error=clashes[pair.destination], temporary=False)
        if pair.state is not PairState.FAILED and pair.destination in clashes
        else pair
        for pair in pairs
    ]
