from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_imagesync.errors import ImagesFailed
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from airflow_imagesync.operators.report import ImageSyncOutcomeOperator, ImageSyncReportOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.task import Run, TaskInstance

IMAGE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")


class Sync:
    """The four tasks of a DAG, with two repositories to sync: one that is there, one that comes when it is pushed."""

    def __init__(
        self, source: DistributionRegistry, destination: DistributionRegistry, prefix: str, folder: Path
    ) -> None:
        self._source = source
        self._prefix = prefix
        self.reports = folder / "reports"
        self.config = folder / "sync.json"
        self.config.write_text(
            json.dumps(
                {
                    "registries": {source.host: {"insecure": True}, destination.host: {"insecure": True}},
                    "rules": [
                        {
                            "source": f"{source.host}/{prefix}/{name}",
                            "destination": f"{destination.host}/{prefix}/{name}",
                        }
                        for name in ("app", "late")
                    ],
                }
            )
        )
        self.push("app", "v1", "v2")

    def push(self, name: str, *tags: str) -> None:
        images.push(self._source.url, f"{self._prefix}/{name}", IMAGE, tags)

    def plan(self, run: Run, **arguments: Any) -> list[dict[str, Any]]:
        arguments = {"config": self.config, "images_per_unit": 1, **arguments}
        units: list[dict[str, Any]] = run.execute(ImageSyncPlanOperator(task_id="plan", **arguments))
        return units

    def copy(self, run: Run, units: list[dict[str, Any]], *indexes: int) -> None:
        for index in indexes or range(len(units)):
            with contextlib.suppress(AirflowException, ImagesFailed):
                run.execute(ImageSyncOperator(task_id="sync", config=self.config, unit=units[index]), map_index=index)

    def report(self, run: Run, **arguments: Any) -> dict[str, Any]:
        arguments = {"task_id": "report", "report_path": str(self.reports), **arguments}
        operator = ImageSyncReportOperator(plan_task_id="plan", sync_task_id="sync", **arguments)
        report: dict[str, Any] = run.execute(operator)
        return report

    def outcome(self, run: Run, **arguments: Any) -> str:
        arguments = {"task_id": "outcome", "report_path": str(self.reports), **arguments}
        operator = ImageSyncOutcomeOperator(
            report_task_id="report", plan_task_id="plan", sync_task_id="sync", **arguments
        )
        return str(run.execute(operator)["summary"])

    def all(self, run: Run) -> dict[str, Any]:
        self.copy(run, self.plan(run))
        return self.report(run)

    def latest(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.reports / "a_dag" / "latest.json").read_text())
        return document

    def failing(self) -> list[int]:
        return list(self.latest()["failing"].values())


@pytest.fixture
def sync(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
) -> Sync:
    return Sync(source_registry, destination_registry, repository_prefix, tmp_path)


def states(document: dict[str, Any]) -> list[str]:
    return [f"{one['source'].rpartition('/')[2]} {one['state']}" for one in document["images"]]


def test_joins_what_all_tasks_left_and_writes_it(sync: Sync) -> None:
    run = Run()
    report = sync.all(run)
    assert report["summary"].startswith("3 images: 2 copied, 0 same, 1 failed")
    assert [Path(path).name for path in report["files"]] == [
        "manual__2026-01-01T00_00_00_00_00.json",
        "manual__2026-01-01T00_00_00_00_00.md",
    ]
    document = json.loads(Path(report["files"][0]).read_text())
    assert document == sync.latest()
    assert states(document) == ["late failed", "app:v1 copied", "app:v2 copied"]
    assert {key: document["metadata"][key] for key in ("dag_id", "run_id")} == {"dag_id": "a_dag", "run_id": run.run_id}
    assert 0 < document["totals"]["seconds"] < 60
    markdown = Path(report["files"][1]).read_text()
    assert "## Failed (1)" in markdown
    assert markdown == (sync.reports / "a_dag" / "latest.md").read_text()


def test_the_outcome_is_red_with_the_reason_and_green_when_all_is_there(sync: Sync) -> None:
    run = Run()
    sync.all(run)
    with pytest.raises(AirflowFailException) as caught:
        sync.outcome(run)
    first, second = str(caught.value).splitlines()
    assert first.startswith("3 images: 2 copied, 0 same, 1 failed")
    assert second.endswith("answered 404 NAME_UNKNOWN: repository name not known to registry; check the name")
    sync.push("late", "v1")
    run = Run()
    sync.all(run)
    assert sync.outcome(run).startswith("3 images: 1 copied, 2 same, 0 failed")


def test_many_failures_are_told_shortly(sync: Sync) -> None:
    sync.push("app", *(f"v{number}" for number in range(30)))
    run = Run()
    sync.plan(run)
    sync.report(run)  # none of the tasks ran
    with pytest.raises(AirflowFailException, match="and 11 more; see the log of the task report"):
        sync.outcome(run)


