from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, TriggerRule, get_parsing_context, task
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_imagesync.dag_factory import image_sync_dag, image_sync_group
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.chain import PLAN_DEFAULTS, SYNC_DEFAULTS
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that needs an environment, a connection and two registries, none of which are there."""
    path = tmp_path / "nightly.yaml"
    path.write_text(
        """
registries:
  registry.invalid: {conn_id: not_defined}
  other.invalid: {username: "${NOT_SET}", password: hunter22-in-the-file}
rules:
  - {source: "registry.invalid/${NOT_SET}/app", destination: other.invalid/app}
"""
    )
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing a DAG asks nobody."""
    import socket

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_dag_has_four_tasks_one_after_the_other(config: Path) -> None:
    dag = image_sync_dag(config)
    assert dag.dag_id == "imagesync_nightly"
    assert {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks} == {
        "plan": ["sync"],
        "sync": ["outcome", "report"],
        "report": ["outcome"],
        "outcome": [],
    }
    assert isinstance(dag.get_task("plan"), ImageSyncPlanOperator)
    sync = dag.get_task("sync")
    assert isinstance(sync, MappedOperator)
    assert sync.operator_class is ImageSyncOperator
    assert sync.map_index_template == "{{ task.label }}"


def chain(dag: DAG) -> dict[str, list[str]]:
    return {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks}


@pytest.mark.parametrize("approval", [True, "{{ params.approval }}"])
def test_an_approval_stands_between_the_plan_and_copying(approval: bool | str, config: Path) -> None:
    dag = image_sync_dag(config, approval=approval, approval_args={"response_timeout": timedelta(hours=2)})
    assert chain(dag) == {
        "plan": ["approve"],
        "approve": ["sync"],
        "sync": ["outcome", "report"],
        "report": ["outcome"],
        "outcome": [],
    }
    gate = dag.get_task("approve")
    assert (gate.response_timeout, gate.execution_timeout, gate.retries) == (timedelta(hours=2), None, 0)
    # Somebody is to decide on it.
    assert dag.get_task("plan").estimate == approval
    assert image_sync_dag(config, approval=True, dag_id="b").get_task("approve").response_timeout == timedelta(days=1)


def test_a_pilot_is_copied_before_the_rest(config: Path) -> None:
    dag = image_sync_dag(config, pilot="{{ params.pilot }}", verify=True)
    assert chain(dag) == {
        "plan": ["approve"],
        "approve": ["pilot"],
        "pilot": ["approve_rest", "outcome"],
        "approve_rest": ["sync"],
        "sync": ["outcome", "verify"],
        "verify": ["outcome", "report"],
        "report": ["outcome"],
        "outcome": [],
    }
    for name in ("report", "outcome"):
        task = dag.get_task(name)
        assert (task.pilot_task_id, task.sync_task_id, task.verify_task_id) == ("pilot", "sync", "verify")
        assert task.approval_task_ids == ["approve", "approve_rest"]
    # A pilot with nothing to do lets the rest go, one that failed does not.
    assert dag.get_task("approve_rest").trigger_rule == TriggerRule.NONE_FAILED
    assert dag.get_task("pilot").partial_kwargs["retries"] == dag.get_task("sync").partial_kwargs["retries"]
    DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_rules_may_come_from_a_task_and_the_image_map_goes_to_one() -> None:
    with DAG("chained", schedule=None) as dag:

        @task
        def inventory() -> list[str]: ...

        @task
        def rewrite(image_map: dict[str, str]) -> None: ...

        images = image_sync_group(rules=inventory(), group_id="images")
        rewrite(images.image_map)
    assert dag.get_task("inventory").downstream_task_ids == {"images.plan", "images.sync"}
    assert dag.get_task("rewrite").upstream_task_ids == {"images.outcome"}
    assert dag.get_task("images.outcome").image_map
    DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_events_go_by_the_alias_of_the_dag_or_one_of_ones_own(config: Path) -> None:
    def outlets(dag: DAG) -> set[str]:
        return {outlet.name for name in ("report", "outcome") for outlet in dag.get_task(name).outlets}

    assert outlets(image_sync_dag(config)) == {"imagesync_nightly"}
    assert outlets(image_sync_dag(config, dag_id="b", asset_alias="mirrored")) == {"mirrored"}
    # Whoever copies a part does not tell of it: Airflow drops what a failing task tells.
    assert image_sync_dag(config, dag_id="c").get_task("sync").partial_kwargs.get("outlets", []) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagesync.yaml", "imagesync"),
        ("nightly sync (eu).json", "imagesync_nightly_sync_eu_"),
        ("ä.yaml", "imagesync__"),
    ],
)
def test_a_dag_is_called_after_its_file(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"images": {"a.io/b": "c.io/d"}}')
    assert image_sync_dag(tmp_path / name).dag_id == expected


def test_runs_one_at_a_time_and_catches_nothing_up(config: Path) -> None:
    dag = image_sync_dag(config, schedule="0 2 * * *", start_date=datetime(2026, 1, 1))
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert image_sync_dag(config, max_active_runs=2, dag_id="two").max_active_runs == 2


def test_every_task_ends_in_time_and_the_last_two_run_whatever_happened(config: Path) -> None:
    dag = image_sync_dag(config)
    for one in dag.tasks:
        assert timedelta(0) < one.execution_timeout <= timedelta(hours=6), one.task_id
    assert {dag.get_task(name).trigger_rule for name in ("report", "outcome")} == {TriggerRule.ALL_DONE}
    assert (dag.get_task("sync").retries, dag.get_task("outcome").retries) == (3, 0)


