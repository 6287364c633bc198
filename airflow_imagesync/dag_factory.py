"""From a configuration to a DAG or a task group: plan, mapped copying, report, outcome.

Building one reads the configuration's syntax and nothing else: no network, no environment, no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

from airflow.sdk import DAG, TaskGroup, TriggerRule

from airflow_imagesync.config import check_syntax
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.arguments import plain_path
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from airflow_imagesync.operators.report import ImageSyncOutcomeOperator, ImageSyncReportOperator

#: What the tasks have unless default_args, `plan_args` or `sync_args` say otherwise. A timeout ends what nobody watches
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


def image_sync_dag(
    config: str | PurePath | None = None,
    *,
    dag_id: str | None = None,
    auth: str | PurePath | None = None,
    images: str | PurePath | None = None,
    rules: str | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    concurrency: int | str | None = None,
    allowed_hosts: str | list[str] | None = None,
    records_conn_id: str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | PurePath | None = None,
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
    :param allowed_hosts: the registries that rules may name, ``host[:port]`` or ``*.example.com``; None for any. Set it
        where rules come from whoever starts a run
    :param records_conn_id: connection to the database that keeps what syncs learned, instead of what Airflow's
        configuration says; for workers on several machines
    :param images_per_unit: how many images one mapped task copies at most
    :param report_path: folder for the reports, a path or an object storage URL
    :param plan_args: further arguments of the plan task, such as ``pool`` or ``retries``
    :param sync_args: further arguments of the mapped task, such as ``pool``, ``queue``, ``executor``,
        ``max_active_tis_per_dagrun`` or ``max_wait``
    :param dag_args: further arguments of the DAG, such as ``schedule``, ``start_date`` and ``default_args``
    :raises ConfigError: for mistakes in the configuration's syntax; Airflow shows them as the file's import error
    """
    what = _what(
        config=config,
        auth=auth,
        images=images,
        rules=rules,
        source_conn_id=source_conn_id,
        destination_conn_id=destination_conn_id,
        platforms=platforms,
        force=force,
        concurrency=concurrency,
        allowed_hosts=allowed_hosts,
        records_conn_id=records_conn_id,
    )
    dag = DAG(
        dag_id or _dag_id(what["config"] or what["images"]),
        schedule=dag_args.pop("schedule", None),
        **{"max_active_runs": 1, "catchup": False, "tags": ["imagesync"], **dag_args},
    )
    with dag:
        _tasks(what, dag.default_args, dry_run, images_per_unit, report_path, plan_args or {}, sync_args or {})
    return dag


def image_sync_group(
    config: str | PurePath | None = None,
    *,
    group_id: str = "image_sync",
    auth: str | PurePath | None = None,
    images: str | PurePath | None = None,
    rules: str | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    concurrency: int | str | None = None,
    allowed_hosts: str | list[str] | None = None,
    records_conn_id: str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | PurePath | None = None,
    plan_args: Mapping[str, Any] | None = None,
    sync_args: Mapping[str, Any] | None = None,
) -> TaskGroup:
    """
    Return the same tasks as a group for a DAG of your own; what is set downstream of it runs when all images are there.

    :param group_id: the group's id, which the tasks' ids begin with

    The other parameters are those of image_sync_dag.

    :raises ConfigError: for mistakes in the configuration's syntax
    """
    what = _what(
        config=config,
        auth=auth,
        images=images,
        rules=rules,
        source_conn_id=source_conn_id,
        destination_conn_id=destination_conn_id,
        platforms=platforms,
        force=force,
        concurrency=concurrency,
        allowed_hosts=allowed_hosts,
        records_conn_id=records_conn_id,
    )
    with TaskGroup(group_id=group_id) as group:
        defaults = {**group.dag.default_args, **group.default_args}
        _tasks(what, defaults, dry_run, images_per_unit, report_path, plan_args or {}, sync_args or {})
    return group


def _what(**arguments: Any) -> dict[str, Any]:
    """Return what the plan and the mapped task both take; raise ConfigError for mistakes that show without running."""
    files = {key: plain_path(arguments[key]) for key in ("config", "auth", "images")}
    given = [one for one in files.values() if one is not None]
    if arguments["rules"] is not None:
        if given:
            raise ConfigError("give a configuration file or rules as text, not both")
    elif not any(_is_rendered(one) for one in given):
        check_syntax(**files)
    return {**arguments, **files}


def _dag_id(path: object) -> str:
    stem = Path(path).stem if isinstance(path, str) and not _is_rendered(path) else "imagesync"
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem)
    return stem if stem.startswith("imagesync") else f"imagesync_{stem}"


def _is_rendered(path: object) -> bool:
    """Whether a path is known only in a run: a template, or what another task returns."""
    return not isinstance(path, str) or "{{" in path or "{%" in path


def _tasks(
    what: Mapping[str, Any],
    default_args: Mapping[str, Any],
    dry_run: bool | str,
    images_per_unit: int,
    report_path: str | PurePath | None,
    plan_args: Mapping[str, Any],
    sync_args: Mapping[str, Any],
) -> None:
    """Make the four tasks, in the DAG or the group that is being built."""

    def settings(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        return {**{key: value for key, value in own.items() if key not in default_args}, **given}

    plan = ImageSyncPlanOperator(
        task_id="plan",
        images_per_unit=images_per_unit,
        plan_only=dry_run,
        **what,
        **settings(PLAN_DEFAULTS, plan_args),
    )
    sync = ImageSyncOperator.partial(
        task_id="sync", map_index_template="{{ task.label }}", **what, **settings(SYNC_DEFAULTS, sync_args)
    ).expand(unit=plan.output)
    joined: dict[str, Any] = {
        "plan_task_id": plan.task_id,
        "sync_task_id": sync.task_id,
        "report_path": plain_path(report_path),
    }
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
        **settings(REPORT_DEFAULTS, {"retries": 0}),
    )
    plan >> sync >> report >> outcome
    # Who clears only what failed does not clear the report, and the outcome must wait all the same.
    sync >> outcome
