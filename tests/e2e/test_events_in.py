"""What registries start: syncs by new tags, and tasks that wait for an image in the triggerer."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from devtools import images
from tests.e2e.conftest import Site
from tests.support import PASSWORD, USER
from tests.support.skopeo import Skopeo

pytestmark = pytest.mark.more_airflow

ONE = images.image([images.Blob(b"one of the events")], "linux/amd64")
TWO = images.image([images.Blob(b"two of the events")], "linux/amd64")
INDEX = images.index([ONE, images.image([images.Blob(b"arm of the events")], "linux/arm64")])


@pytest.fixture(scope="module")
def watched(site: Site) -> None:
    """The connection of the watcher and the sensor: in Airflow's database, where a triggerer has to ask for it."""
    site.airflow.request(
        "POST",
        "/api/v2/connections",
        {
            "connection_id": "watched",
            "conn_type": "oci_registry",
            "host": site.source.host,
            "extra": json.dumps({"insecure": True}),
        },
    )


def events(site: Site) -> list[dict[str, Any]]:
    """Return what the watcher has told, in order."""
    found = site.airflow.request("GET", "/api/v2/assets/events", order_by="timestamp")["asset_events"]
    return [one["extra"]["payload"] for one in found if one["extra"].get("from_trigger")]


def known(site: Site) -> dict[str, str]:
    """Return what the watcher has written down."""
    assets = site.airflow.request("GET", "/api/v2/assets", name_pattern="pushed")["assets"]
    (asset,) = [one for one in assets if one["name"] == "pushed"]
    rows = site.airflow.request("GET", f"/api/v2/assets/{asset['id']}/state-store")["asset_state_store"]
    tags: dict[str, str] = rows[0]["value"]["tags"] if rows else {}
    return tags


def runs(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.airflow.request("GET", "/api/v2/dags/pushed/dagRuns")["dag_runs"]
    return found


def wait_for_run(site: Site, number: int) -> None:
    site.airflow.wait_for(
        lambda: [one["state"] for one in runs(site)].count("success") == number, f"run {number} of the sync", 90
    )


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("watched")
def test_a_new_tag_starts_a_sync_by_itself_and_a_restart_of_the_triggerer_neither_repeats_nor_misses_one(
    site: Site, skopeo: Skopeo
) -> None:
    airflow, source, name = site.airflow, site.source, "pushed/app"

    def copied(tag: str) -> str:
        return skopeo.digest(f"{site.htpasswd.host}/{name}:{tag}", f"--creds={USER}:{PASSWORD}")

    images.push(source.url, name, ONE, ["v1", "nightly"])
    with airflow.also("triggerer"):
        airflow.wait_for(lambda: set(known(site)) == {"v1"}, "the first look", 90)
        assert events(site) == []
        images.push(source.url, name, TWO, ["v2", "nightly"])
        wait_for_run(site, 1)
        airflow.wait_for(lambda: set(known(site)) == {"v1", "v2"}, "the event to be written down")
    assert [(one["new"], one["changed"], one["digests"]) for one in events(site)] == [(["v2"], [], {"v2": TWO.digest})]
    assert (copied("v1"), copied("v2")) == (ONE.digest, TWO.digest)

    images.push(source.url, name, INDEX, ["v1"])
    with airflow.also("triggerer"):
        wait_for_run(site, 2)
        airflow.wait_for(lambda: known(site)["v1"] in INDEX.digest, "that, too")
    assert [(one["new"], one["changed"]) for one in events(site)][1:] == [([], ["v1"])]
    assert copied("v1") == INDEX.digest

    before = len(source.requests_log())

    def polls() -> int:
        return sum(one.path == f"/v2/{name}/manifests/v1" for one in source.requests_log()[before:])

    with airflow.also("triggerer"):
        airflow.wait_for(lambda: polls() >= 4, "a few looks after a restart", 90)
        time.sleep(2)
    assert len(events(site)) == len(runs(site)) == 2


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("watched")
def test_a_sensor_holds_no_worker_and_returns_the_image_once_it_is_there(site: Site) -> None:
    airflow = site.airflow
    images.push(site.source.url, "awaited/app", ONE, ["v1"])
    run_id = airflow.trigger("awaited")
    airflow.wait_for(lambda: airflow.states("awaited", run_id)["wait"] == "deferred", "the sensor to be deferred")
    with airflow.also("triggerer"):
        before = len(site.source.requests_log())

        def looks() -> list[str]:
            return [
                one.method
                for one in site.source.requests_log()[before:]
                if one.path == "/v2/awaited/app/manifests/v1" and one.method == "HEAD"
            ]

        airflow.wait_for(lambda: len(looks()) >= 3, "looks of the triggerer", 90)
        assert airflow.states("awaited", run_id)["wait"] == "deferred"
        images.push(site.source.url, "awaited/app", INDEX, ["v1"])
        assert airflow.finish("awaited", run_id, seconds=120) == "success"
    found = airflow.xcom("awaited", run_id, "wait", "return_value")
    assert found == {
        "image": f"{site.source.host}/awaited/app:v1",
        "digest": INDEX.digest,
        "media_type": INDEX.media_type,
        "platforms": ["linux/amd64", "linux/arm64"],
    }
    assert airflow.tasks("awaited", run_id)["wait"]["try_number"] == 1
    log = airflow.log("awaited", run_id, "wait")
    assert "has nothing for linux/arm64; its platforms: linux/amd64" in log
    assert airflow.xcom("awaited", run_id, "use", "return_value") == INDEX.digest