def test_arguments_win_over_default_args_and_those_over_what_the_factory_sets(config: Path) -> None:
    dag = image_sync_dag(
        config,
        default_args={"retries": 7, "owner": "platform"},
        plan_args={"retries": 1, "pool": "registry"},
        sync_args={"max_active_tis_per_dagrun": 4, "queue": "big"},
    )
    plan, sync = dag.get_task("plan"), dag.get_task("sync")
    assert (plan.retries, plan.pool, plan.retry_delay) == (1, "registry", PLAN_DEFAULTS["retry_delay"])
    assert (sync.retries, sync.queue, sync.max_active_tis_per_dagrun) == (7, "big", 4)
    assert sync.execution_timeout == SYNC_DEFAULTS["execution_timeout"]
    assert {one.owner for one in dag.tasks} == {"platform"}


def test_a_group_fits_between_the_tasks_of_a_larger_dag(config: Path) -> None:
    with DAG("larger", schedule=None, default_args={"retries": 5}) as dag:

        @task
        def before() -> None: ...

        @task
        def after() -> None: ...

        with TaskGroup("outer", default_args={"retries": 6}):
            group = image_sync_group(config, group_id="images", sync_args={"retries": 0})
        before() >> group >> after()
    assert dag.get_task("before").downstream_task_ids == {"outer.images.plan"}
    assert dag.get_task("after").upstream_task_ids == {"outer.images.outcome"}
    assert [dag.get_task(f"outer.images.{name}").retries for name in ("plan", "sync", "report")] == [6, 0, 6]
    assert dag.get_task("outer.images.report").sync_task_id == "outer.images.sync"
    assert dag.get_task("outer.images.report").plan_task_id == "outer.images.plan"
    assert dag.get_task("outer.images.outcome").report_task_id == "outer.images.report"


def test_the_plan_and_the_mapped_task_take_the_same_configuration(config: Path) -> None:
    dag = image_sync_dag(config, platforms=["linux/amd64"], force="{{ params.force }}", concurrency=3)
    plan = dag.get_task("plan")
    mapped = dag.get_task("sync").partial_kwargs
    for name in ("config", "platforms", "force", "concurrency"):
        assert mapped[name] == getattr(plan, name)
    assert plan.config == str(config)


def test_what_airflow_stores_of_a_dag_holds_nothing_of_its_configuration(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_SET", "planted-secret")
    stored = DagSerialization.to_dict(image_sync_dag(config, report_path=config.parent))
    text = json.dumps(stored)
    assert "planted-secret" not in text
    assert "hunter22" not in text
    assert str(config) in text
    again = DagSerialization.from_dict(stored)
    assert again.get_task("sync").is_mapped


def test_rules_may_change_without_a_new_version_of_the_dag(config: Path) -> None:
    before = DagSerialization.to_dict(image_sync_dag(config))
    config.write_text(config.read_text().replace("other.invalid/app", "other.invalid/renamed"))
    assert DagSerialization.to_dict(image_sync_dag(config)) == before


@pytest.mark.parametrize("build", [image_sync_dag, image_sync_group])
def test_mistakes_in_the_syntax_are_told_with_their_places(build: Any, config: Path) -> None:
    config.write_text("rules:\n  - {source: a.io/b, destnation: c.io/d}\n  - {source: a.io/B, destination: c.io/d}\n")
    with DAG("a_dag", schedule=None), pytest.raises(ConfigError) as caught:
        build(config)
    first, second, third = str(caught.value).splitlines()
    assert first.startswith(f"{config}, rule 0, ")
    assert re.search("destination|destnation", first + second)
    assert third.startswith(f"{config}, rule 1, source: ")


def test_a_configuration_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file"):
        image_sync_dag(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="found no file with rules"):
        image_sync_dag()


def test_where_a_task_is_about_to_run_its_mistakes_are_that_tasks_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow tries for minutes to read a DAG file that can't be read, and tells nobody why."""
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "imagesync_gone")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "plan")  # as Airflow's workers do
    assert get_parsing_context().task_id == "plan"
    assert len(image_sync_dag(tmp_path / "gone.yaml").tasks) == 4


def test_what_is_known_only_in_a_run_is_not_looked_at(config: Path) -> None:
    assert image_sync_dag("{{ params.config }}").dag_id == "imagesync"
    image_sync_dag(rules="{{ params.rules }}", dag_id="by_form")
    with DAG("by_task", schedule=None) as dag:

        @task
        def choose() -> str:
            return str(config)

        image_sync_group(choose())  # type: ignore[arg-type]
    assert "choose" in dag.get_task("image_sync.plan").upstream_task_ids


def test_a_file_and_rules_are_one_too_many(config: Path) -> None:
    with pytest.raises(ConfigError, match="give a configuration file or rules as text, not both"):
        image_sync_dag(config, rules="a.io/b: c.io/d")


def test_image_syncers_pair_of_files_makes_a_dag(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text('{"quay.io": {"username": "${NOT_SET}", "password": "${NOT_SET}"}}')
    (tmp_path / "images.json").write_text('{"quay.io/a/b": "quay.io/c/b" /* a comment */}')
    dag = image_sync_dag(auth=tmp_path / "auth.json", images=tmp_path / "images.json")
    assert dag.dag_id == "imagesync_images"
    assert dag.get_task("plan").auth == str(tmp_path / "auth.json")
