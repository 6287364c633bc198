"""The operators that end a run: one writes the report whatever happened, one fails the run when anything failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_imagesync.domain.image_map_files import image_map_files
from airflow_imagesync.domain.render import json_text
from airflow_imagesync.domain.report import ImageResult
from airflow_imagesync.operators.account import Account, Accountant, RunTasks, state_of
from airflow_imagesync.operators.announcing import ANNOUNCED_KEY, announce
from airflow_imagesync.operators.arguments import plain_path, said
from airflow_imagesync.operators.asset_events import add_alias, alias_among
from airflow_imagesync.operators.base import lines_for_log
from airflow_imagesync.operators.links import SyncReportLink
from airflow_imagesync.operators.plan import PLAN_KEY
from airflow_imagesync.operators.report_files import (
    LATEST,
    file_name,
    metadata_of,
    read_latest,
    report_folder,
    write_report,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom with the report in short, there even when its files can't be written.
REPORT_KEY = "report"
#: The XCom with the image map, source to destination@digest.
IMAGE_MAP_KEY = "image_map"


class ImageSyncReportOperator(BaseOperator):
    """
    Joins the results of a run's tasks into a report: in the log, and in files where `report_path` says.

    Runs whatever became of the tasks before it, and succeeds when the files are written. A mapped task that left no
    result is listed as failed. Where the plan was skipped, as a branch of a larger DAG may be, this is skipped, too.

    It emits the asset events of what was copied, also in a run in which something else failed: Airflow drops those of
    tasks that fail.

    :param plan_task_id: the task that planned the run
    :param sync_task_id: the mapped task that copied, with a pilot what comes after it
    :param pilot_task_id: the mapped task that copied the pilot
    :param approval_task_ids: the tasks that handed out what was approved, that of a pilot first
    :param verify_task_id: the task that compared both sides after copying
    :param image_map: push the XCom ``image_map``, and write it as files beside the report
    :param report_path: folder for the reports, a path or an object storage URL (templated). There are written
        ``<dag_id>/<run_id>.json`` and ``.md`` and ``<dag_id>/latest.json`` and ``.md``, for a task in a group below
        ``<dag_id>/<group_id>``. A dry run leaves the latest report as it is
    """

    template_fields: Sequence[str] = ("report_path",)
    ui_color = "#fdf3d3"

    def __init__(
        self,
        *,
        plan_task_id: str,
        sync_task_id: str,
        pilot_task_id: str | None = None,
        approval_task_ids: Sequence[str] = (),
        verify_task_id: str | None = None,
        image_map: bool = False,
        report_path: str | PurePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan_task_id = plan_task_id
        self.sync_task_id = sync_task_id
        self.pilot_task_id = pilot_task_id
        self.approval_task_ids = approval_task_ids
        self.verify_task_id = verify_task_id
        self.image_map = image_map
        self.report_path = plain_path(report_path)
        add_alias(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report, announce what changed, and return the report in short, with its files."""
        ti: Any = context["ti"]
        if state_of(ti, self.plan_task_id) == "skipped":
            raise AirflowSkipException("the plan was skipped")
        account = self.account(ti)
        self.log.info("%s", lines_for_log(account.text))
        published = self.publish(ti, account)
        announce(context, alias_among(self.outlets), account.images)
        return published

    def account(self, ti: Any) -> Account:
        """
        Return what there is to say of the run now.

        :param ti: the task instance that runs
        """
        planned = self._plan(ti)
        now = datetime.now(UTC).isoformat()
        metadata = {"dag_id": ti.dag_id, "run_id": ti.run_id, "started": planned.get("started", now), "written": now}
        folder = self._folder(ti)
        latest = read_latest(folder) if folder is not None else None
        tasks = RunTasks(
            self.plan_task_id,
            self.sync_task_id,
            self.pilot_task_id,
            tuple(self.approval_task_ids),
            self.verify_task_id,
        )
        is_latest = latest is None or str(metadata_of(latest).get("started", "")) <= metadata["started"]
        if not is_latest:  # an older run was cleared
            latest = None
        account = Accountant(ti, tasks, metadata, planned, latest, has_reports=folder is not None).account()
        return replace(account, is_latest=is_latest and not account.dry_run)

    def _plan(self, ti: Any) -> dict[str, Any]:
        """Return how planning went; without ``totals`` there is no plan."""
        planned: dict[str, Any] = ti.xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY) or {}
        match state_of(ti, self.plan_task_id):
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
        texts = {".json": json_text(account.document), ".md": account.markdown}
        if self.image_map:
            image_map = account.image_map
            ti.xcom_push(key=IMAGE_MAP_KEY, value=image_map.dump())
            if not account.dry_run:
                texts |= {f".images/{name}": text for name, text in image_map_files(image_map).items()}
        folder = self._folder(ti)
        files: list[str] = []
        if folder is not None:
            files = write_report(folder, [file_name(ti.run_id), *([LATEST] if account.is_latest else [])], texts)
            self.log.info("report written to %s", ", ".join(files))
        return {**account.short, "files": files}

    def _folder(self, ti: Any) -> ObjectStoragePath | None:
        path = said(self.report_path)
        return report_folder(path, ti.dag_id, ti.task_id) if path is not None else None


