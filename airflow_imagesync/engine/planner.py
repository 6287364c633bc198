"""From rules to images with their states: lists tags and compares both sides, at most one HEAD each.

The destination registry is the truth; `engine.comparison` says what is not asked for. A fault of a registry makes
failed rows, never an exception.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from itertools import groupby, islice
from threading import Semaphore

from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, Rule, TagPattern, compile_pattern
from airflow_imagesync.engine.comparison import Comparison, Wanted
from airflow_imagesync.engine.failures import describe, is_temporary, retry_time
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.errors import NotFound
from airflow_imagesync.registry.manifests import ManifestHead

#: Comparisons that wait for a thread or are on one; each takes more memory than what comes of it.
_SUBMITTED = 256

_Rows = list[ImagePair]


class Planner:
    """Compares sources with destinations, on the threads of `executor`, by what `records` know and for them."""

    def __init__(
        self, registries: Registries, executor: Executor, progress: Progress, records: Records = NO_RECORDS
    ) -> None:
        self._registries = registries
        self._executor = executor
        self._progress = progress
        self._records = records
        #: Destination repositories that are known to have no tag; it grows with what is compared.
        self.untagged: set[Repository] = set()

    def plan(self, rules: Sequence[Rule], *, lazy: bool = False, done: Collection[tuple[str, str]] = ()) -> Plan:
        """Return every image of `rules` with its state; a pair that two rules name is there once.

        `done` are images that are not forced even where their rule says so, as source and destination.

        `lazy` is for who copies at once: the source of an image that the destination does not have is not asked, so
        that its digest is not known and it may not exist; and that a single image is for another platform is left to
        the copier to find.
        """
        listings = [(rule, self._executor.submit(self.expand, rule)) for rule in rules]
        #: For each rule the row of its failure, or how many images it has that no rule before it had.
        parts: list[_Rows | int] = []
        wanted: list[Wanted] = []
        seen: set[tuple[object, ...]] = set()
        notes: list[str] = []
        for rule, listing in listings:
            try:
                found = listing.result()
            except Exception as error:  # noqa: BLE001  # one bad rule must not stop the others
                parts.append(failed_rule(rule, error))
                continue
            if not found:
                notes.append(f"rule {rule.index}: {rule} matches no tag, which it allows (allow_empty)")
            platforms = frozenset(rule.platforms)
            before = len(wanted)
            for one in found:
                key = (one.source, one.destination, platforms)
                if key not in seen:
                    seen.add(key)
                    wanted.append(one.unforced() if done and one.names in done else one)
            parts.append(len(wanted) - before)
        del listings, seen  # a plan may be large
        rows = iter(self._compared(wanted, lazy=lazy))
        pairs: _Rows = []
        for part in parts:
            pairs += islice(rows, part) if isinstance(part, int) else part
        return Plan(tuple(_without_overlaps(pairs)), tuple(notes))

    def compare(self, wanted: Iterable[Wanted], *, lazy: bool = False) -> Plan:
        """Return the images of `wanted`, in that order, with their states; `lazy` as for `plan`."""
        return Plan(tuple(_without_overlaps(self._compared(list(wanted), lazy=lazy))))

    def expand(self, rule: Rule) -> list[Wanted]:
        """Return the images that `rule` names, listing the source's tags where it takes that.

        Raises NotFound when no tag matches and the rule does not allow it, and what the registry answers.
        """
        tags: list[str] = []
        heads: Mapping[str, ManifestHead] = {}
        if isinstance(rule.select, AllTags | TagPattern):
            listed = self._registries.client(rule.source).tag_list(rule.source.path)
            tags, heads = sorted(listed.tags), listed.heads
            if isinstance(rule.select, TagPattern):
                pattern = compile_pattern(rule.select.pattern)
                tags = [tag for tag in tags if pattern.search(tag)]
            if not tags and not rule.allow_empty:
                raise NotFound(
                    f"{rule} matches no tag of the source repository; "
                    "check the selection, or set allow_empty: true for the rule if that is fine"
                )
        return [
            Wanted(rule, source, destination, heads.get(source.tag or "") if source.digest is None else None)
            for source, destination in rule.pairs(tags)
        ]

    def _compared(self, wanted: Sequence[Wanted], *, lazy: bool) -> _Rows:
        """Compare images on the executor, those of one source together so that it is asked once."""
        comparison = Comparison(self._registries, self._records, wanted, lazy=lazy, untagged=self.untagged)
        groups = [list(group) for _, group in groupby(wanted, key=lambda one: (one.rule.index, one.source))]
        self._progress.add(to_plan=len(wanted))
        rows: list[_Rows] = [[]] * len(groups)
        places = Semaphore(_SUBMITTED)
        failures: list[BaseException] = []

        def compare(position: int) -> None:
            rows[position] = comparison.compare(groups[position])
            self._progress.add(planned=len(rows[position]))

        def finished(future: Future[None]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                failures.append(error)
            places.release()

        for position in range(len(groups)):
            places.acquire()
            self._executor.submit(compare, position).add_done_callback(finished)
        for _ in range(_SUBMITTED):
            places.acquire()
        if failures:
            raise failures[0]
        self._records.note_images(comparison.notes)
        return [pair for group in rows for pair in group]


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
