"""The operator that copies images: one source to its destinations, or one unit of a planned run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.render import report_summary, report_text
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.unit import Unit, shortened
from airflow_imagesync.engine.units import run_unit
from airflow_imagesync.errors import ConfigError, ImagesFailed
from airflow_imagesync.operators.base import ConfiguredOperator, mistakes_fail, said

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom that holds a task's results, also those of a task that failed.
RESULT_KEY = "result"
_COPIED_KEY = "copied"
#: What of a copied image can't be seen later.
_KEPT = ("bytes_copied", "bytes_mounted", "bytes_skipped", "seconds", "note")
_SHOWN_ERRORS = 3

logger = logging.getLogger(__name__)


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
            config = self.with_sides(config, *_repositories(unit), must_fit=self.unit is None)
        if self.unit is None:
            for warning in config.warnings:
                self.log.warning("%s", warning)
        earlier = EarlierTries(context)
        with self.engine(config) as engine:
            report = run_unit(engine, unit, done=earlier.unfinished)
        report = earlier.joined(report)
        self.log.info("%s", report_text(report))
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


class EarlierTries:
    """
    What earlier tries of a task copied, so that the last one can tell, and forces nothing twice.

    Kept in the task state store, which outlives a try and a clear: Airflow removes a task's XComs before each try. It
    exists since Airflow 3.3, and what is in it is a hint: without it, images of earlier tries count as the same.

    :param context: the context of the task
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        kept: Any = None
        if self._store is not None:
            try:
                kept = self._store.get(_COPIED_KEY, default=None)
            except Exception:  # whatever a store's backend raises
                logger.warning("what earlier tries copied can't be read, and counts as the same", exc_info=True)
        kept = kept if isinstance(kept, dict) else {}
        self._rows: dict[tuple[str, str], dict[str, Any]] = {
            (row["source"], row["destination"]): row for row in kept.get("images", ())
        }
        #: The images that a try copied that left others undone, as source and destination.
        self.unfinished: frozenset[tuple[str, str]] = frozenset() if kept.get("finished") else frozenset(self._rows)

    def joined(self, report: SyncReport) -> SyncReport:
        """
        Return the report with what earlier tries copied told as copied, and keep that for later ones.

        :param report: the report of this try
        """
        images = tuple(self._told(one) for one in report.images)
        copied = [one for one in images if one.state is ResultState.COPIED]
        if self._store is not None and copied:
            finished = all(one.state is not ResultState.FAILED for one in images)
            try:
                self._store.set(_COPIED_KEY, {"finished": finished, "images": _kept(copied)})
            except Exception:  # the images are there
                logger.warning("what was copied can't be kept for a later try's report", exc_info=True)
        return replace(report, images=images)

    def _told(self, image: ImageResult) -> ImageResult:
        row = self._rows.get((image.source, image.destination))
        if image.state is not ResultState.SAME or row is None or row["digest"] != image.digest:
            return image
        return replace(image, state=ResultState.COPIED, **{key: row[key] for key in _KEPT})


def _kept(images: Iterable[ImageResult]) -> list[dict[str, Any]]:
    # Airflow warns above 64 KiB, and digests would make most of it.
    keys = ("source", "destination", "digest", *_KEPT)
    return [{key: value for key, value in one.dump().items() if key in keys} for one in images]


def _failure(report: SyncReport) -> str:
    """Return what failed, in a message that is still readable with many images."""
    shown = report.failed[:_SHOWN_ERRORS]
    lines = [report_summary(report), *(f"{one.source} -> {one.destination}: {one.error}" for one in shown)]
    if len(report.failed) > len(shown):
        lines.append(f"and {len(report.failed) - len(shown)} more, see the log and the report")
    return "\n".join(lines)