def test_a_task_that_was_killed_is_listed(sync: Sync) -> None:
    run = Run()
    sync.copy(run, sync.plan(run), 0)
    sync.report(run)
    assert sync.latest()["images"][0]["error"].startswith(
        "the task sync[1] left no result: it was stopped or never ran"
    )
    assert sorted(states(sync.latest())) == ["app:v1 copied", "app:v2 failed", "late failed"]


def test_counts_in_how_many_runs_a_rule_has_been_failing(sync: Sync) -> None:
    for number in (1, 2, 3):
        run = Run(run_id=f"scheduled__{number}")
        sync.all(run)
        assert sync.failing() == [number]
    assert "failing for 3 runs in a row" not in str(run.xcoms)  # in the log and the files only
    assert "3 runs" in (sync.reports / "a_dag" / "latest.md").read_text()
    # Cleared, it is still the third run.
    sync.all(run)
    assert sync.failing() == [3]
    sync.push("late", "v1")
    sync.all(run)
    assert sync.failing() == []


def test_a_run_that_could_not_be_planned_says_so_and_keeps_in_mind_what_failed_before(sync: Sync) -> None:
    sync.all(Run(run_id="scheduled__1"))
    config = sync.config.read_text()
    sync.config.unlink()
    run = Run(run_id="scheduled__2")
    with pytest.raises(AirflowFailException):
        sync.plan(run)
    for _ in range(2):
        report = sync.report(run)
        cause = f"{sync.config}: there is no such file; check the path, and that it is on this machine"
        expected = f"the run could not be planned: {cause}"
        assert (report["summary"], report["planned"]) == (expected, False)
        assert sync.latest()["metadata"]["problem"] == expected
        assert "could not be planned" in (sync.reports / "a_dag" / "latest.md").read_text()
        assert sync.failing() == [1]
    with pytest.raises(
        AirflowFailException,
        match=r"^the run could not be planned: .* there is no such file; check the path",
    ):
        sync.outcome(run)
    # Cleared after the mistake was mended, it counts as the second run.
    sync.config.write_text(config)
    sync.all(run)
    assert sync.failing() == [2]


def test_a_plan_that_left_nothing_is_looked_for_in_its_log(sync: Sync) -> None:
    run = Run()
    run.states = {"plan": "failed"}
    assert sync.report(run)["summary"] == "the run could not be planned: see the log of the task plan"
    with pytest.raises(AirflowFailException):
        sync.outcome(run)


@pytest.mark.parametrize(
    ("state", "expected"),
    [("upstream_failed", "a task before plan failed"), ("failed", "see the log of the task plan")],
)
def test_what_an_earlier_plan_of_the_run_left_does_not_pass_for_a_plan(state: str, expected: str, sync: Sync) -> None:
    """Airflow removes a task's XComs when the task starts, which it may not do again."""
    sync.push("late", "v1")
    run = Run()
    sync.all(run)
    run.states = {"plan": state}
    assert sync.report(run)["summary"] == f"the run could not be planned: {expected}"


def test_where_the_plan_was_skipped_there_is_nothing_to_report(sync: Sync) -> None:
    run = Run()
    run.states = {"plan": "skipped"}
    with pytest.raises(AirflowSkipException):
        sync.report(run)
    assert not sync.reports.exists()


def test_an_older_run_that_is_cleared_does_not_take_the_place_of_the_latest(sync: Sync) -> None:
    older = Run(run_id="scheduled__1")
    units = sync.plan(older)
    sync.copy(older, units)
    sync.report(older)
    sync.push("late", "v1")
    sync.all(Run(run_id="scheduled__2"))
    sync.copy(older, units)
    report = sync.report(older)
    assert sync.latest()["metadata"]["run_id"] == "scheduled__2"
    assert json.loads(Path(report["files"][0]).read_text())["metadata"]["run_id"] == "scheduled__1"


def test_a_dry_run_is_a_plan_and_leaves_the_latest_report(sync: Sync) -> None:
    sync.all(Run(run_id="scheduled__1"))
    sync.push("app", "v3")
    run = Run(run_id="manual__2")
    assert sync.plan(run, plan_only="True") == []
    report = sync.report(run)
    assert report["summary"] == "dry run, nothing was copied; 4 images: 1 new, 0 changed, 2 same, 1 failed"
    document = json.loads(Path(report["files"][0]).read_text())
    assert (document["kind"], states(document)[0]) == ("plan", "late failed")
    assert "# Image sync plan" in Path(report["files"][1]).read_text()
    assert sync.latest()["metadata"]["run_id"] == "scheduled__1"
    with pytest.raises(AirflowFailException, match="late"):
        sync.outcome(run)


