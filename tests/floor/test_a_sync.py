"""A sync by a real scheduler of the lowest supported Airflow: one run that copies, and one with nothing to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_imagesync.get_provider_info import get_provider_info
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.airflow_server import AirflowServer
from tests.support.skopeo import Skopeo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
INDEX = images.index([IMAGE, images.image([images.Blob(b"arm")], "linux/arm64")])
DAG_FILE = """
from airflow_imagesync.dag_factory import image_sync_dag
dag = image_sync_dag({config!r}, dag_id="tested", report_path={reports!r})
"""


@dataclass(frozen=True)
class Place:
    airflow: AirflowServer
    folder: Path
    source: DistributionRegistry
    destination: DistributionRegistry


@pytest.fixture(scope="module")
def place(
    airflow_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
) -> Iterator[Place]:
    folder, home = tmp_path_factory.mktemp("floor"), tmp_path_factory.mktemp("airflow")
    config = folder / "tested.json"
    source, destination = source_registry, destination_registry
    rule = {"source": f"{source.host}/tested/app", "destination": f"{destination.host}/tested/app"}
    known = {one.host: {"insecure": True} for one in (source, destination)}
    config.write_text(json.dumps({"registries": known, "rules": [rule]}))
    airflow = AirflowServer(home, airflow_database, {})
    (airflow.dags / "tested.py").write_text(DAG_FILE.format(config=str(config), reports=str(folder)))
    with airflow:
        airflow.wait_for(lambda: airflow.request("GET", "/api/v2/dags")["dags"], "the DAG to be parsed", 120)
        yield Place(airflow, folder, source, destination)


def test_a_run_copies_and_the_next_one_has_nothing_to_do(place: Place, skopeo: Skopeo) -> None:
    images.push(place.source.url, "tested/app", INDEX, ["v1", "v2"])
    airflow = place.airflow

    def totals() -> dict[str, int]:
        found: dict[str, int] = json.loads((place.folder / "tested" / "latest.json").read_text())["totals"]
        return found

    first = airflow.trigger("tested")
    assert airflow.finish("tested", first, seconds=240) == "success"
    states = airflow.states("tested", first)
    assert states == {"plan": "success", "sync[0]": "success", "report": "success", "outcome": "success"}
    assert (totals()["copied"], totals()["failed"]) == (2, 0)
    for tag in ("v1", "v2"):
        assert skopeo.digest(f"{place.destination.host}/tested/app:{tag}") == INDEX.digest

    before = len(place.source.requests_log()), len(place.destination.requests_log())
    second = airflow.trigger("tested")
    assert airflow.finish("tested", second, seconds=240) == "success"
    assert airflow.states("tested", second)["sync"] == "skipped"
    assert (totals()["same"], totals()["copied"]) == (2, 0)
    asked = [one.method for one in place.source.requests_log()[before[0] :] if "/tested/app/" in one.path]
    assert sorted(asked) == ["GET", "HEAD", "HEAD"]  # the list of tags, and each tag
    asked = [one.method for one in place.destination.requests_log()[before[1] :] if "/tested/app/" in one.path]
    assert asked == ["HEAD", "HEAD"]


def test_the_form_of_a_connection_has_its_fields(place: Place) -> None:
    forms = place.airflow.request("GET", "/ui/connections/hook_meta")
    (form,) = [one for one in forms if one["connection_type"] == "oci_registry"]
    (connection,) = get_provider_info()["connection-types"]
    assert set(form["extra_fields"]) == set(connection["conn-fields"])
    assert form["extra_fields"]["identity_token"]["schema"]["format"] == "password"
    assert form["standard_fields"]["host"]["title"] == "Registry host"
