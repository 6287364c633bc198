"""What there is to say of a run: what its tasks left as XComs, as one account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_imagesync.domain.estimate import Estimate
from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.domain.plan import ImagePair, Plan
from airflow_imagesync.domain.render import (
    count_of,
    plan_document,
    plan_markdown,
    plan_summary,
    report_document,
    report_markdown,
    report_summary,
    report_text,
    totals_summary,
    with_failing,
)
from airflow_imagesync.domain.report import ImageResult, SyncReport
from airflow_imagesync.domain.results import join_results
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.operators.approval import DECISION_KEY
from airflow_imagesync.operators.image_sync import RESULT_KEY
from airflow_imagesync.operators.plan import DRY_RUN_KEY, ESTIMATE_KEY, UNCHANGED_KEY
from airflow_imagesync.operators.report_files import before_run
from airflow_imagesync.operators.verify import VERIFICATION_KEY

_SHOWN_FAILURES = 20


@dataclass(frozen=True)
class RunTasks:
    """
    The tasks of a run, by their ids.

    :param plan: the task that planned
    :param sync: the mapped task that copied, with a pilot what comes after it
    :param pilot: the mapped task that copied the pilot
    :param approvals: the tasks that handed out what was approved: the first what is copied first, the second the rest
    :param verify: the task that compared both sides after that
    """

    plan: str
    sync: str
    pilot: str | None = None
    approvals: tuple[str, ...] = ()
    verify: str | None = None


@dataclass(frozen=True)
class Account:
    """
    What there is to say of a run.

    ``missing`` images are not there because this was a dry run, or because somebody rejected them. ``unverified`` says
    what is wrong with a comparison of both sides. ``images`` are the results of those that were to be copied, or were
    the same. ``is_latest`` when no later run was reported.
    """

    summary: str
    document: Mapping[str, Any]
    markdown: str
    text: str
    images: tuple[ImageResult, ...] = ()
    failed: tuple[tuple[str, str, str | None], ...] = ()
    planned: bool = True
    dry_run: bool = False
    missing: int = 0
    unverified: str | None = None
    is_latest: bool = True

    @property
    def short(self) -> dict[str, Any]:
        """The account as the outcome and notifiers need it."""
        return {
            "summary": self.summary,
            "planned": self.planned,
            "dry_run": self.dry_run,
            "missing": self.missing,
            "unverified": self.unverified,
            "totals": self.document["totals"],
            "failed": [list(row) for row in self.failed[:_SHOWN_FAILURES]],
            "failed_count": len(self.failed),
        }

    @property
    def image_map(self) -> ImageMap:
        """Where the images are that are there."""
        return ImageMap.of(self.images)


@dataclass(frozen=True)
class _Gate:
    """How a task ended that hands out units: ``problem`` says why it did not; rejected is what a person chose."""

    rejected: bool = False
    problem: str | None = None


@dataclass
class Accountant:
    """
    Reads what the tasks of a run left.

    :param ti: the task instance that runs
    :param tasks: the tasks
    :param metadata: what is known of the run: ``dag_id``, ``run_id``, when it ``started`` and when this is ``written``
    :param latest: the report of the run before, if any
    :param has_reports: whether reports are kept, so that it can be told for how long a source has been failing
    """

    ti: Any
    tasks: RunTasks
    metadata: dict[str, Any]
    planned: Mapping[str, Any]
    latest: Mapping[str, Any] | None = None
    has_reports: bool = False
    _gates: list[_Gate] = field(default_factory=list)

    def account(self) -> Account:
        """Return what there is to say of the run now."""
        if "totals" not in self.planned:
            error = self.planned.get("error") or f"see the log of the task {self.tasks.plan}"
            return self._nothing_copied(f"the run could not be planned: {error}")
        if self.planned["dry_run"]:
            return self._dry_run()
        self._gates = [self._gate(task_id) for task_id in self.tasks.approvals]
        if self._gates and self._gates[0].problem:
            return self._nothing_copied(self._gates[0].problem)
        return self._run()

    def _gate(self, task_id: str) -> _Gate:
        decision = self.ti.xcom_pull(task_ids=task_id, key=DECISION_KEY) or {}
        if decision.get("error"):
            return _Gate(problem=str(decision["error"]))
        if decision.get("approved") is False:
            return _Gate(rejected=True, problem=f"rejected by {decision['by']}")
        match state_of(self.ti, task_id):
            case "success" | "skipped":
                return _Gate()
            case "upstream_failed" if self.tasks.pilot is not None and task_id != self.tasks.approvals[0]:
                return _Gate(problem=f"images of the pilot failed: see {self.tasks.pilot}, and clear it when mended")
            case state:
                return _Gate(problem=f"the task {task_id} ended as {state}: see its log, and clear it to go on")

    def _nothing_copied(self, problem: str) -> Account:
        """Tell of a run without results, in a report that keeps in mind what failed in the runs before."""
        metadata = {**self.metadata, "problem": problem}
        failing = self.latest.get("failing") if self.latest else None
        report = SyncReport(failing=failing if isinstance(failing, dict) else {})
        rejected, missing, summary = bool(self._gates) and self._gates[0].rejected, 0, problem
        if self._gates:
            totals = self.planned["totals"]
            missing = totals["new"] + totals["changed"]
            summary = f"{problem}; nothing was copied of {totals_summary(totals)}"
        return Account(
            summary,
            report_document(report, metadata),
            report_markdown(report, metadata),
            summary,
            planned=rejected,
            missing=missing,
        )

    def _dry_run(self) -> Account:
        rows = self.ti.xcom_pull(task_ids=self.tasks.plan, key=DRY_RUN_KEY) or []
        plan = Plan(tuple(ImagePair.load(row) for row in rows))
        kept = self.ti.xcom_pull(task_ids=self.tasks.plan, key=ESTIMATE_KEY)
        estimate = Estimate.load(kept) if kept else None
        summary = f"dry run, nothing was copied; {plan_summary(plan)}"
        return Account(
            summary,
            plan_document(plan, self.metadata, estimate=estimate),
            plan_markdown(plan, self.metadata, estimate=estimate),
            summary,
            failed=tuple((one.source, one.destination, one.error) for one in plan.images if one.error is not None),
            dry_run=True,
            missing=plan.totals["new"] + plan.totals["changed"],
        )

    def _run(self) -> Account:
        units: list[Mapping[str, Any]] = self.ti.xcom_pull(task_ids=self.tasks.plan) or []
        left: list[Mapping[str, Any]] = []
        if self._gates and self._gates[-1].rejected:
            left = [unit for unit in units if not unit["pilot"]]
            units = [unit for unit in units if unit["pilot"]]
        began, ended = (datetime.fromisoformat(self.metadata[key]) for key in ("started", "written"))
        results = [
            result
            for task_id in (self.tasks.pilot, self.tasks.sync)
            if task_id is not None
            for result in _as_list(self.ti.xcom_pull(task_ids=task_id, key=RESULT_KEY))
        ]
        pilots = sum(1 for unit in units if unit["pilot"])
        report = join_results(
            units,
            self.ti.xcom_pull(task_ids=self.tasks.plan, key=UNCHANGED_KEY) or [],
            results,
            lost=lambda number: self._why_lost(number, pilots),
            seconds=(ended - began).total_seconds(),
        )
        if self.has_reports:
            report = with_failing(report, before_run(self.latest, self.metadata["run_id"]))
        metadata, summary, missing = dict(self.metadata), report_summary(report), 0
        if left:
            missing = sum(Unit.load(unit).size for unit in left)
            metadata["left"] = f"{count_of(missing, 'image')}: {self._gates[-1].problem}"
            summary = f"{summary}; {count_of(missing, 'image')} left: {self._gates[-1].problem}"
        verification, unverified = self._verification()
        if verification:
            metadata["verified"] = verification["summary"]
            summary = f"{summary}; {verification['summary']}"
        document = report_document(report, metadata)
        if verification:
            document["verification"] = verification
        return Account(
            summary,
            document,
            report_markdown(report, metadata),
            report_text(report),
            images=report.images,
            failed=tuple((one.source, one.destination, one.error) for one in report.failed),
            missing=missing,
            unverified=unverified,
        )

    def _verification(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return what a comparison of both sides found, if there was one, and what is wrong with it."""
        task_id = self.tasks.verify
        if task_id is None:
            return None, None
        found: dict[str, Any] | None = self.ti.xcom_pull(task_ids=task_id, key=VERIFICATION_KEY)
        if found is not None and found["images"]:
            shown = found["images"][:_SHOWN_FAILURES]
            lines = [f"{one['source']} -> {one['destination']}: {one['error']}" for one in shown]
            more = len(found["images"]) + found["more"] - len(shown)
            return found, "\n".join([*lines, *([f"and {more} more"] if more else [])])
        if state_of(self.ti, task_id) == "failed":
            return found, f"the task {task_id} failed: see its log, and clear it to verify again"
        return found, None

    def _why_lost(self, number: int, pilots: int) -> str:
        """Return why the task of a unit left no result; the first `pilots` units are the pilot's."""
        is_pilot = number < pilots and self.tasks.pilot is not None
        gate = self._gates[0 if is_pilot else -1] if self._gates else _Gate()
        if gate.problem:
            return f"not begun, since {gate.problem}"
        task = f"{self.tasks.pilot}[{number}]" if is_pilot else f"{self.tasks.sync}[{number - pilots}]"
        return f"the task {task} left no result: it was stopped or never ran; see its log, and clear it to try again"


def state_of(ti: Any, task_id: str) -> str | None:
    """
    Return the state of another task of the run.

    :param ti: the task instance that runs
    :param task_id: the other task
    """
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    state = states.get(ti.run_id, {}).get(task_id)
    return None if state is None else str(state)


def _as_list(pulled: Any) -> list[Mapping[str, Any]]:
    """Return what was pulled from a mapped task as a list: Airflow gives one value alone as itself."""
    values = pulled if isinstance(pulled, (list, tuple)) else [pulled]
    return [value for value in values if value is not None]
