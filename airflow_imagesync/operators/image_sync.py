"""The operator that copies images: one source to its destinations, or one unit of a planned run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.render import report_summary, report_text
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.unit import Unit, shortened
from airflow_imagesync.engine.units import run_unit
from airflow_imagesync.errors import ConfigError, ImagesFailed
from airflow_imagesync.operators.base import ConfiguredOperator, lines_for_log, mistakes_fail, said
from airflow_imagesync.operators.earlier import EarlierTries

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom that holds a task's results, also those of a task that failed.
RESULT_KEY = "result"
_SHOWN_ERRORS = 3


class ImageSyncOperator(ConfiguredOperator):
    """
    Copies container images from one registry to another, without a Docker daemon.

    Tries every image, pushes the results as the XCom ``result``, and fails when an image failed: so that Airflow tries
    again while one of them failed temporarily, for good when all failures are permanent. A retry does only what is
    left.

    :param source: what to copy: ``registry/repository`` with nothing, ``:tag``, ``:tag1,tag2``, ``:/regex/`` or
        ``@digest`` behind it (templated)
    :param destination: where to: ``registry/repository``, with tags or not, or a list of them (templated)
    :param allow_empty: a source without matching tags is no failure
    :param unit: a unit of a run that was planned by ImageSyncPlanOperator, instead of source and destination;
        not templated, because a regular expression in it may look like a template

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = ("source", "destination", *ConfiguredOperator.template_fields)
    ui_color = "#d6ecfa"

    def __init__(
        self,
        *,
        source: str | None = None,
        destination: str | Sequence[str] | None = None,
        allow_empty: bool = False,
        unit: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.allow_empty = allow_empty
        self.unit = unit

    @property
    def label(self) -> str:
        """What this task copies, for the UI."""
        if isinstance(self.unit, Mapping):
            return shortened(str(self.unit.get("label", "")))
        return shortened(f"{self.source} -> {self.destination}")

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy, push the results, and return the totals."""
        with mistakes_fail():
            config = self.read_config()
            if self.unit is not None:
                unit = Unit.load(self.unit)
            else:
                unit = Unit(self.label, config.rules, whole=tuple(rule.index for rule in config.rules))
            # Whether the connections fit at all was found out when the unit was planned.
            config = self.with_connections(config, *_repositories(unit), must_fit=self.unit is None)
        if self.unit is None:
            for warning in config.warnings:
                self.log.warning("%s", warning)
        earlier = EarlierTries(context)
        with self.engine(config) as engine:
            report = run_unit(engine, unit, done=earlier.unfinished)
        report = earlier.joined(report)
        self.log.info("%s", lines_for_log(report_text(report)))
        ti: Any = context["ti"]
        ti.xcom_push(
            key=RESULT_KEY,
            value={"unit": ti.map_index, "label": unit.label, "images": [one.dump() for one in report.images]},
        )
        if report.failed:
            message = _failure(report)
            if any(one.temporary for one in report.failed):
                raise ImagesFailed(message)
            raise AirflowFailException(message)
        return report.totals

    def own_rules(self) -> str:
        """Return the rule that source and destination make."""
        source = said(self.source)
        destination: Any = self.destination
        if not source or destination is None or destination == "None":
            raise ConfigError(f"{self.task_id}: give source and destination, or config, images or rules")
        rule = {"source": source, "destination": destination, "allow_empty": self.allow_empty}
        return json.dumps({"rules": [rule]})


def _repositories(unit: Unit) -> tuple[set[Repository], set[Repository]]:
    """Return the source and the destination repositories of a unit."""
    sources = {rule.source for rule in unit.rules}
    destinations = {ImageReference.parse(one.destination).repository for one in unit.images}
    destinations |= {to.repository for rule in unit.rules for to in rule.destinations}
    return sources, destinations


def _failure(report: SyncReport) -> str:
    """Return what failed, in a message that is still readable with many images."""
    shown = report.failed[:_SHOWN_ERRORS]
    lines = [report_summary(report), *(f"{one.source} -> {one.destination}: {one.error}" for one in shown)]
    if len(report.failed) > len(shown):
        lines.append(f"and {len(report.failed) - len(shown)} more, see the log and the report")
    return "\n".join(lines)
