"""From a configuration to a DAG or a task group: plan, mapped copying, report, outcome.

Building one reads the configuration's syntax and nothing else: no network, no environment, no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from airflow.sdk import DAG, TaskGroup, XComArg, get_parsing_context

from airflow_imagesync.config import check_syntax
from airflow_imagesync.domain.unit import DEFAULT_IMAGES_PER_UNIT
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.arguments import plain_path
from airflow_imagesync.operators.chain import ChainOptions, sync_chain

#: What says what to sync where no file does.
Rules = str | Mapping[str, Any] | Sequence[Any] | XComArg


class ImageSyncGroup(TaskGroup):
    """The tasks of a sync as a group; ``image_map`` is the map source -> destination@digest for a task after it."""

    image_map: XComArg


def image_sync_dag(
    config: str | PurePath | None = None,
    *,
    dag_id: str | None = None,
    auth: str | PurePath | None = None,
    images: str | PurePath | None = None,
    rules: Rules | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    approval: bool | str = False,
    pilot: int | str | None = None,
    estimate: bool | str | None = None,
    verify: bool | str = False,
    image_map: bool = False,
    concurrency: int | str | None = None,
    allowed_hosts: str | list[str] | None = None,
    records_conn_id: str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | PurePath | None = None,
    asset_alias: str | None = None,
    plan_args: Mapping[str, Any] | None = None,
    sync_args: Mapping[str, Any] | None = None,
    approval_args: Mapping[str, Any] | None = None,
    outcome_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """
    Return a DAG that syncs what a configuration says: the tasks plan, sync (mapped), report and outcome.

    One run at a time, no catching up, unless `dag_args` say otherwise.

    :param config: path of a configuration file
    :param dag_id: the DAG's id; by default ``imagesync_`` and the file's name
    :param auth: path of image-syncer's auth file, with `images`
    :param images: path of image-syncer's images file
    :param rules: rules instead of files: as text, usually a template that takes a parameter of the run; as a list or
        mapping; or what an upstream task returns, in any of these forms
    :param source_conn_id: connection for the source repositories in its registry
    :param destination_conn_id: connection for the destination repositories in its registry
    :param platforms: ``os/arch[/variant]`` to copy, instead of what the configuration says
    :param force: copy what is the same, too
    :param dry_run: plan only
    :param approval: wait, after the plan, until a person has approved it under Required Actions; a template decides in
        each run
    :param pilot: what is copied first, so that the rest only goes when all of that succeeded, and was approved where
        `approval` says so: a number of images, or patterns of sources or destinations; a template decides in each run
    :param estimate: have the plan tell how many bytes are to be sent and how long that takes, which costs a GET for
        each manifest to copy; by default where `approval` asks somebody
    :param verify: compare both sides by digest after copying, and fail where anything differs
    :param image_map: push the map source -> destination@digest as the XCom ``image_map`` of ``outcome``, and write it
        as files beside the report: JSON, kustomize, Helm, containerd, OpenShift
    :param concurrency: transfers at once in each task, instead of what the configuration says
    :param allowed_hosts: the registries that rules may name, ``host[:port]`` or ``*.example.com``; None for any. Set it
        where rules come from whoever starts a run
    :param records_conn_id: connection to the database that keeps what syncs learned, instead of what Airflow's
        configuration says; for workers on several machines
    :param images_per_unit: how many images one mapped task copies at most
    :param report_path: folder for the reports, a path or an object storage URL
    :param asset_alias: name of the asset alias to which the report adds the destination repositories that changed; by
        default ``imagesync_`` and the DAG's id
    :param plan_args: further arguments of the plan task, such as ``pool`` or ``retries``
    :param sync_args: further arguments of the mapped task, such as ``pool``, ``queue``, ``executor``,
        ``max_active_tis_per_dagrun`` or ``max_wait``
    :param approval_args: further arguments of the approval tasks, such as ``response_timeout`` (one day),
        ``assigned_users`` or ``notifiers``
    :param outcome_args: further arguments of the last task, such as ``on_failure_callback``
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
    options = ChainOptions(
        dry_run=dry_run,
        approval=approval,
        pilot=pilot,
        estimate=estimate,
        verify=verify,
        image_map=image_map,
        asset_alias=asset_alias,
        images_per_unit=images_per_unit,
        report_path=report_path,
        plan_args=plan_args or {},
        sync_args=sync_args or {},
        approval_args=approval_args or {},
        outcome_args=outcome_args or {},
    )
    dag = DAG(
        dag_id or _dag_id(what["config"] or what["images"]),
        schedule=dag_args.pop("schedule", None),
        **{"max_active_runs": 1, "catchup": False, "tags": ["imagesync"], **dag_args},
    )
    with dag:
        sync_chain(what, options, dag.default_args)
    return dag


def image_sync_group(
    config: str | PurePath | None = None,
    *,
    group_id: str = "image_sync",
    auth: str | PurePath | None = None,
    images: str | PurePath | None = None,
    rules: Rules | None = None,
    source_conn_id: str | None = None,
    destination_conn_id: str | None = None,
    platforms: str | list[str] | None = None,
    force: bool | str = False,
    dry_run: bool | str = False,
    approval: bool | str = False,
    pilot: int | str | None = None,
    estimate: bool | str | None = None,
    verify: bool | str = False,
    image_map: bool = True,
    concurrency: int | str | None = None,
    allowed_hosts: str | list[str] | None = None,
    records_conn_id: str | None = None,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    report_path: str | PurePath | None = None,
    asset_alias: str | None = None,
    plan_args: Mapping[str, Any] | None = None,
    sync_args: Mapping[str, Any] | None = None,
    approval_args: Mapping[str, Any] | None = None,
    outcome_args: Mapping[str, Any] | None = None,
) -> ImageSyncGroup:
    """
    Return the same tasks as a group for a DAG of your own; what is set downstream of it runs when all images are there.

    Its attribute ``image_map`` is the map source -> destination@digest, for an argument of a task after it.

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
    options = ChainOptions(
        dry_run=dry_run,
        approval=approval,
        pilot=pilot,
        estimate=estimate,
        verify=verify,
        image_map=image_map,
        asset_alias=asset_alias,
        images_per_unit=images_per_unit,
        report_path=report_path,
        plan_args=plan_args or {},
        sync_args=sync_args or {},
        approval_args=approval_args or {},
        outcome_args=outcome_args or {},
    )
    group = ImageSyncGroup(group_id=group_id)
    with group:
        group.image_map = sync_chain(what, options, {**group.dag.default_args, **group.default_args})
    return group


def _what(**arguments: Any) -> dict[str, Any]:
    """Return what the plan and the mapped task both take; raise ConfigError for mistakes that show without running."""
    files = {key: plain_path(arguments[key]) for key in ("config", "auth", "images")}
    given = [one for one in files.values() if one is not None]
    if arguments["rules"] is not None:
        if given:
            raise ConfigError("give a configuration file or rules as text, not both")
    elif not any(_is_rendered(one) for one in given) and get_parsing_context().task_id is None:
        # Not where a task is about to run: it reads the files itself, and its failure tells more than Airflow's, which
        # for a DAG file that can't be read is to try again for minutes.
        check_syntax(**files)
    return {**arguments, **files}


def _dag_id(path: object) -> str:
    stem = Path(path).stem if isinstance(path, str) and not _is_rendered(path) else "imagesync"
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem)
    return stem if stem.startswith("imagesync") else f"imagesync_{stem}"


def _is_rendered(path: object) -> bool:
    """Whether a path is known only in a run: a template, or what another task returns."""
    return not isinstance(path, str) or "{{" in path or "{%" in path
