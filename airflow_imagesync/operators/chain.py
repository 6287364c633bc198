"""The tasks of a sync, in their order, with the gates and checks that are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from airflow.sdk import AssetAlias, TriggerRule, XComArg

from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT
from airflow_imagesync.operators.approval import ImageSyncApprovalOperator
from airflow_imagesync.operators.arguments import plain_path
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from airflow_imagesync.operators.report import ImageSyncOutcomeOperator, ImageSyncReportOperator
from airflow_imagesync.operators.verify import ImageSyncVerifyOperator

#: What the tasks have unless default_args or the task's own arguments say otherwise. A timeout ends what nobody watches
#: at night.
PLAN_DEFAULTS: Mapping[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "execution_timeout": timedelta(hours=1),
}
SYNC_DEFAULTS: Mapping[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(minutes=2),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=30),
    "execution_timeout": timedelta(hours=6),
}
REPORT_DEFAULTS: Mapping[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "execution_timeout": timedelta(minutes=15),
}
#: Who is to approve may be asleep, but a run that waits keeps others from starting.
APPROVAL_DEFAULTS: Mapping[str, Any] = {"response_timeout": timedelta(days=1)}


@dataclass(frozen=True)
class ChainOptions:
    """What there is besides planning, copying and reporting; each is explained at `image_sync_dag`."""

    dry_run: bool | str = False
    approval: bool | str = False
    pilot: int | str | None = None
    estimate: bool | str | None = None
    verify: bool | str = False
    image_map: bool = False
    asset_alias: str | None = None
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT
    report_path: str | PurePath | None = None
    plan_args: Mapping[str, Any] = field(default_factory=dict)
    sync_args: Mapping[str, Any] = field(default_factory=dict)
    approval_args: Mapping[str, Any] = field(default_factory=dict)
    outcome_args: Mapping[str, Any] = field(default_factory=dict)


def sync_chain(what: Mapping[str, Any], options: ChainOptions, default_args: Mapping[str, Any]) -> XComArg:
    """
    Make the tasks, in the DAG or the group that is being built, and return the image map that the last one pushes.

    :param what: the arguments of ConfiguredOperator, which say what to sync
    :param options: what else there is to be
    :param default_args: those of the DAG or the group
    """

    def settings(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        return {**{key: value for key, value in own.items() if key not in default_args}, **given}

    report_path = plain_path(options.report_path)
    plan = ImageSyncPlanOperator(
        task_id="plan",
        images_per_unit=options.images_per_unit,
        plan_only=options.dry_run,
        pilot=options.pilot,
        estimate=options.approval if options.estimate is None else options.estimate,
        report_path=report_path,
        **what,
        **settings(PLAN_DEFAULTS, options.plan_args),
    )

    def copy(task_id: str, units: XComArg) -> Any:
        return ImageSyncOperator.partial(
            task_id=task_id,
            map_index_template="{{ task.label }}",
            **what,
            **settings(SYNC_DEFAULTS, options.sync_args),
        ).expand(unit=units)

    def approve(task_id: str, **arguments: Any) -> ImageSyncApprovalOperator:
        # It is only for the work before the question, and would be taken for the time to answer it.
        given = {"retries": 0, "execution_timeout": None, **APPROVAL_DEFAULTS, **options.approval_args}
        return ImageSyncApprovalOperator(
            task_id=task_id, plan_task_id=plan.task_id, approval=options.approval, **arguments, **given
        )

    joined: dict[str, Any] = {
        "plan_task_id": plan.task_id,
        "outlets": [AssetAlias(options.asset_alias)] if options.asset_alias else [],
        "image_map": options.image_map,
        "report_path": report_path,
    }
    pilot = None
    if options.approval is False and options.pilot is None:
        sync = copy("sync", plan.output)
    elif options.pilot is None:
        gate = approve("approve")
        sync = copy("sync", gate.output)
        plan >> gate
        joined["approval_task_ids"] = [gate.task_id]
    else:
        gate = approve("approve", units="pilot")
        pilot = copy("pilot", gate.output)
        # Whether the pilot had anything to do or not, but not when it failed.
        rest = approve("approve_rest", units="rest", pilot_task_id=gate.task_id, trigger_rule=TriggerRule.NONE_FAILED)
        sync = copy("sync", rest.output)
        plan >> gate
        pilot >> rest
        joined |= {"approval_task_ids": [gate.task_id, rest.task_id], "pilot_task_id": pilot.task_id}
    joined["sync_task_id"] = sync.task_id
    last = sync
    if options.verify is not False:
        last = ImageSyncVerifyOperator(
            task_id="verify",
            verify=options.verify,
            plan_task_id=plan.task_id,
            approval_task_ids=joined.get("approval_task_ids", ()),
            trigger_rule=TriggerRule.NONE_FAILED,
            **what,
            **settings(PLAN_DEFAULTS, {}),
        )
        joined["verify_task_id"] = last.task_id
        sync >> last
    report = ImageSyncReportOperator(
        task_id="report",
        trigger_rule=TriggerRule.ALL_DONE,
        **joined,
        **settings(REPORT_DEFAULTS, {}),
    )
    outcome = ImageSyncOutcomeOperator(
        task_id="outcome",
        report_task_id=report.task_id,
        trigger_rule=TriggerRule.ALL_DONE,
        **joined,
        **settings(REPORT_DEFAULTS, {"retries": 0, **options.outcome_args}),
    )
    last >> report >> outcome
    # Who clears only what failed does not clear the report, and the outcome must wait all the same.
    for one in (pilot, sync, last):
        if one is not None:
            one >> outcome
    return XComArg(outcome, key="image_map")
