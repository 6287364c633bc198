"""From a configuration to a DAG or a task group: plan, mapped copying, report, outcome.

Building one reads the configuration's syntax and nothing else: no network, no environment, no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, TaskGroup, TriggerRule

from airflow_imagesync.config import check_syntax
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from airflow_imagesync.operators.report import ImageSyncOutcomeOperator, ImageSyncReportOperator

#: What the tasks have unless `plan_args` and `sync_args` say otherwise. A timeout ends what nobody watches at night.
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
_END_TIMEOUT = timedelta(minutes=15)


def image_sync_dag(
    config: str | Path | None = None,
    *,
    dag_id: str | None = None,
    auth: str | Path | None = None,
    images: str | Path | None = None,
    rules: str | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    concurrency: int | str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | None = None,
    plan_args: Mapping[str, Any] | None = None,
    sync_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """
    Return a DAG that syncs what a configuration says: the tasks plan, sync (mapped), report and outcome.

    One run at a time, no catching up, unless `dag_args` say otherwise.

    :param config: path of a configuration file
    :param dag_id: the DAG's id; by default ``imagesync_`` and the file's name
    :param auth: path of image-syncer's auth file, with `images`
    :param images: path of image-syncer's images file
    :param rules: rules as text instead of files; usually a template that takes a parameter of the run
    :param source_conn_id: connection for the source repositories in its registry
    :param destination_conn_id: connection for the destination repositories in its registry
    :param platforms: ``os/arch[/variant]`` to copy, instead of what the configuration says
    :param force: copy what is the same, too
    :param dry_run: plan only
    :param concurrency: transfers at once in each task, instead of what the configuration says
    :param images_per_unit: how many images one mapped task copies at most
    :param report_path: folder for the reports, a path or an object storage URL
    :param plan_args: further arguments of the plan task, such as ``pool`` or ``retries``
    :param sync_args: further arguments of the mapped task, such as ``pool``, ``queue``, ``executor`` or
        ``max_active_tis_per_dagrun``
    :param dag_args: further arguments of the DAG, such as ``schedule``, ``start_date`` and ``default_args``
    :raises ConfigError: for mistakes in the configuration's syntax; Airflow shows them as the file's import error
    """
    _check(config, auth, images, rules)
    stem = Path(config or images or "imagesync").stem
    dag = DAG(
        dag_id or (stem if stem.startswith("imagesync") else f"imagesync_{stem}"),
        **{"max_active_runs": 1, "catchup": False, "schedule": None, "tags": ["imagesync"], **dag_args},
    )
    with dag:
        _tasks(
            {
                "config": config,
                "auth": auth,
                "images": images,
                "rules": rules,
                "source_conn_id": source_conn_id,
                "destination_conn_id": destination_conn_id,
                "platforms": platforms,
                "force": force,
                "concurrency": concurrency,
            },
            dry_run=dry_run,
            images_per_unit=images_per_unit,
            report_path=report_path,
            plan_args=plan_args or {},
            sync_args=sync_args or {},
        )
    return dag


def image_sync_group(
    config: str | Path | None = None,
    *,
    group_id: str = "image_sync",
    auth: str | Path | None = None,
    images: str | Path | None = None,
    rules: str | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    concurrency: int | str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | None = None,
    plan_args: Mapping[str, Any] | None = None,
    sync_args: Mapping[str, Any] | None = None,
) -> TaskGroup:
    """
    Return the same tasks as a group for a DAG of your own; what is set downstream of it runs when all images are there.

    :param group_id: the group's id, which the tasks' ids begin with

    The other parameters are those of image_sync_dag.

    :raises ConfigError: for mistakes in the configuration's syntax
    """
    _check(config, auth, images, rules)
    with TaskGroup(group_id=group_id) as group:
        _tasks(
            {
                "config": config,
                "auth": auth,
                "images": images,
                "rules": rules,
                "source_conn_id": source_conn_id,
                "destination_conn_id": destination_conn_id,
                "platforms": platforms,
                "force": force,
                "concurrency": concurrency,
            },
            dry_run=dry_run,
            images_per_unit=images_per_unit,
            report_path=report_path,
            plan_args=plan_args or {},
            sync_args=sync_args or {},
        )
    return group


def _check(
    config: str | Path | None, auth: str | Path | None, images: str | Path | None, rules: str | None
) -> None:
    if rules is None:
        check_syntax(config, auth=auth, images=images)
    elif config is not None or images is not None:
        raise ConfigError("give a configuration file or rules as text, not both")


def _tasks(
    what: Mapping[str, Any],
    *,
    dry_run: bool | str,
    images_per_unit: int,
    report_path: str | None,
    plan_args: Mapping[str, Any],
    sync_args: Mapping[str, Any],
) -> None:
    """Make the four tasks, in the DAG and the group that are being built."""
    plan = ImageSyncPlanOperator(
        task_id="plan",
        images_per_unit=images_per_unit,
        dry_run=dry_run,
        **what,
        **{**PLAN_DEFAULTS, **plan_args},
    )
    sync = ImageSyncOperator.partial(
        task_id="sync", map_index_template="{{ task.label }}", **what, **{**SYNC_DEFAULTS, **sync_args}
    ).expand(unit=plan.output)
    report = ImageSyncReportOperator(
        task_id="report",
        plan_task_id=plan.task_id,
        sync_task_id=sync.operator.task_id if hasattr(sync, "operator") else sync.task_id,
        report_path=report_path,
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=_END_TIMEOUT,
    )
    outcome = ImageSyncOutcomeOperator(
        task_id="outcome",
        report_task_id=report.task_id,
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=_END_TIMEOUT,
    )
    plan >> sync >> report >> outcome
