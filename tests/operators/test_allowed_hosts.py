from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.front import Front
from tests.support.task import Run


@pytest.fixture
def forbidden() -> Iterator[Front]:
    """A registry that is not allowed."""
    with Front() as front:
        yield front


def rules(*pairs: tuple[str, str], **registries: Any) -> str:
    return json.dumps(
        {
            "registries": registries,
            "rules": [{"source": source, "destination": destination} for source, destination in pairs],
        }
    )


@pytest.mark.parametrize("operator", [ImageSyncPlanOperator, ImageSyncOperator])
def test_a_registry_that_is_not_allowed_is_never_asked(
    operator: Any, forbidden: Front, source_registry: DistributionRegistry, connections: Callable[..., None]
) -> None:
    before = len(source_registry.requests_log())
    allowed, other = source_registry.host, forbidden.host
    connections(other={"host": other, "extra": {"insecure": True}})
    text = rules(
        (f"{allowed}/a", f"{allowed}/b"),
        (f"{other}/a", f"{allowed}/c"),
        (f"{allowed}/a", f"{other}/b"),
        **{allowed: {"insecure": True}, other: {"conn_id": "other"}},
    )
    task = operator(task_id="sync", rules="{{ params.rules }}", source_conn_id="other", allowed_hosts=[allowed])
    with pytest.raises(AirflowFailException) as caught:
        Run().execute(task, params={"rules": text})
    assert f"rule 1, source: {other}/a: the registry {other} is none that this task may use" in str(caught.value)
    assert f"rule 2, destination: {other}/b: the registry {other} is none that" in str(caught.value)
    assert forbidden.requests == []
    assert len(source_registry.requests_log()) == before


def test_a_unit_that_names_another_registry_is_not_done(
    forbidden: Front, source_registry: DistributionRegistry
) -> None:
    allowed = source_registry.host
    unit = {
        "label": "x",
        "rules": [{"rule": 0, "source": f"{allowed}/a"}],
        "images": [[0, 0, f"{allowed}/a:v1", f"{forbidden.host}/b:v1"]],
        "whole": [],
    }
    task = ImageSyncOperator(
        task_id="sync", rules=rules((f"{allowed}/a", f"{allowed}/b")), unit=unit, allowed_hosts=allowed
    )
    with pytest.raises(AirflowFailException, match=f"the registry {forbidden.host} is none that this task may use"):
        Run().execute(task)
    assert forbidden.requests == []


def test_what_is_allowed_is_copied(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: Callable[..., Path],
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, f"{repository_prefix}/a", images.image(), ["v1"])
    config = write_config(
        {
            "source": f"{source_registry.host}/{repository_prefix}/a:v1",
            "destination": f"{destination_registry.host}/{repository_prefix}/b",
        }
    )
    task = ImageSyncOperator(
        task_id="sync", config=config, allowed_hosts=f"{source_registry.host},{destination_registry.host}"
    )
    assert Run().execute(task)["copied"] == 1


def test_whoever_starts_a_run_can_not_change_what_is_allowed(forbidden: Front) -> None:
    assert "allowed_hosts" not in ImageSyncOperator.template_fields
    assert "allowed_hosts" not in ImageSyncPlanOperator.template_fields
    with pytest.raises(ConfigError, match=r"found '\{\{'"):
        ImageSyncPlanOperator(task_id="plan", rules="x", allowed_hosts="{{ params.allowed }}")


@pytest.mark.parametrize("hosts", [["https://quay.io"], [], "", "*"])
def test_a_mistake_shows_when_the_dag_is_parsed(hosts: Any) -> None:
    with pytest.raises(ConfigError, match="allowed_hosts: found"):
        image_sync_dag(rules="{{ params.rules }}", dag_id="by_form", allowed_hosts=hosts)


def test_a_dag_hands_it_to_both_tasks_and_survives_being_stored() -> None:
    dag = image_sync_dag(rules="{{ params.rules }}", dag_id="by_form", allowed_hosts=["quay.io", "*.example.com"])
    assert dag.get_task("plan").allowed_hosts == ["quay.io", "*.example.com"]
    assert dag.get_task("sync").partial_kwargs["allowed_hosts"] == ["quay.io", "*.example.com"]
    DagSerialization.from_dict(DagSerialization.to_dict(dag))
