"""The operator that plans a run: compares both sides and hands out units of what needs work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.render import plan_text
from airflow_imagesync.domain.results import unchanged_rows
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT, cut_units
from airflow_imagesync.errors import SyncCancelled
from airflow_imagesync.operators.arguments import as_bool
from airflow_imagesync.operators.base import ConfiguredOperator, lines_for_log, mistakes_fail
from airflow_imagesync.operators.records import configured_records, open_records_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom that says how planning went: when it began, the totals and whether it was a dry run; or the ``error``.
PLAN_KEY = "plan"
#: The XCom with the images that no unit does because they are the same, see unchanged_rows.
UNCHANGED_KEY = "unchanged"
#: The XCom with all images of a dry run's plan.
DRY_RUN_KEY = "dry_run"


class ImageSyncPlanOperator(ConfiguredOperator):
    """
    Compares sources and destinations, and returns the units that ImageSyncOperator is mapped over.

    A unit holds up to `images_per_unit` images of one rule that need work; with nothing to do the list is empty. A rule
    that can't be planned becomes a unit, too, so that its own task tells why, and can be retried and cleared.

    :param images_per_unit: how many images one mapped task copies at most
    :param plan_only: tell what would be done, and return no units: a dry run (templated)

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = (*ConfiguredOperator.template_fields, "plan_only")
    ui_color = "#e8f7e4"

    def __init__(
        self, *, images_per_unit: int = DEFAULT_IMAGES_PER_UNIT, plan_only: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if images_per_unit < 1:
            raise ValueError(f"images_per_unit: found {images_per_unit}, expected a whole number of at least 1")
        self.images_per_unit = images_per_unit
        self.plan_only = plan_only

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, log the plan, and return the units."""
        push = context["ti"].xcom_push
        started = datetime.now(UTC).isoformat()
        try:
            with mistakes_fail():
                dry_run = as_bool(self.plan_only, "plan_only")
                config = self._configuration()
                where = configured_records(self.records_conn_id)
        except AirflowFailException as failure:
            push(key=PLAN_KEY, value={"started": started, "error": str(failure)})  # for the report
            raise
        for warning in config.warnings:
            self.log.warning("%s", warning)
        with self.engine(config, open_records_of_run(where, context)) as engine:
            plan = engine.plan()
            if engine.cancelled:
                raise SyncCancelled("planning was stopped")
        self.log.info("%s", lines_for_log(plan_text(plan)))
        units = cut_units(
            plan,
            config.rules,
            images_per_unit=self.images_per_unit,
            max_units=conf.getint("core", "max_map_length", fallback=1024),
        )
        if dry_run:
            self.log.info("dry run: nothing is copied")
            push(key=DRY_RUN_KEY, value=[one.dump() for one in plan.images])
        else:
            push(key=UNCHANGED_KEY, value=unchanged_rows(plan, units))
        push(key=PLAN_KEY, value={"started": started, "totals": plan.totals, "dry_run": dry_run})
        return [] if dry_run else [unit.dump() for unit in units]

    def _configuration(self) -> SyncConfig:
        config = self.read_config()
        return self.with_connections(
            config,
            {rule.source for rule in config.rules},
            {to.repository for rule in config.rules for to in rule.destinations},
        )
