"""The operators that end a run: one writes the report whatever happened, one fails the run when anything failed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_imagesync.domain.plan import ImagePair, Plan
from airflow_imagesync.domain.render import (
    json_text,
    plan_document,
    plan_markdown,
    plan_summary,
    report_document,
    report_markdown,
    report_summary,
    report_text,
    with_failing,
)
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.results import join_results
from airflow_imagesync.operators.arguments import plain_path, said
from airflow_imagesync.operators.base import lines_for_log
from airflow_imagesync.operators.image_sync import RESULT_KEY
from airflow_imagesync.operators.plan import DRY_RUN_KEY, PLAN_KEY, UNCHANGED_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

#: The XCom with the report in short, there even when its files can't be written.
REPORT_KEY = "report"
_SHOWN_FAILURES = 20
_LATEST = "latest"


@dataclass(frozen=True)
class Account:
    """
    What there is to say of a run.

    ``missing`` images are not there because this was a dry run; ``is_latest`` when no later run was reported.
    """

    summary: str
    document: Mapping[str, Any]
    markdown: str
    failed: tuple[tuple[str, str, str | None], ...] = ()
    planned: bool = True
    dry_run: bool = False
    missing: int = 0
    is_latest: bool = True

    @property
    def short(self) -> dict[str, Any]:
        """The account as the outcome needs it."""
        return {
            "summary": self.summary,
            "planned": self.planned,
            "dry_run": self.dry_run,
            "missing": self.missing,
            "totals": self.document["totals"],
            "failed": [list(row) for row in self.failed[:_SHOWN_FAILURES]],
            "failed_count": len(self.failed),
        }


class ImageSyncReportOperator(BaseOperator):
    """
    Joins the results of a run's tasks into a report: in the log, and in files where `report_path` says.

    Runs whatever became of the tasks before it, and succeeds when the files are written. A mapped task that left no
    result is listed as failed. Where the plan was skipped, as a branch of a larger DAG may be, this is skipped, too.

    :param plan_task_id: the task that planned the run
    :param sync_task_id: the mapped task that copied
    :param report_path: folder for the reports, a path or an object storage URL (templated). There are written
        ``<dag_id>/<run_id>.json`` and ``.md`` and ``<dag_id>/latest.json`` and ``.md``, for a task in a group below
        ``<dag_id>/<group_id>``. A dry run leaves the latest report as it is
    """

    template_fields: Sequence[str] = ("report_path",)
    ui_color = "#fdf3d3"

    def __init__(
        self, *, plan_task_id: str, sync_task_id: str, report_path: str | PurePath | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.sync_task_id = sync_task_id
        self.report_path = plain_path(report_path)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report, and return it in short, with its files."""
        ti: Any = context["ti"]
        if _state(ti, self.plan_task_id) == "skipped":
            raise AirflowSkipException("the plan was skipped")
        return self.publish(ti, self.account(ti))

    def account(self, ti: Any) -> Account:
        """
        Return what there is to say of the run now.

        :param ti: the task instance that runs
        """
        planned = self._plan(ti)
        now = datetime.now(UTC).isoformat()
        metadata = {"dag_id": ti.dag_id, "run_id": ti.run_id, "started": planned.get("started", now), "written": now}
        folder = self._folder(ti)
        latest = _read(folder / f"{_LATEST}.json") if folder is not None else None
        is_latest = latest is None or str(_metadata(latest).get("started", "")) <= metadata["started"]
        if not is_latest:  # an older run was cleared
            latest = None
        if "totals" not in planned:
            account = self._account_unplanned(planned.get("error"), metadata, latest)
        elif planned["dry_run"]:
            account = self._account_dry_run(ti, metadata)
        else:
            account = self._account_run(ti, metadata, latest)
        return replace(account, is_latest=is_latest and not account.dry_run)

    def _plan(self, ti: Any) -> dict[str, Any]:
        """Return how planning went; without ``totals`` there is no plan."""
        planned: dict[str, Any] = ti.xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY) or {}
        match _state(ti, self.plan_task_id):
            case "upstream_failed":  # an earlier plan of this run may have left something
                return {"error": f"a task before {self.plan_task_id} failed"}
            case "failed":  # perhaps after it had planned, for what Airflow does with what it returned
                return {key: value for key, value in planned.items() if key != "totals"}
        return planned

    def publish(self, ti: Any, account: Account) -> dict[str, Any]:
        """
        Write a report and return it in short, with its files.

        :param ti: the task instance that runs
        :param account: what to write
        """
        ti.xcom_push(key=REPORT_KEY, value=account.short)
        folder = self._folder(ti)
        files: list[str] = []
        if folder is not None:
            files = _write(folder, [_file_name(ti.run_id), *([_LATEST] if account.is_latest else [])], account)
            self.log.info("report written to %s", ", ".join(files))
        return {**account.short, "files": files}

    def _folder(self, ti: Any) -> ObjectStoragePath | None:
        path = said(self.report_path)
        if path is None:
            return None
        folder = ObjectStoragePath(path) / _file_name(ti.dag_id)
        group = ti.task_id.rpartition(".")[0]
        return folder / _file_name(group) if group else folder

    def _account_unplanned(
        self, error: str | None, metadata: dict[str, Any], latest: Mapping[str, Any] | None
    ) -> Account:
        """Tell of a run that has no plan, in a report that keeps in mind what failed in the runs before."""
        problem = f"the run could not be planned: {error or f'see the log of the task {self.plan_task_id}'}"
        self.log.error("%s", problem)
        metadata = {**metadata, "problem": problem}
        failing = latest.get("failing") if latest else None
        report = SyncReport(failing=failing if isinstance(failing, dict) else {})
        return Account(problem, report_document(report, metadata), report_markdown(report, metadata), planned=False)

    def _account_dry_run(self, ti: Any, metadata: dict[str, Any]) -> Account:
        rows = ti.xcom_pull(task_ids=self.plan_task_id, key=DRY_RUN_KEY) or []
        plan = Plan(tuple(ImagePair.load(row) for row in rows))
        summary = f"dry run, nothing was copied; {plan_summary(plan)}"
        self.log.info("%s", summary)
        return Account(
            summary,
            plan_document(plan, metadata),
            plan_markdown(plan, metadata),
            tuple((one.source, one.destination, one.error) for one in plan.images if one.error is not None),
            dry_run=True,
            missing=plan.totals["new"] + plan.totals["changed"],
        )

    def _account_run(self, ti: Any, metadata: dict[str, Any], latest: Mapping[str, Any] | None) -> Account:
        began, ended = (datetime.fromisoformat(metadata[key]) for key in ("started", "written"))
        report = join_results(
            ti.xcom_pull(task_ids=self.plan_task_id) or [],
            ti.xcom_pull(task_ids=self.plan_task_id, key=UNCHANGED_KEY) or [],
            _as_list(ti.xcom_pull(task_ids=self.sync_task_id, key=RESULT_KEY)),
            task_id=self.sync_task_id,
            seconds=(ended - began).total_seconds(),
        )
        if self.report_path is not None:
            report = with_failing(report, _before(latest, ti.run_id))
        self.log.info("%s", lines_for_log(report_text(report)))
        return Account(
            report_summary(report),
            report_document(report, metadata),
            report_markdown(report, metadata),
            tuple((one.source, one.destination, one.error) for one in report.failed),
        )


