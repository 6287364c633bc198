"""The results of a run's tasks, joined to one report in the order of its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_imagesync.domain.plan import PairState, Plan
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.unit import Unit


def unchanged_rows(plan: Plan, units: Iterable[Unit]) -> list[list[Any]]:
    """Return the images of `plan` that no unit does, as plain JSON: those that are the same already.

    A row holds position, rule, source, destination and both digests; the destination's is null when it is the source's.
    """
    planned_again = {index for unit in units for index in unit.whole}
    return [
        [
            position,
            one.rule,
            one.source,
            one.destination,
            one.source_digest,
            None if one.destination_digest == one.source_digest else one.destination_digest,
        ]
        for position, one in enumerate(plan.images)
        if one.state is PairState.SAME and one.rule not in planned_again
    ]


def join_results(
    units: Sequence[Mapping[str, Any]],
    unchanged: Iterable[Sequence[Any]],
    results: Iterable[Mapping[str, Any]],
    *,
    lost: Callable[[int], str],
    seconds: float,
) -> SyncReport:
    """Return the report of a run.

    `units` are what the plan handed out and `unchanged` is what it found to be the same; `results` are what the mapped
    tasks left, for the unit each of them names. Images of a unit without results are failed, for the reason that `lost`
    gives for the unit of a number.
    """
    by_unit = {result["unit"]: [ImageResult.load(row) for row in result["images"]] for result in results}
    placed = [
        (
            (rule, position),
            ImageResult(
                rule, source, destination, ResultState.SAME, source_digest=source_digest, digest=digest or source_digest
            ),
        )
        for position, rule, source, destination, source_digest, digest in unchanged
    ]
    for number, document in enumerate(units):
        unit = Unit.load(document)
        done = by_unit.get(number)
        if done is None or not _are_of(unit, done):
            done = _lost(unit, lost(number))
        for place, result in enumerate(done):
            # What stands behind the unit's images is of rules it carries whole, which have no other images.
            position = unit.images[place].position if place < len(unit.images) else place
            placed.append(((result.rule, position), result))
    placed.sort(key=lambda one: one[0])
    return SyncReport(tuple(result for _, result in placed), seconds=seconds)


def _are_of(unit: Unit, results: Sequence[ImageResult]) -> bool:
    """Whether results are of this unit, and not of one that an earlier plan of the same run handed out."""
    found = [(one.rule, one.source, one.destination) for one in results[: len(unit.images)]]
    rest = {one.rule for one in results[len(unit.images) :]}
    return found == [(one.rule, one.source, one.destination) for one in unit.images] and rest <= set(unit.whole)


def _lost(unit: Unit, error: str) -> list[ImageResult]:
    """Return the images of a unit whose task left no results."""
    rows = [(one.rule, one.source, one.destination) for one in unit.images]
    rows += [
        (rule.index, str(rule), str(to.repository))
        for rule in unit.rules
        if rule.index in unit.whole
        for to in rule.destinations
    ]
    return [ImageResult(*row, ResultState.FAILED, error=error, temporary=True) for row in rows]
