from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.operators.asset_events import alias_of, emit
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")
ALIAS = AssetAlias("imagesync")


def result(name: str, state: ResultState = ResultState.COPIED) -> ImageResult:
    return ImageResult(0, f"src.io/{name}", f"dst.io/{name}", state, digest=ONE.digest, bytes_copied=5)


def events(found: OutletEventAccessors, alias: AssetAlias = ALIAS) -> list[tuple[str, dict[str, Any]]]:
    return [(one.dest_asset_key.uri, one.extra) for one in found[alias].asset_alias_events]


def test_adds_an_event_for_each_repository_that_changed_and_says_what_it_announced() -> None:
    context: Any = {"outlet_events": OutletEventAccessors(), "run_id": "a_run"}
    rows = [result("app:v1"), result("app:v2"), result("web:v1"), result("old:v1", ResultState.SAME)]
    announced = emit(context, ALIAS, rows)
    found = events(context["outlet_events"])
    assert [uri for uri, _ in found] == ["oci://dst.io/app", "oci://dst.io/web"]
    assert found[0][1] == {
        "tags": ["v1", "v2"],
        "digests": {"v1": ONE.digest, "v2": ONE.digest},
        "source": "src.io/app",
        "bytes": 10,
        "run": "a_run",
    }
    assert announced == [[f"dst.io/{name}", ONE.digest] for name in ("app:v1", "app:v2", "web:v1")]

    context = {"outlet_events": OutletEventAccessors(), "run_id": "a_run"}
    assert emit(context, ALIAS, rows, already=announced) == []
    assert len(context["outlet_events"]) == 0


def test_the_alias_has_the_name_of_the_dag() -> None:
    assert [alias_of(one).name for one in ("nightly", "imagesync_nightly", None)] == [
        "imagesync_nightly",
        "imagesync_nightly",
        "imagesync",
    ]


def test_an_operator_of_its_own_has_an_alias_and_one_of_a_planned_run_has_none() -> None:
    mine, given = AssetAlias("mine"), Asset("oci://dst.io/app")
    with DAG("nightly", schedule=None):
        alone = ImageSyncOperator(task_id="alone", source="a.io/app", destination="b.io/app")
        named = ImageSyncOperator(task_id="named", source="a.io/app", destination="b.io/app", outlets=[given, mine])
        kept = ImageSyncOperator(task_id="kept", source="a.io/app", destination="b.io/app", outlets=[given])
        unit = ImageSyncOperator(task_id="unit", unit={"label": "one"})
        mapped = ImageSyncOperator.partial(task_id="mapped").expand(unit=[{"label": "one"}])
    assert alone.outlets == [AssetAlias("imagesync_nightly")]
    assert named.outlets == [given, mine]
    assert kept.outlets == [given, AssetAlias("imagesync_nightly")]
    assert unit.outlets == mapped.outlets == []
    assert ImageSyncOperator(task_id="loose", source="a.io/app", destination="b.io/app").outlets == [ALIAS]


def test_the_alias_is_in_the_serialized_dag() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("nightly", schedule=None) as dag:
        ImageSyncOperator(task_id="alone", source="a.io/app", destination="b.io/app")
        ImageSyncOperator.partial(task_id="mapped").expand(unit=[{"label": "one"}])
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert [one.name for one in read.get_task("alone").outlets] == ["imagesync_nightly"]
    assert read.get_task("mapped").outlets == []


def test_a_sync_announces_what_it_copied_and_nothing_twice(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    uri = f"oci://{destination_registry.host}/{name}"
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1,v2", "destination": uri.removeprefix("oci://")}, retries=0
    )
    operator = ImageSyncOperator(task_id="sync", config=config)
    run = Run()
    with pytest.raises(AirflowFailException, match="v2 does not exist at the source"):
        run.execute(operator)

    # The task failed, so that what its first try copied was announced to nobody.
    images.push(source_registry.url, name, TWO, ["v2"])
    run.execute(operator)
    ((found, extra),) = events(run.outlet_events)
    assert (found, extra["digests"], extra["run"]) == (uri, {"v1": ONE.digest, "v2": TWO.digest}, run.run_id)
    assert extra["bytes"] == sum(blob.size for blob in (*ONE.all_blobs(), *TWO.all_blobs()))

    # Cleared, though all was well.
    assert run.execute(operator)["copied"] == 2
    assert len(run.outlet_events) == 0
    assert Run().execute(operator)["same"] == 2

    # What moved since.
    images.push(source_registry.url, name, TWO, ["v1"])
    later = Run(run_id="later")
    later.execute(operator)
    ((_, extra),) = events(later.outlet_events)
    assert (extra["digests"], extra["bytes"]) == ({"v1": TWO.digest}, 0)


def test_where_no_state_outlives_a_try_the_last_one_announces_what_it_copied_itself(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    """Airflow 3.2."""
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config({"source": f"{source_registry.host}/{name}", "destination": f"{destination_registry.host}/x"})
    operator = ImageSyncOperator(task_id="sync", config=config)
    run = Run()
    run.execute(operator, store=False)
    assert [uri for uri, _ in events(run.outlet_events)] == [f"oci://{destination_registry.host}/x"]
    run.execute(operator, store=False)
    assert len(run.outlet_events) == 0


def test_the_images_of_a_unit_are_left_to_the_report(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    from airflow_imagesync.operators.plan import ImageSyncPlanOperator

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    host = destination_registry.host
    config = write_config({"source": f"{source_registry.host}/{name}", "destination": f"{host}/{name}"})
    run = Run()
    (unit,) = run.execute(ImageSyncPlanOperator(task_id="plan", config=config))
    operator = ImageSyncOperator(task_id="sync", config=config, unit=unit)
    assert run.execute(operator, map_index=0)["copied"] == 1
    assert len(run.outlet_events) == 0
