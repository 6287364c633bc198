"""The operator that copies images: one source to its destinations, or one unit of a planned run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.render import count_of, human_seconds, report_summary, report_text, utc_time
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.unit import Unit, shortened
from airflow_imagesync.engine.units import run_unit
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators import metrics
from airflow_imagesync.operators.arguments import said
from airflow_imagesync.operators.asset_events import add_alias, alias_among, emit
from airflow_imagesync.operators.base import ConfiguredOperator, lines_for_log, mistakes_fail
from airflow_imagesync.operators.earlier import EarlierTries
from airflow_imagesync.operators.lineage import lineage_of
from airflow_imagesync.operators.links import DestinationRegistryLink, SourceRegistryLink, SyncReportLink
from airflow_imagesync.operators.records import configured_records, open_records_of_run
from airflow_imagesync.operators.retries import images_failed, keep_to_limits, spread

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

#: The XCom that holds a task's results, also those of a task that failed.
RESULT_KEY = "result"
_SHOWN_ERRORS = 3
#: How long a wait may last beyond its end before it is given up, in seconds: without a triggerer it has none.
_PATIENCE = 900.0


class ImageSyncOperator(ConfiguredOperator):
    """
    Copies container images from one registry to another, without a Docker daemon.

    Tries every image, pushes the results as the XCom ``result``, and fails when an image failed: so that Airflow tries
    again while one of them failed temporarily, for good when all failures are permanent. A retry does only what is
    left.

    Where all that may still succeed is held up by a registry that asks for a wait of more than a minute, such as Docker
    Hub with its pull limit, the task defers itself until then (which takes a triggerer, and no slot of a worker) and
    goes on with what is left, in the same try. Its ``execution_timeout`` holds for each stretch of work between such
    waits, a ``dagrun_timeout`` for all of it. Where it does not defer itself, Airflow 3.3 tries again when the registry
    allows it, and not after ``retry_delay``: that is RegistryRetryPolicy, unless you give a ``retry_policy``.

    When it succeeds without `unit` and something was copied, it emits events of the assets
    ``oci://registry/repository`` of its destinations, by the AssetAlias among its ``outlets``: yours, or
    ``imagesync_<dag_id>``.

    :param source: what to copy: ``registry/repository`` with nothing, ``:tag``, ``:tag1,tag2``, ``:/regex/`` or
        ``@digest`` behind it (templated)
    :param destination: where to: ``registry/repository``, with tags or not, or a list of them (templated)
    :param allow_empty: a source without matching tags is no failure
    :param unit: a unit of a run that was planned by ImageSyncPlanOperator, instead of source and destination;
        not templated, because a regular expression in it may look like a template
    :param max_wait: how long one try may be deferred in all, in seconds or as a timedelta, each time counting as a
        minute at least; with 0 it never is. What would take longer fails, for Airflow to try again

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = ("source", "destination", *ConfiguredOperator.template_fields)
    ui_color = "#d6ecfa"
    operator_extra_links = (SourceRegistryLink(), DestinationRegistryLink(), SyncReportLink())

    def __init__(
        self,
        *,
        source: str | None = None,
        destination: str | Sequence[str] | None = None,
        allow_empty: bool = False,
        unit: Mapping[str, Any] | None = None,
        max_wait: float | timedelta = timedelta(hours=12),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keep_to_limits(self)
        self.source = source
        self.destination = destination
        self.allow_empty = allow_empty
        self.unit = unit
        self.max_wait = max_wait
        self._results: tuple[ImageResult, ...] = ()
        # The images of a unit are announced by the task that reports the run, because a mapped task that fails tells
        # nobody of what it did before.
        if unit is None:
            add_alias(self)

    @property
    def label(self) -> str:
        """What this task copies, for the UI."""
        if isinstance(self.unit, Mapping):
            return shortened(str(self.unit.get("label", "")))
        return shortened(f"{self.source} -> {self.destination}")

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy, push the results, and return the totals."""
        return self._sync(context, waited=0.0, this_try=())

    def go_on(
        self,
        context: Context,
        event: object = None,  # noqa: ARG002  # what triggers pass
        waited: float = 0.0,
    ) -> dict[str, Any]:
        """
        Do what was left when the task deferred itself.

        :param event: what the trigger sent, which says nothing new
        :param waited: how long this try has been deferred so far, in seconds
        """
        ti: Any = context["ti"]
        # Airflow keeps a task's XComs when it goes on, unlike before another try.
        result = ti.xcom_pull(task_ids=self.task_id, key=RESULT_KEY, map_indexes=ti.map_index) or {}
        return self._sync(context, waited=waited, this_try=result.get("images", ()))

    def _sync(self, context: Context, *, waited: float, this_try: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        with mistakes_fail():
            config = self.read_config()
            if self.unit is not None:
                unit = Unit.load(self.unit)
            else:
                unit = Unit(self.label, config.rules, whole=tuple(rule.index for rule in config.rules))
            # Whether the connections fit at all was found out when the unit was planned.
            config = self.with_connections(config, *_repositories(unit), must_fit=self.unit is None)
            where = configured_records(self.records_conn_id)
        if self.unit is None:
            for warning in config.warnings:
                self.log.warning("%s", warning)
        earlier = EarlierTries(context, this_try)
        with self.engine(config, open_records_of_run(where, context)) as engine:
            report = run_unit(engine, unit, done=earlier.unfinished)
            statistics = engine.statistics()
        fresh = earlier.fresh(report)
        metrics.record((one for one in fresh if one.state is not ResultState.FAILED), statistics)
        report = earlier.joined(report)
        self._results = report.images
        self.log.info("%s", lines_for_log(report_text(report)))
        ti: Any = context["ti"]
        ti.xcom_push(
            key=RESULT_KEY,
            value={"unit": unit.number, "label": unit.label, "images": [one.dump() for one in report.images]},
        )
        if report.failed:
            self._defer_until_it_helps(report.failed, waited)
            metrics.record(report.failed)
            message = _failure(report)
            if any(one.temporary for one in report.failed):
                raise images_failed(message, report.failed)
            raise AirflowFailException(message)
        if self.unit is None and (alias := alias_among(self.outlets)) is not None:
            emit(context, alias, earlier.not_announced(report, fresh))
        return report.totals

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002
        """
        Return what was read and written, for OpenLineage's provider.

        :param task_instance: the task instance that ran
        """
        return lineage_of(self._results)

    #: Of a failed task, too: what it did copy is there.
    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    def _defer_until_it_helps(self, failed: Iterable[ImageResult], waited: float) -> None:
        """Defer the task if nothing but time is missing for any of the images that may still succeed."""
        times = [one.retry_at for one in failed if one.temporary]
        if not times or None in times:
            return
        until = max(time.time(), *(one for one in times if one is not None))
        wait = spread(max(0.0, until - time.time()))
        # A wait that ended while the rest was done counts, too: a task must not defer itself for ever.
        waited += max(wait, self.longest_wait)
        longest = _seconds(self.max_wait)
        what = f"{count_of(len(times), 'image')} held up by a registry's limit until {utc_time(until)}"
        if waited > longest:
            self.log.warning("%s, which is longer than max_wait (%s) allows", what, human_seconds(longest))
            return
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.log.info("%s: the task goes on in %s", what, human_seconds(wait))
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=wait)),
            method_name="go_on",
            kwargs={"waited": waited},
            timeout=timedelta(seconds=wait + _PATIENCE),
        )

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


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _failure(report: SyncReport) -> str:
    """Return what failed, in a message that is still readable with many images."""
    shown = report.failed[:_SHOWN_ERRORS]
    lines = [report_summary(report), *(f"{one.source} -> {one.destination}: {one.error}" for one in shown)]
    if len(report.failed) > len(shown):
        lines.append(f"and {len(report.failed) - len(shown)} more, see the log and the report")
    return "\n".join(lines)