def test_after_a_dry_run_what_needs_the_images_is_skipped_unless_they_are_there(sync: Sync) -> None:
    sync.push("late", "v1")
    run = Run()
    sync.plan(run, plan_only=True)
    sync.report(run)
    with pytest.raises(AirflowSkipException, match="3 new"):
        sync.outcome(run)
    sync.all(Run())
    run = Run()
    sync.plan(run, plan_only=True)
    sync.report(run)
    assert "3 same" in sync.outcome(run)


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "{{{{ params.path }}}}"])
def test_the_path_may_be_a_url_or_a_template(form: str, sync: Sync) -> None:
    run = Run()
    sync.plan(run)
    operator = ImageSyncReportOperator(
        task_id="report", plan_task_id="plan", sync_task_id="sync", report_path=form.format(path=sync.reports)
    )
    run.execute(operator, params={"path": str(sync.reports)})
    assert sync.latest()["totals"]["failed"] == 3


@pytest.mark.parametrize("nothing", [None, "", "None"], ids=["not-given", "empty", "none-as-text"])
def test_without_a_path_nothing_is_written(nothing: str | None, sync: Sync) -> None:
    run = Run()
    sync.plan(run)
    assert sync.report(run, report_path=nothing)["files"] == []
    with pytest.raises(AirflowFailException):
        sync.outcome(run)


def test_groups_of_one_dag_do_not_write_over_each_other(sync: Sync) -> None:
    run = Run()
    sync.plan(run)
    report = sync.report(run, task_id="outer.first.report", report_path=sync.reports)
    assert Path(report["files"][0]).parent == sync.reports / "a_dag" / "outer.first"


def test_a_report_that_can_t_be_written_is_tried_again_and_known_to_the_outcome(sync: Sync) -> None:
    sync.push("late", "v1")
    sync.reports.write_text("a file where the folder should be")
    run = Run()
    sync.copy(run, sync.plan(run))
    with pytest.raises(OSError, match="reports"):
        sync.report(run)
    with pytest.raises(AirflowFailException, match=r"3 copied, .* but the report could not be written, see the log"):
        sync.outcome(run)
    sync.reports.unlink()
    sync.report(run)
    assert "3 copied" in sync.outcome(run)


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"failing": [], "metadata": 3}', '{"images": {}}'])
def test_an_earlier_report_that_is_damaged_counts_as_none(content: str, sync: Sync) -> None:
    (sync.reports / "a_dag").mkdir(parents=True)
    (sync.reports / "a_dag" / "latest.json").write_text(content)
    sync.all(Run())
    assert sync.failing() == [1]


def test_without_a_report_the_outcome_is_red(sync: Sync) -> None:
    with pytest.raises(AirflowFailException, match="there is no report of this run; see the log of the task report"):
        sync.outcome(Run())


def test_the_outcome_writes_the_report_again_when_only_what_failed_was_cleared(sync: Sync) -> None:
    """Airflow's "clear only failed" leaves the report, which succeeded."""
    run = Run()
    units = sync.plan(run)
    sync.copy(run, units)
    sync.report(run)
    before = sync.latest()
    with pytest.raises(AirflowFailException):
        sync.outcome(run)
    assert sync.latest() == before  # nothing changed, so it was not written again
    sync.push("late", "v1")
    sync.copy(run, units, 2)
    assert sync.outcome(run).startswith("3 images: 3 copied")
    assert sync.latest()["totals"]["failed"] == 0


def test_the_outcome_of_a_skipped_report_is_skipped(sync: Sync) -> None:
    run = Run()
    run.states = {"report": "skipped"}
    with pytest.raises(AirflowSkipException):
        sync.outcome(run)


def events(run: Run) -> list[tuple[str, list[str]]]:
    """What the task that ran last announces: the destination's name and the tags."""
    accessors = run.outlet_events._dict.values()
    return [
        (one.dest_asset_key.uri.rpartition("/")[2], one.extra["tags"])
        for accessor in accessors
        for one in accessor.asset_alias_events
    ]


def test_what_was_copied_is_announced_once_also_when_something_else_failed(sync: Sync) -> None:
    run = Run()
    sync.all(run)
    assert events(run) == [("app", ["v1", "v2"])]
    sync.report(run)
    assert events(run) == []
    # What is the same is no change.
    again = Run(run_id="again")
    sync.all(again)
    assert events(again) == []


def test_what_is_copied_after_the_report_is_announced_by_the_outcome_when_all_is_there(sync: Sync) -> None:
    run = Run()
    units = sync.plan(run)
    sync.copy(run, units)
    sync.report(run)
    with pytest.raises(AirflowFailException):
        sync.outcome(run)
    sync.push("late", "v1")
    sync.copy(run, units, *(unit["number"] for unit in units if unit["whole"]))
    sync.outcome(run)
    assert events(run) == [("late", ["v1"])]


