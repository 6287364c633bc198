"""The links that tasks have in Airflow's UI: to the registries that they copy from and to, and to the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from airflow_imagesync.domain.digest import check_digest
from airflow_imagesync.domain.notation import split_pattern
from airflow_imagesync.domain.reference import Repository, split_reference
from airflow_imagesync.domain.registry_pages import registry_page
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.errors import InvalidReference
from airflow_imagesync.operators.pages import in_airflow, task_page


class _RegistryLink(BaseOperatorLink):
    side = ""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """
        Return the address of the page, empty where the task doesn't know a repository.

        :param operator: the task
        :param ti_key: its task instance, which has run
        """
        return _page(operator, ti_key, self.side)


class SourceRegistryLink(_RegistryLink):
    """To the page of the repository that a task copies from, the first one where there are several."""

    name = "Source registry"
    side = "source"


class DestinationRegistryLink(_RegistryLink):
    """To the page of the repository that a task copies to, the first one where there are several."""

    name = "Destination registry"
    side = "destination"


class SyncReportLink(BaseOperatorLink):
    """To the task that reports the run, whose log has the report and whose XComs say where its files are."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """
        Return the address of the report task's page, empty where nothing reports what the task does.

        :param operator: the task
        :param ti_key: its task instance
        """
        task_id = _report_task_id(operator)
        return in_airflow(task_page(ti_key.dag_id, ti_key.run_id, task_id)) if task_id is not None else ""


def _page(operator: Any, ti: Any, side: str) -> str:
    for text in _names(operator, ti, side):
        try:
            name, _, digest = split_reference(split_pattern(text)[0])
            if digest is not None:
                check_digest(digest)  # else it may be a login that somebody wrote before an @
            return registry_page(Repository.parse(name))
        except InvalidReference:  # such as one with the name of a variable in it
            continue
    return ""


def _names(operator: Any, ti: Any, side: str) -> Iterator[str]:
    """Yield what a task copies from or to: of its unit, as its arguments say it, or as its results do."""
    if isinstance(operator.unit, Mapping):
        unit = Unit.load(operator.unit)
        yield from (getattr(image, side) for image in unit.images)
        for rule in unit.rules:
            yield from [str(rule.source)] if side == "source" else [str(to.repository) for to in rule.destinations]
        return
    written = getattr(operator, side)
    yield from (str(one).strip() for one in ([written] if isinstance(written, str) else written or ()))
    from airflow_imagesync.operators.image_sync import RESULT_KEY  # it imports this

    # Only what was done tells what is in a file.
    result = ti.xcom_pull(task_ids=operator.task_id, key=RESULT_KEY, map_indexes=ti.map_index) or {}
    yield from (image[side] for image in result.get("images", ()))


def _report_task_id(operator: Any) -> str | None:
    """Return the task that reports what a task does: the one that names it, and not the outcome after it."""
    from airflow_imagesync.operators.report import ImageSyncOutcomeOperator, ImageSyncReportOperator

    if isinstance(operator, ImageSyncOutcomeOperator):
        return operator.report_task_id
    for task in operator.dag.tasks:
        if (
            isinstance(task, ImageSyncReportOperator)
            and not isinstance(task, ImageSyncOutcomeOperator)
            and operator.task_id in (task.plan_task_id, task.sync_task_id, task.pilot_task_id)
        ):
            return task.task_id
    return None