class ImageSyncOutcomeOperator(ImageSyncReportOperator):
    """
    Succeeds when all images are there, so that what comes after it may use them; else fails, and says why.

    Skipped after a dry run that found something to do, and where a person rejected images: what comes after it would
    miss them. When tasks that failed were cleared and the report was not, because it had succeeded, this writes the
    report again.

    :param report_task_id: the task that wrote the report

    The other parameters are those of ImageSyncReportOperator.
    """

    ui_color = "#f6dede"
    operator_extra_links = (SyncReportLink(),)

    def __init__(self, *, report_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report_task_id = report_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the report in short, or fail with what it says."""
        ti: Any = context["ti"]
        see = f"see the log of the task {self.report_task_id}"
        if state_of(ti, self.report_task_id) == "skipped":
            raise AirflowSkipException("the report was skipped")
        report = ti.xcom_pull(task_ids=self.report_task_id, key=REPORT_KEY)
        if report is None:
            raise AirflowFailException(f"there is no report of this run; {see}")
        written = ti.xcom_pull(task_ids=self.report_task_id) is not None
        image_map = ti.xcom_pull(task_ids=self.report_task_id, key=IMAGE_MAP_KEY) if self.image_map else None
        late: Sequence[ImageResult] = ()
        if not _is_good(report):
            account = self.account(ti)
            if any(
                account.short[key] != report[key]
                for key in ("planned", "failed", "failed_count", "missing", "unverified")
            ):
                report, written = self.publish(ti, account), True
                image_map, late = None, account.images  # the map is pushed with the report
        if image_map is not None:
            ti.xcom_push(key=IMAGE_MAP_KEY, value=image_map)
        summary = str(report["summary"])
        if not report["planned"]:
            raise AirflowFailException(summary)
        if not _is_good(report):
            lines = [f"{source} -> {destination}: {error}" for source, destination, error in report["failed"]]
            if more := report["failed_count"] - len(lines):
                lines.append(f"and {more} more; {see}")
            if report["unverified"]:
                lines.append(report["unverified"])
            raise AirflowFailException("\n".join([summary, *lines]))
        if not written:
            raise AirflowFailException(f"{summary}; but the report could not be written, {see}")
        if report["missing"]:
            raise AirflowSkipException(summary)
        announce(
            context,
            alias_among(self.outlets),
            late,
            before=ti.xcom_pull(task_ids=self.report_task_id, key=ANNOUNCED_KEY) or (),
        )
        return dict(report)


def _is_good(report: Mapping[str, Any]) -> bool:
    return bool(report["planned"] and not report["failed_count"] and not report["unverified"])