class ImageSyncOutcomeOperator(ImageSyncReportOperator):
    """
    Succeeds when all images are there, so that what comes after it may use them; else fails, and says why.

    Skipped after a dry run that found something to do: what comes after it would miss images. When tasks that failed
    were cleared and the report was not, because it had succeeded, this writes the report again.

    :param report_task_id: the task that wrote the report

    The other parameters are those of ImageSyncReportOperator.
    """

    ui_color = "#f6dede"

    def __init__(self, *, report_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_task_id = report_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the report in short, or fail with what it says."""
        ti: Any = context["ti"]
        see = f"see the log of the task {self.report_task_id}"
        if _state(ti, self.report_task_id) == "skipped":
            raise AirflowSkipException("the report was skipped")
        report = ti.xcom_pull(task_ids=self.report_task_id, key=REPORT_KEY)
        if report is None:
            raise AirflowFailException(f"there is no report of this run; {see}")
        written = ti.xcom_pull(task_ids=self.report_task_id) is not None
        if not _is_good(report):
            account = self.account(ti)
            if any(account.short[key] != report[key] for key in ("planned", "failed", "failed_count")):
                report, written = self.publish(ti, account), True
        summary = str(report["summary"])
        if not report["planned"]:
            raise AirflowFailException(summary)
        if not _is_good(report):
            lines = [f"{source} -> {destination}: {error}" for source, destination, error in report["failed"]]
            more = report["failed_count"] - len(lines)
            raise AirflowFailException("\n".join([summary, *lines, *([f"and {more} more; {see}"] if more else [])]))
        if not written:
            raise AirflowFailException(f"{summary}; but the report could not be written, {see}")
        if report["missing"]:
            raise AirflowSkipException(summary)
        return dict(report)


def _is_good(report: Mapping[str, Any]) -> bool:
    return bool(report["planned"] and not report["failed_count"])


def _state(ti: Any, task_id: str) -> str | None:
    """Return the state of another task of the run."""
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(task_id)
    return None if state is None else str(state)


def _as_list(pulled: Any) -> list[Mapping[str, Any]]:
    """Return what was pulled from a mapped task as a list: Airflow gives one value alone as itself."""
    values = pulled if isinstance(pulled, (list, tuple)) else [pulled]
    return [value for value in values if value is not None]


def _write(folder: ObjectStoragePath, names: Sequence[str], account: Account) -> list[str]:
    """Write the report under each of `names`, and return the paths of the first."""
    texts = {"json": json_text(account.document), "md": account.markdown}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for suffix, text in texts.items():
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    return [str(folder / f"{names[0]}.{suffix}") for suffix in texts]


def _read(path: ObjectStoragePath) -> dict[str, Any] | None:
    """Return the report of the run before; none that can't be read counts."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except Exception:  # noqa: BLE001  # each storage has errors of its own, and this is only a hint
        return None
    return document if isinstance(document, dict) else None


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _before(latest: Mapping[str, Any] | None, run_id: str) -> Mapping[str, Any] | None:
    """Return the latest report as it was before this run, which may have been cleared: a run counts once."""
    if latest is None or _metadata(latest).get("run_id") != run_id or "problem" in _metadata(latest):
        return latest
    failing = latest.get("failing")
    counts = failing.items() if isinstance(failing, dict) else ()
    return {"failing": {source: count - 1 for source, count in counts if isinstance(count, int)}}


def _file_name(text: str) -> str:
    """Return a DAG's or a run's id as a name that every storage takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "_"
