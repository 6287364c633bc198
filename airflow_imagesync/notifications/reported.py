"""What a callback's context tells of a sync: the reports of its run, and what can be said where they can't be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.render import report_summary
from airflow_imagesync.domain.report import ImageResult, SyncReport
from airflow_imagesync.operators.image_sync import RESULT_KEY, ImageSyncOperator
from airflow_imagesync.operators.report import REPORT_KEY, ImageSyncOutcomeOperator, ImageSyncReportOperator


@dataclass(frozen=True)
class Reported:
    """
    What there is to tell: ``how`` it went, ``reports`` of each part of the run, and the ``task`` where to read on.

    A part's name is that of its group of tasks, and empty where a run has only one. The task is its id and its map
    index; None where there are several.
    """

    how: str
    reports: tuple[tuple[str, Mapping[str, Any]], ...]
    task: tuple[str, int] | None = None


def reports_of(context: Mapping[str, Any], log: Any) -> Reported:
    """
    Return what a context tells.

    :param context: that of a task that ended, or of a DAG whose run did
    :param log: where to say that the reports can't be read
    """
    tasks = _reporting_tasks(context)
    found: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        try:
            report = _report_of(task, context["ti"])
        except Exception as error:  # noqa: BLE001  # XComs may be out of reach, and then the rest is told all the same
            log.warning("the report of %s can't be read: %s: %s", task.task_id, type(error).__name__, error)
            continue
        if report is not None:
            found[task.task_id] = report
    how = _how(context, found)
    pages = {_page_of(one, context) for one in tasks}
    page = pages.pop() if len(pages) == 1 else None
    if not found:
        return Reported(how, (("", {"summary": _without_report(context)}),), page)
    names = {task_id: task_id.rpartition(".")[0] if len(found) > 1 else "" for task_id in found}
    return Reported(how, tuple((names[task_id], report) for task_id, report in found.items()), page)


def _reporting_tasks(context: Mapping[str, Any]) -> list[Any]:
    """Return the tasks that know how it went: the one that ended, or those of the DAG whose run ended."""
    if "reason" not in context:
        task = context.get("task")
        return [task] if isinstance(task, (ImageSyncReportOperator, ImageSyncOperator)) else []
    tasks = context["dag"].tasks
    outcomes = [task for task in tasks if isinstance(task, ImageSyncOutcomeOperator)]
    read = {task.report_task_id for task in outcomes}
    return outcomes + [
        task
        for task in tasks
        if isinstance(task, ImageSyncReportOperator) and task not in outcomes and task.task_id not in read
    ]


def _report_of(task: Any, ti: Any) -> Mapping[str, Any] | None:
    """Return the report that a task left, in short; None for none."""
    if isinstance(task, ImageSyncOperator):
        return _report_of_results(ti.xcom_pull(task_ids=task.task_id, key=RESULT_KEY, map_indexes=ti.map_index))
    report: Mapping[str, Any] | None = ti.xcom_pull(task_ids=task.task_id, key=REPORT_KEY)
    if report is None and isinstance(task, ImageSyncOutcomeOperator):  # it writes one only when it knows better
        report = ti.xcom_pull(task_ids=task.report_task_id, key=REPORT_KEY)
    return report


def _report_of_results(result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if not result:
        return None
    report = SyncReport(tuple(ImageResult.load(row) for row in result["images"]))
    failed = [(one.source, one.destination, one.error) for one in report.failed]
    counts = report_summary(report).partition(";")[0]  # what is behind it is of one try
    return {"summary": counts, "failed": failed, "failed_count": len(failed)}


def _page_of(task: Any, context: Mapping[str, Any]) -> tuple[str, int]:
    if isinstance(task, ImageSyncOutcomeOperator):
        return task.report_task_id, -1
    return task.task_id, _map_index(context) if isinstance(task, ImageSyncOperator) else -1


def _map_index(context: Mapping[str, Any]) -> int:
    index = getattr(context.get("ti"), "map_index", None)
    return -1 if index is None else int(index)


def _how(context: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> str:
    state = str(getattr(context.get("ti"), "state", None))
    if "reason" in context:
        return "done" if context["reason"] == "success" else "failed"
    if state in ("success", "skipped"):
        return "done" if state == "success" else "skipped"
    if context.get("exception") is not None or not reports:
        return "failed"
    return "failed" if any(one["failed_count"] or not one.get("planned", True) for one in reports.values()) else "done"


def _without_report(context: Mapping[str, Any]) -> str:
    """Return what can be said of a run whose report is out of reach or was never written."""
    if "reason" in context:
        return f"it ended with {context['reason']}"
    ti: Any = context["ti"]
    where = f"the task {ti.task_id}" + (f"[{_map_index(context)}]" if _map_index(context) >= 0 else "")
    error = context.get("exception")
    return f"{where}: {error}" if error is not None else f"{where} ended as {getattr(ti, 'state', None) or 'failed'}"
