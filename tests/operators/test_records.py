"""Where the operators find their records, and what they do with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from sqlalchemy import URL

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.engine.records import ImageRecord
from airflow_imagesync.engine.records_connection import as_url
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import PLAN_KEY, ImageSyncPlanOperator
from airflow_imagesync.operators.records import configured_records, open_records_of_run
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.postgres import USER, PostgresServer
from tests.support.records import query
from tests.support.task import Run

Connections = Callable[..., None]
ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")


@pytest.fixture
def file() -> Path:
    """Where this test's configuration of Airflow has the records."""
    return Path(os.environ["AIRFLOW__IMAGESYNC__RECORDS"])


@pytest.fixture
def config(
    write_config: Callable[..., Path],
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> str:
    """A configuration with one image to copy."""
    images.push(source_registry.url, f"{repository_prefix}/app", ONE, ["v1"])
    source, destination = (f"{one.host}/{repository_prefix}/app" for one in (source_registry, destination_registry))
    return str(write_config({"source": f"{source}:v1", "destination": destination}))


def test_records_are_a_file_in_airflows_home_unless_it_is_configured(
    monkeypatch: pytest.MonkeyPatch, airflow_home: Path
) -> None:
    monkeypatch.delenv("AIRFLOW__IMAGESYNC__RECORDS")
    assert configured_records() == f"{airflow_home}/imagesync.db"
    monkeypatch.setenv("AIRFLOW__IMAGESYNC__RECORDS", "sqlite:////elsewhere.db")
    assert configured_records() == "sqlite:////elsewhere.db"
    monkeypatch.setenv("AIRFLOW__IMAGESYNC__RECORDS", " ")
    assert configured_records() is None
    assert not open_records_of_run(None, {}).lasting


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {
                "conn_type": "postgres",
                "host": "db.example.com",
                "port": 5433,
                "login": "me",
                "password": "p@ss/w:rd",
                "schema": "airflow",
                "extra": {"sslmode": "require", "cursor": "dictcursor", "sslrootcert": ""},
            },
            "postgresql://me:p%40ss%2Fw%3Ard@db.example.com:5433/airflow?sslmode=require",
        ),
        (
            {"conn_type": "mysql", "host": "db", "login": "me", "schema": "a", "extra": {"charset": "utf8"}},
            "mysql://me@db/a",
        ),
        ({"conn_type": "sqlite", "host": "/var/lib/records.db"}, "sqlite:////var/lib/records.db"),
        ({"conn_type": "sqlite", "schema": "/var/lib/records.db"}, "sqlite:////var/lib/records.db"),
    ],
    ids=["postgres", "mysql", "sqlite", "sqlite-uri"],
)
def test_a_connection_is_the_database(values: dict[str, Any], expected: str, connections: Connections) -> None:
    connections(records=values)
    url = configured_records("records")
    assert isinstance(url, URL)
    assert url.render_as_string(hide_password=False) == expected
    assert as_url(url).get_backend_name() == url.get_backend_name()


def test_the_configuration_may_name_the_connection_and_an_argument_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, connections: Connections
) -> None:
    connections(one={"conn_type": "sqlite", "host": "/one.db"}, two={"conn_type": "sqlite", "host": "/two.db"})
    monkeypatch.setenv("AIRFLOW__IMAGESYNC__RECORDS_CONN_ID", "one")
    assert str(configured_records()) == "sqlite:////one.db"
    assert str(configured_records("two")) == "sqlite:////two.db"


def test_a_connection_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="there is no connection 'records', which the records should be in"):
        configured_records("records")


def test_a_sync_notes_what_it_did_by_the_name_of_its_run(config: str, file: Path) -> None:
    run = Run()
    run.execute(ImageSyncOperator(task_id="sync", config=config))
    assert query(str(file), "SELECT version FROM imagesync_schema") == [(1,)]
    with open_records_of_run(
        str(file), {"ti": type("TI", (), {"dag_id": run.dag_id, "run_id": run.run_id})}
    ) as records:
        records.note_images([ImageRecord("a.io/b:v1", "c.io/d:v1", "", "same")])
    assert (f"{run.dag_id}/{run.run_id}",) in query(str(file), "SELECT run FROM imagesync_images")


def test_records_may_be_in_a_database_that_a_connection_names(
    config: str, file: Path, postgres: PostgresServer, connections: Connections
) -> None:
    database = postgres.new_database()
    connections(
        records={
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": postgres.port,
            "login": USER,
            "password": postgres.password,
            "schema": database,
        }
    )
    for operator in (ImageSyncPlanOperator, ImageSyncOperator):
        Run().execute(operator(task_id="task", config=config, records_conn_id="records"))
    assert query(postgres.url(database), "SELECT version FROM imagesync_schema") == [(1,)]
    assert not file.exists()


@pytest.mark.parametrize("operator", [ImageSyncPlanOperator, ImageSyncOperator], ids=["plan", "sync"])
def test_a_missing_connection_fails_the_task_for_good(
    operator: type[ImageSyncPlanOperator | ImageSyncOperator], config: str
) -> None:
    run = Run()
    with pytest.raises(AirflowFailException, match="there is no connection 'records'"):
        run.execute(operator(task_id="task", config=config, records_conn_id="records"))
    if operator is ImageSyncPlanOperator:
        assert "there is no connection 'records'" in run.xcom("task", PLAN_KEY)["error"]


def test_a_database_that_cannot_be_reached_stops_nothing(
    config: str,
    connections: Connections,
    caplog: pytest.LogCaptureFixture,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    connections(
        records={"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "me", "password": "s3cr3t-word"}
    )
    totals = Run().execute(ImageSyncOperator(task_id="sync", config=config, records_conn_id="records"))
    assert totals["copied"] == 1
    assert "s3cr3t" not in caplog.text
    (warning,) = [one.getMessage() for one in caplog.records if "Records in" in one.getMessage()]
    assert "the run goes on without" in warning


def test_a_dag_hands_its_connection_to_the_tasks_that_use_it(config: str) -> None:
    dag = image_sync_dag(config, dag_id="a_dag", records_conn_id="records")
    assert dag.get_task("plan").records_conn_id == "records"
    assert dag.get_task("sync").partial_kwargs["records_conn_id"] == "records"
    assert "records" not in json.dumps(ImageSyncOperator.template_fields)
