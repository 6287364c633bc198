from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup

from airflow_imagesync.dag_factory import image_sync_dag, image_sync_group
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.links import DestinationRegistryLink, SourceRegistryLink, SyncReportLink
from tests.support.task import Run, TaskInstance

RULES = "nginx registry.example.com/nginx"
UNIT: dict[str, Any] = {
    "label": "one",
    "rules": [{"rule": 0, "source": "quay.io/coreos/etcd"}],
    "images": [[0, 0, "quay.io/coreos/etcd:v1", "ghcr.io/owner/etcd:v1"]],
    "whole": [],
}
WHOLE: dict[str, Any] = {
    "label": "one",
    "rules": [
        {
            "rule": 0,
            "source": "quay.io/coreos/etcd",
            "select": {"regex": "^v"},
            "destinations": [["ghcr.io/owner/etcd", None]],
        }
    ],
    "images": [],
    "whole": [0],
}


def pages(operator: Any, *results: dict[str, str]) -> tuple[str, str]:
    """Return where the links lead from a task that left these results."""
    ti = TaskInstance(Run(), operator.task_id, -1)
    if results:
        ti.xcom_push("result", {"images": list(results)})
    return SourceRegistryLink().get_link(operator, ti_key=ti), DestinationRegistryLink().get_link(operator, ti_key=ti)


@pytest.mark.parametrize("unit", [UNIT, WHOLE], ids=["images", "rule"])
def test_a_planned_task_leads_to_the_registries_of_its_unit(unit: dict[str, Any]) -> None:
    assert pages(ImageSyncOperator(task_id="sync", config="a.yaml", unit=unit)) == (
        "https://quay.io/repository/coreos/etcd?tab=tags",
        "https://ghcr.io/owner/etcd",
    )


@pytest.mark.parametrize("tags", ["", ":v1", ":v1,v2", ":/^v/", f"@sha256:{'0' * 64}"])
@pytest.mark.parametrize("destination", ["r.io:5000/a:v1", ["r.io:5000/a", "other.io/b"]])
def test_a_task_of_its_own_leads_to_what_it_was_given(tags: str, destination: Any) -> None:
    operator = ImageSyncOperator(task_id="sync", source=f"nginx{tags}", destination=destination)
    assert pages(operator) == ("https://hub.docker.com/_/nginx/tags", "https://r.io:5000/v2/a/tags/list")


def test_a_task_with_a_file_leads_to_what_it_did() -> None:
    operator = ImageSyncOperator(task_id="sync", config="a.yaml")
    done = {"source": "nginx:/[/", "destination": "r.io/a"}, {"source": "quay.io/b/c:v1", "destination": "r.io/b:v1"}
    assert pages(operator, *done) == ("https://hub.docker.com/_/nginx/tags", "https://r.io/v2/a/tags/list")
    assert pages(operator) == ("", "")


def test_what_is_no_name_leads_nowhere() -> None:
    operator = ImageSyncOperator(task_id="sync", source="me:secret@r.io/a", destination="https://me:secret@r.io/$A/b")
    assert pages(operator) == ("", "")


def report_link(operator: Any) -> str:
    run = Run(operator.dag.dag_id, "manual__1+00:00")
    return SyncReportLink().get_link(operator, ti_key=TaskInstance(run, operator.task_id, -1))


def test_the_report_is_that_of_the_same_group(monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("own", schedule=None) as dag, TaskGroup("all"):
        image_sync_group(rules=RULES, group_id="east")
        image_sync_group(rules=RULES, group_id="west")
    for name in ("plan", "sync", "outcome"):
        task = dag.get_task(f"all.west.{name}")
        assert report_link(task) == "/dags/own/runs/manual__1%2B00%3A00/tasks/all.west.report"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    assert report_link(dag.get_task("all.east.sync")).startswith("https://airflow.example.com/team/dags/own/")


def test_a_pilot_has_the_same_report() -> None:
    dag = image_sync_dag(rules=RULES, dag_id="waves", pilot=1)
    assert report_link(dag.get_task("pilot")) == report_link(dag.get_task("sync")) != ""


def test_a_task_that_nothing_reports_has_no_link_to_a_report() -> None:
    with DAG("own", schedule=None):
        assert report_link(ImageSyncOperator(task_id="sync", source="a.io/b", destination="c.io/d")) == ""


def test_the_links_are_there_for_mapped_tasks_too() -> None:
    names = [one.name for one in image_sync_dag(rules=RULES, dag_id="links").get_task("sync").operator_extra_links]
    assert names == ["Source registry", "Destination registry", "Report"]
