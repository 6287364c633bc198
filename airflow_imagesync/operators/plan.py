"""The operator that plans a run: compares both sides and hands out units of what needs work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.plan import PairState
from airflow_imagesync.domain.render import plan_text
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT, cut_units
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.base import ConfiguredOperator, as_bool

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom with the plan's totals; there is none when planning failed.
TOTALS_KEY = "plan"
#: The XCom with the images that need no work: rule, source, destination and both digests of each.
UNCHANGED_KEY = "unchanged"


class ImageSyncPlanOperator(ConfiguredOperator):
    """
    Compares sources and destinations, and returns the units that ImageSyncOperator is mapped over.

    A unit holds up to `images_per_unit` images of one rule that need work; with nothing to do the list is empty. A rule that
    can't be planned becomes a unit, too, so that its own task tells why, and can be retried and cleared.

    :param images_per_unit: how many images one mapped task copies at most
    :param dry_run: tell what would be done, and return no units (templated)

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = (*ConfiguredOperator.template_fields, "dry_run")
    ui_color = "#e8f7e4"

    def __init__(
        self, *, images_per_unit: int = DEFAULT_IMAGES_PER_UNIT, dry_run: bool | str = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.images_per_unit = images_per_unit
        self.dry_run = dry_run

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, log the plan, and return the units."""
        try:
            dry_run = as_bool(self.dry_run, "dry_run")
            config = self.read_config()
            config = self.with_sides(
                config,
                {rule.source for rule in config.rules},
                {to.repository for rule in config.rules for to in rule.destinations},
            )
        except ConfigError as error:
            raise AirflowFailException(str(error)) from error
        for warning in config.warnings:
            self.log.warning("%s", warning)
        with SyncEngine(config) as engine:
            self._engine = engine
            plan = engine.plan()
        self.log.info("%s", plan_text(plan))
        units = cut_units(
            plan,
            config.rules,
            images_per_unit=self.images_per_unit,
            max_units=conf.getint("core", "max_map_length", fallback=1024),
        )
        push = context["ti"].xcom_push
        push(
            key=UNCHANGED_KEY,
            value=[
                [one.rule, one.source, one.destination, one.source_digest, one.destination_digest]
                for one in plan.images
                if one.state is PairState.SAME
            ],
        )
        push(key=TOTALS_KEY, value={**plan.totals, "dry_run": dry_run})
        if dry_run:
            self.log.info("dry run: nothing is copied")
            return []
        return [unit.dump() for unit in units]
