"""The operators that end a run: one writes the report whatever happened, one fails the run when anything failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.render import (
    json_text,
    report_document,
    report_markdown,
    report_summary,
    report_text,
    with_failing,
)
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.operators.image_sync import RESULT_KEY
from airflow_imagesync.operators.plan import TOTALS_KEY, UNCHANGED_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

_SHOWN_FAILURES = 20
_LATEST = "latest"


class ImageSyncReportOperator(BaseOperator):
    """
    Joins the results of a run's tasks into a report: in the log, and in files where `report_path` says.

    Runs whatever became of the tasks before it, and succeeds. A mapped task that left no result is listed as failed.

    :param plan_task_id: the task that planned the run
    :param sync_task_id: the mapped task that copied
    :param report_path: folder for the reports, a path or an object storage URL; ``<dag_id>/<run_id>.json`` and ``.md`` and
        ``<dag_id>/latest.json`` and ``.md`` are written there (templated)
    """

    template_fields: Sequence[str] = ("report_path",)
    ui_color = "#fdf3d3"

    def __init__(
        self, *, plan_task_id: str, sync_task_id: str, report_path: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.sync_task_id = sync_task_id
        self.report_path = report_path

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report, and return its totals with what failed."""
        ti: Any = context["ti"]
        totals = ti.xcom_pull(task_ids=self.plan_task_id, key=TOTALS_KEY)
        units = ti.xcom_pull(task_ids=self.plan_task_id) or []
        unchanged = ti.xcom_pull(task_ids=self.plan_task_id, key=UNCHANGED_KEY) or []
        results = _as_list(ti.xcom_pull(task_ids=self.sync_task_id, key=RESULT_KEY))
        started = getattr(context.get("dag_run"), "start_date", None)
        seconds = (datetime.now(UTC) - started).total_seconds() if started is not None else 0.0
        report = join_results(units, unchanged, results, sync_task_id=self.sync_task_id, seconds=seconds)
        folder = ObjectStoragePath(self.report_path) / _file_name(ti.dag_id) if self.report_path else None
        if folder is not None:
            report = with_failing(report, _read(folder / f"{_LATEST}.json"))
        self.log.info("%s", report_text(report))
        files = self._write(folder, report, ti) if folder is not None else []
        return {
            "planned": totals is not None,
            "dry_run": bool(totals and totals.get("dry_run")),
            "plan": totals,
            "totals": report.totals,
            "summary": report_summary(report),
            "failed": [[one.source, one.destination, one.error] for one in report.failed[:_SHOWN_FAILURES]],
            "files": files,
        }

    def _write(self, folder: ObjectStoragePath, report: SyncReport, ti: Any) -> list[str]:
        metadata = {"dag_id": ti.dag_id, "run_id": ti.run_id, "written": datetime.now(UTC).isoformat()}
        texts = {
            "json": json_text(report_document(report, metadata)),
            "md": report_markdown(report, metadata),
        }
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name in (_file_name(ti.run_id), _LATEST):
            for suffix, text in texts.items():
                path = folder / f"{name}.{suffix}"
                path.write_text(text)
                files.append(str(path))
        self.log.info("report written to %s", ", ".join(files[:2]))
        return files[:2]


class ImageSyncOutcomeOperator(BaseOperator):
    """
    Fails when anything failed, so that the run is red, with the summary as its message.

    :param report_task_id: the task that wrote the report
    """

    ui_color = "#f6dede"

    def __init__(self, *, report_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_task_id = report_task_id

    def execute(self, context: Context) -> str:
        """Return the report's summary, or fail with it."""
        ti: Any = context["ti"]
        report = ti.xcom_pull(task_ids=self.report_task_id)
        if report is None:
            raise AirflowFailException("there is no report of this run; see the log of the report task")
        if not report["planned"]:
            raise AirflowFailException("the run could not be planned; see the log of the plan task")
        if report["totals"]["failed"]:
            lines = [f"{source} -> {destination}: {error}" for source, destination, error in report["failed"]]
            raise AirflowFailException("\n".join([report["summary"], *lines]))
        return str(report["summary"])


def join_results(
    units: Sequence[Mapping[str, Any]],
    unchanged: Iterable[Sequence[Any]],
    results: Iterable[Mapping[str, Any]],
    *,
    sync_task_id: str,
    seconds: float,
) -> SyncReport:
    """
    Return the report of a run, its images in the order of the rules.

    :param units: what the plan handed out
    :param unchanged: what the plan found to be the same
    :param results: what the mapped tasks pushed; for a unit without one its images are failed
    :param sync_task_id: the mapped task, for the message
    :param seconds: how long the run took
    """
    by_unit = {result["unit"]: [ImageResult.load(row) for row in result["images"]] for result in results}
    images = [
        ImageResult(rule, source, destination, ResultState.SAME, source_digest=source_digest, digest=digest)
        for rule, source, destination, source_digest, digest in unchanged
    ]
    for position, document in enumerate(units):
        done = by_unit.get(position)
        images.extend(done if done is not None else _lost(Unit.load(document), f"{sync_task_id}[{position}]"))
    return SyncReport(tuple(sorted(images, key=lambda one: one.rule)), seconds=seconds)


def _lost(unit: Unit, task: str) -> list[ImageResult]:
    """Return the images of a unit whose task left no result."""
    error = f"the task {task} left no result: it was stopped or never ran; see its log, and clear it to try again"
    rows = [(one.rule, one.source, one.destination) for one in unit.images]
    rows += [
        (rule.index, str(rule), str(to.repository))
        for rule in unit.rules
        if rule.index in unit.whole
        for to in rule.destinations
    ]
    return [ImageResult(*row, ResultState.FAILED, error=error, temporary=True) for row in rows]


def _as_list(pulled: Any) -> list[Mapping[str, Any]]:
    """Return what was pulled from a mapped task as a list: Airflow gives one value alone as itself."""
    values = pulled if isinstance(pulled, (list, tuple)) else [pulled]
    return [value for value in values if value is not None]


def _read(path: ObjectStoragePath) -> dict[str, Any] | None:
    """Return the report of the run before; none that can't be read counts."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _file_name(text: str) -> str:
    """Return a DAG's or a run's id as a name that every storage takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "_"
