"""The operator that plans a run: compares both sides and hands out units of what needs work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.estimate import Estimate, measured_rate
from airflow_imagesync.domain.pilot import pilot_positions
from airflow_imagesync.domain.plan import Plan
from airflow_imagesync.domain.render import plan_markdown, plan_text
from airflow_imagesync.domain.results import unchanged_rows
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT, cut_units
from airflow_imagesync.errors import SyncCancelled
from airflow_imagesync.operators.arguments import as_bool, plain_path, said
from airflow_imagesync.operators.base import ConfiguredOperator, lines_for_log, mistakes_fail
from airflow_imagesync.operators.records import configured_records, open_records_of_run
from airflow_imagesync.operators.report_files import read_latest, report_folder

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom that says how planning went: when it began, the totals and whether it was a dry run; or the ``error``.
PLAN_KEY = "plan"
#: The XCom with the images that no unit does because they are the same, see unchanged_rows.
UNCHANGED_KEY = "unchanged"
#: The XCom with all images of a dry run's plan.
DRY_RUN_KEY = "dry_run"
#: The XCom with the estimate of a dry run.
ESTIMATE_KEY = "estimate"
#: The XCom with the plan for a person, as Markdown, where there is something to do.
PLAN_MARKDOWN_KEY = "markdown"
#: As many images as a person reads.
_SHOWN_ROWS = 100


class ImageSyncPlanOperator(ConfiguredOperator):
    """
    Compares sources and destinations, and returns the units that ImageSyncOperator is mapped over.

    A unit holds up to `images_per_unit` images of one rule that need work; with nothing to do the list is empty. A rule
    that can't be planned becomes a unit, too, so that its own task tells why, and can be retried and cleared.

    :param images_per_unit: how many images one mapped task copies at most
    :param plan_only: tell what would be done, and return no units: a dry run (templated)
    :param pilot: what goes first, see pilot_positions: a number of images, or patterns; nothing for no pilot
        (templated)
    :param estimate: find out how much is to be sent and how long that takes, which costs a GET for each manifest of
        each image to copy (templated)
    :param report_path: folder of the reports, whose latest tells how fast copying was (templated)

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = (
        *ConfiguredOperator.template_fields,
        "plan_only",
        "pilot",
        "estimate",
        "report_path",
    )
    ui_color = "#e8f7e4"

    def __init__(
        self,
        *,
        images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
        plan_only: bool | str = False,
        pilot: int | str | None = None,
        estimate: bool | str = False,
        report_path: str | PurePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if images_per_unit < 1:
            raise ValueError(f"images_per_unit: found {images_per_unit}, expected a whole number of at least 1")
        self.images_per_unit = images_per_unit
        self.plan_only = plan_only
        self.pilot = pilot
        self.estimate = estimate
        self.report_path = plain_path(report_path)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, log the plan, and return the units."""
        ti: Any = context["ti"]
        started = datetime.now(UTC).isoformat()
        try:
            with mistakes_fail():
                dry_run = as_bool(self.plan_only, "plan_only")
                estimated = as_bool(self.estimate, "estimate")
                config = self.configuration()
                plan, estimate = self._plan(config, context, estimated=estimated)
                first = pilot_positions(plan, pilot) if (pilot := said(self.pilot)) is not None else set()
        except AirflowFailException as failure:
            ti.xcom_push(key=PLAN_KEY, value={"started": started, "error": str(failure)})  # for the report
            raise
        self.log.info("%s", lines_for_log(plan_text(plan, estimate)))
        units = cut_units(
            plan,
            config.rules,
            images_per_unit=self.images_per_unit,
            max_units=conf.getint("core", "max_map_length", fallback=1024),
            pilot=first,
        )
        if units:
            ti.xcom_push(key=PLAN_MARKDOWN_KEY, value=plan_markdown(plan, estimate=estimate, max_rows=_SHOWN_ROWS))
        if dry_run:
            self.log.info("dry run: nothing is copied")
            ti.xcom_push(key=DRY_RUN_KEY, value=[one.dump() for one in plan.images])
            if estimate is not None:
                ti.xcom_push(key=ESTIMATE_KEY, value=estimate.dump())
        else:
            ti.xcom_push(key=UNCHANGED_KEY, value=unchanged_rows(plan, units))
        ti.xcom_push(key=PLAN_KEY, value={"started": started, "totals": plan.totals, "dry_run": dry_run})
        return [] if dry_run else [unit.dump() for unit in units]

    def _plan(self, config: SyncConfig, context: Context, *, estimated: bool) -> tuple[Plan, Estimate | None]:
        where = configured_records(self.records_conn_id)
        for warning in config.warnings:
            self.log.warning("%s", warning)
        with self.engine(config, open_records_of_run(where, context)) as engine:
            plan = engine.plan()
            estimate = engine.estimate(plan, rate=self._rate(context)) if estimated else None
            if engine.cancelled:
                raise SyncCancelled("planning was stopped")
        return plan, estimate

    def _rate(self, context: Context) -> float | None:
        """Return how many bytes a second the last run copied, where its report tells."""
        path = said(self.report_path)
        if path is None:
            return None
        ti: Any = context["ti"]
        latest = read_latest(report_folder(path, ti.dag_id, ti.task_id))
        return measured_rate(latest.get("totals")) if latest is not None else None