def test_the_image_map_is_pushed_by_both_and_written_as_files(sync: Sync) -> None:
    run = Run()
    units = sync.plan(run)
    sync.copy(run, units)
    report = sync.report(run, image_map=True)
    image_map = run.xcom("report", "image_map")
    assert [key.rpartition("/")[2] for key in image_map] == ["app:v1", "app:v2"]
    assert {value.rpartition("@")[2] for value in image_map.values()} == {IMAGE.digest}
    names = [path.partition(".images/")[2] for path in report["files"]]
    assert {"image-map.json", "kustomization.yaml", "values.yaml", "image-digest-mirror-set.yaml"} < set(names)
    assert json.loads((sync.reports / "a_dag" / "latest.images" / "image-map.json").read_text())

    sync.push("late", "v1")
    sync.copy(run, units, *(unit["number"] for unit in units if unit["whole"]))
    sync.outcome(run, image_map=True)
    assert len(run.xcom("outcome", "image_map")) == 3
    # Nobody who comes after it has to know which of the two wrote it.
    sync.report(run, image_map=True)
    sync.outcome(run, image_map=True)
    assert len(run.xcom("outcome", "image_map")) == 3


class Migration(Sync):
    """A sync with a pilot, and approvals of which the tests say how they ended."""

    arguments = {"pilot_task_id": "pilot", "approval_task_ids": ["approve", "approve_rest"]}

    def decide(self, run: Run, task_id: str, **decision: Any) -> None:
        TaskInstance(run, task_id, -1).xcom_push("decision", decision)

    def pilot(self, run: Run, pilot: str) -> list[dict[str, Any]]:
        units = self.plan(run, pilot=pilot)
        for index in [unit["number"] for unit in units if unit["pilot"]]:
            with contextlib.suppress(AirflowException, ImagesFailed):
                run.execute(ImageSyncOperator(task_id="pilot", config=self.config, unit=units[index]), map_index=index)
        return units


@pytest.fixture
def migration(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
) -> Migration:
    migration = Migration(source_registry, destination_registry, repository_prefix, tmp_path)
    migration.push("late", "v1")
    return migration


def test_a_rejected_plan_is_told_with_who_it_was_and_what_needs_it_is_skipped(migration: Migration) -> None:
    run = Run()
    migration.plan(run, pilot="1")
    migration.decide(run, "approve", approved=False, by="ada")
    report = migration.report(run, **migration.arguments)
    summary = "rejected by ada; nothing was copied of 3 images: 3 new, 0 changed, 0 same, 0 failed"
    assert (report["summary"], report["missing"]) == (summary, 3)
    assert "rejected by ada" in (migration.reports / "a_dag" / "latest.md").read_text()
    with pytest.raises(AirflowSkipException, match="rejected by ada"):
        migration.outcome(run, **migration.arguments)


def test_a_rejected_rest_is_left_and_the_pilot_told(migration: Migration) -> None:
    run = Run()
    migration.pilot(run, "*/app:*")
    run.states |= {"approve": "success", "approve_rest": "success"}
    migration.decide(run, "approve", approved=True, by="ada")
    migration.decide(run, "approve_rest", approved=False, by="bob")
    report = migration.report(run, **migration.arguments)
    assert report["summary"].startswith("2 images: 2 copied, 0 same, 0 failed")
    assert report["summary"].endswith("; 1 image left: rejected by bob")
    assert migration.latest()["metadata"]["left"] == "1 image: rejected by bob"
    with pytest.raises(AirflowSkipException, match="1 image left"):
        migration.outcome(run, **migration.arguments)


def test_a_pilot_that_failed_is_the_reason_why_the_rest_was_not_begun(migration: Migration) -> None:
    run = Run()
    units = migration.plan(run, pilot="1")
    run.states |= {"approve": "success", "approve_rest": "upstream_failed"}
    report = migration.report(run, **migration.arguments)
    assert report["failed_count"] == len(units) == 3
    errors = {one["destination"].rpartition("/")[2]: one["error"] for one in migration.latest()["images"]}
    assert "the task pilot[0] left no result" in errors.pop("app:v1")
    assert {error.partition(":")[0] for error in errors.values()} == {"not begun, since images of the pilot failed"}


def test_an_approval_that_failed_is_the_runs_problem(migration: Migration) -> None:
    run = Run()
    migration.plan(run)
    migration.decide(run, "approve", error="nobody approved within 3.0 s; clear the task approve to ask again")
    migration.report(run, approval_task_ids=["approve"])
    with pytest.raises(AirflowFailException, match="nobody approved within"):
        migration.outcome(run, approval_task_ids=["approve"])
    run.states["approve"] = "failed"
    migration.decide(run, "approve")
    assert "the task approve ended as failed" in migration.report(run, approval_task_ids=["approve"])["summary"]
