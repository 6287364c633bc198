from __future__ import annotations

import json
from dataclasses import replace

from airflow_imagesync.config import parse_config
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.results import join_results, unchanged_rows
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.domain.unit import Unit, cut_units

DIGEST = f"sha256:{'a' * 64}"
FILTERED = f"sha256:{'b' * 64}"


def rules(*names: str) -> tuple[Rule, ...]:
    written = [{"source": f"src.io/{name}", "destination": f"dst.io/{name}"} for name in names]
    return parse_config(json.dumps({"rules": written})).rules


def pair(rule: int, name: str, state: PairState) -> ImagePair:
    return ImagePair(rule, f"src.io/{name}", f"dst.io/{name}", state, DIGEST, DIGEST)


def copied(unit: Unit) -> list[ImageResult]:
    return [ImageResult(one.rule, one.source, one.destination, ResultState.COPIED) for one in unit.images]


def result(number: int, images: list[ImageResult]) -> dict[str, object]:
    return {"unit": number, "images": [one.dump() for one in images]}


def join(plan: Plan, units: list[Unit], results: list[dict[str, object]]) -> SyncReport:
    documents = json.loads(json.dumps([unit.dump() for unit in units]))
    rows = json.loads(json.dumps(unchanged_rows(plan, units)))
    return join_results(documents, rows, results, lost=lambda number: f"sync[{number}] is lost", seconds=1.5)


def names(report: SyncReport) -> list[str]:
    return [f"{one.source.removeprefix('src.io/')} {one.state}" for one in report.images]


PLAN = Plan(
    (
        pair(0, "one:v1", PairState.NEW),
        pair(0, "one:v2", PairState.SAME),
        pair(0, "one:v3", PairState.CHANGED),
        pair(1, "two:v1", PairState.SAME),
        pair(1, "two:v2", PairState.NEW),
    )
)
UNITS = cut_units(PLAN, rules("one", "two"), images_per_unit=1)


def test_a_report_has_the_order_of_the_plan_whichever_task_did_an_image() -> None:
    results = [result(number, copied(unit)) for number, unit in enumerate(UNITS)]
    report = join(PLAN, UNITS, results[::-1])
    assert names(report) == ["one:v1 copied", "one:v2 same", "one:v3 copied", "two:v1 same", "two:v2 copied"]
    assert report.seconds == 1.5


def test_a_task_that_left_no_result_is_listed_with_its_images() -> None:
    report = join(PLAN, UNITS, [result(number, copied(UNITS[number])) for number in (0, 2)])
    assert names(report)[2] == "one:v3 failed"
    assert report.failed[0].temporary
    assert "sync[1] is lost" in (report.failed[0].error or "")


def test_a_result_of_another_plan_is_not_taken_for_this_ones() -> None:
    """After a new plan in the same run, Airflow still has the results of tasks that did not start again."""
    stale = [replace(one, source="src.io/old:v1") for one in copied(UNITS[1])]
    report = join(PLAN, UNITS, [result(0, copied(UNITS[0])), result(1, stale), result(2, copied(UNITS[2]))])
    assert names(report)[2] == "one:v3 failed"
    assert "old" not in str(report)


def test_rules_that_are_planned_again_tell_all_their_images_once() -> None:
    planned = rules("one", "two")
    plan = Plan(
        (
            replace(pair(0, "one", PairState.FAILED), whole_rule=True),
            pair(1, "two:v1", PairState.SAME),
            pair(1, "two:v2", PairState.NEW),
        )
    )
    # The second rule writes where the first does, so it is planned again with it.
    together = (planned[0], replace(planned[1], destinations=planned[0].destinations))
    units = cut_units(plan, together)
    assert [unit.whole for unit in units] == [(0, 1)]
    done = [
        ImageResult(0, "src.io/one:v9", "dst.io/one:v9", ResultState.COPIED),
        ImageResult(0, "src.io/one:v10", "dst.io/one:v10", ResultState.COPIED),
        ImageResult(1, "src.io/two:v1", "dst.io/one:v1", ResultState.SAME),
        ImageResult(1, "src.io/two:v2", "dst.io/one:v2", ResultState.COPIED),
    ]
    report = join(plan, units, [result(0, done)])
    assert names(report) == ["one:v9 copied", "one:v10 copied", "two:v1 same", "two:v2 copied"]
    lost = join(plan, units, [])
    assert names(lost) == ["one failed", "two failed"]


def test_what_is_the_same_keeps_both_digests() -> None:
    plan = Plan(
        (pair(0, "one:v1", PairState.SAME), replace(pair(0, "one:v2", PairState.SAME), destination_digest=FILTERED))
    )
    report = join(plan, [], [])
    assert [(one.source_digest, one.digest) for one in report.images] == [(DIGEST, DIGEST), (DIGEST, FILTERED)]
