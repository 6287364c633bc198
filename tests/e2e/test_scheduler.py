"""Whole runs in a real scheduler, started and looked at over REST as the UI does."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from typing import Any, NamedTuple

import pytest

from airflow_imagesync.get_provider_info import get_provider_info
from devtools import images
from devtools.distribution import DistributionRegistry, LoggedRequest
from tests.e2e.conftest import PLANTED, Site
from tests.support import PASSWORD, USER
from tests.support.faults import too_many
from tests.support.skopeo import Skopeo

pytestmark = pytest.mark.slow

IMAGE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
INDEX = images.index([IMAGE, images.image([images.Blob(b"arm")], "linux/arm64")])


def requests_of(registry: DistributionRegistry, since: int, repository: str) -> list[LoggedRequest]:
    return [one for one in registry.requests_log()[since:] if one.path.startswith(f"/v2/{repository}/")]


class Night(NamedTuple):
    run_id: str
    state: str
    tasks: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def first_night(site: Site) -> Night:
    """A run with three images to copy and one that is not there."""
    images.push(site.source.url, "night/app", IMAGE, ["v1", "v2", "v3"])
    run_id = site.airflow.trigger("nightly")
    state = site.airflow.finish("nightly", run_id)
    return Night(run_id, state, site.airflow.tasks("nightly", run_id))


def test_a_failed_image_makes_the_run_red_and_stops_no_other(first_night: Night, site: Site, skopeo: Skopeo) -> None:
    assert first_night.state == "failed"
    assert {name: one["state"] for name, one in first_night.tasks.items()} == {
        "plan": "success",
        "sync[0]": "success",
        "sync[1]": "success",
        "sync[2]": "failed",
        "report": "success",
        "outcome": "failed",
    }
    for tag in ("v1", "v2", "v3"):
        assert skopeo.digest(f"{site.destination.host}/night/app:{tag}") == IMAGE.digest


def test_a_failure_that_will_not_pass_is_not_tried_again(first_night: Night) -> None:
    assert {one["try_number"] for one in first_night.tasks.values()} == {1}


def test_mapped_tasks_are_labelled_by_what_they_copy(first_night: Night, site: Site) -> None:
    app = f"{site.source.host}/night/app -> {site.destination.host}/night/app"
    assert [first_night.tasks[f"sync[{index}]"]["rendered_map_index"] for index in range(3)] == [
        f"{app} (1 of 2)",
        f"{app} (2 of 2)",
        f"{site.source.host}/night/late:v1 -> {site.destination.host}/night/late:v1",
    ]


def test_results_are_there_for_tasks_that_failed_too(first_night: Night, site: Site) -> None:
    found = [site.airflow.xcom("nightly", first_night.run_id, "sync", "result", index) for index in range(3)]
    assert [[one["state"] for one in result["images"]] for result in found] == [["copied"] * 2, ["copied"], ["failed"]]


def test_the_outcome_says_what_failed_and_why(first_night: Night, site: Site) -> None:
    log = site.airflow.log("nightly", first_night.run_id, "outcome")
    assert "4 images: 3 copied, 0 same, 1 failed" in log
    assert f"{site.source.host}/night/late:v1 does not exist at the source" in log


def test_a_failed_task_is_cleared_once_its_cause_is_mended_and_the_others_are_left_alone(
    first_night: Night, site: Site, skopeo: Skopeo
) -> None:
    images.push(site.source.url, "night/late", IMAGE, ["v1"])
    before = len(site.source.requests_log()), len(site.destination.requests_log())
    site.airflow.clear("nightly", first_night.run_id, "sync", only_failed=True)
    site.airflow.wait_for(lambda: site.airflow.run_state("nightly", first_night.run_id) != "failed", "the clear")
    assert site.airflow.finish("nightly", first_night.run_id) == "success"
    tasks = site.airflow.tasks("nightly", first_night.run_id)
    assert {name: one["try_number"] for name, one in tasks.items()} == {
        "plan": 1,
        "sync[0]": 1,
        "sync[1]": 1,
        "sync[2]": 2,
        "report": 1,
        "outcome": 2,
    }
    assert requests_of(site.source, before[0], "night/app") == []
    assert requests_of(site.destination, before[1], "night/app") == []
    assert skopeo.digest(f"{site.destination.host}/night/late:v1") == IMAGE.digest
    report = site.report("nightly", "latest.json")
    assert {one["state"] for one in report["images"]} == {"copied"}
    assert report["metadata"]["run_id"] == first_night.run_id


def test_a_night_with_nothing_to_do_is_two_requests_a_tag_and_no_mapped_task(first_night: Night, site: Site) -> None:
    before = len(site.source.requests_log()), len(site.destination.requests_log())
    run_id = site.airflow.trigger("nightly")
    assert site.airflow.finish("nightly", run_id) == "success"
    assert site.airflow.states("nightly", run_id) == {
        "plan": "success",
        "sync": "skipped",
        "report": "success",
        "outcome": "success",
    }
    assert sorted(one.method for one in requests_of(site.source, before[0], "night/app")) == ["GET"] + ["HEAD"] * 3
    assert [one.method for one in requests_of(site.destination, before[1], "night/app")] == ["HEAD"] * 3
    assert site.report("nightly", "latest.json")["totals"]["same"] == 4


def test_a_mistake_fails_the_plan_at_once_and_copies_nothing(site: Site) -> None:
    before = len(site.destination.requests_log())
    run_id = site.airflow.trigger("unset")
    assert site.airflow.finish("unset", run_id) == "failed"
    tasks = site.airflow.tasks("unset", run_id)
    assert {name: (one["state"], one["try_number"]) for name, one in tasks.items()} == {
        "plan": ("failed", 1),
        "sync": ("upstream_failed", 0),
        "report": ("success", 1),
        "outcome": ("failed", 1),
    }
    problem = site.report("unset", "latest.json")["metadata"]["problem"]
    assert problem == (
        f"the run could not be planned: {site.folder}/unset.yaml, rule 0, destination: "
        "the environment variable 'NOT_SET' is not set"
    )
    assert problem in site.airflow.log("unset", run_id, "outcome")
    assert len(site.destination.requests_log()) == before


def test_a_mistake_in_the_syntax_is_an_import_error_of_that_file_alone(site: Site) -> None:
    (error,) = site.airflow.request("GET", "/api/v2/importErrors")["import_errors"]
    assert error["filename"] == "broken.py"
    assert f"{site.folder}/broken.yaml, rule 0, destnation: unknown key 'destnation'" in error["stack_trace"]


def test_a_form_plans_first_and_copies_then(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "form/app", INDEX, ["v1.11", "v1.2"])
    form = {
        # A quantifier that must not be taken for a template.
        "rules": f"'{site.source.host}/form/app:/^v1[.]1{{2}}$|{{{{1}}}}/': {site.htpasswd.host}/form/app",
        "source_connection": "src",
        "destination_connection": "dst",
        "platforms": ["linux/amd64"],
    }
    dry = site.airflow.trigger("migrate_images", **form, dry_run=True)
    assert site.airflow.finish("migrate_images", dry) == "success"
    assert site.airflow.states("migrate_images", dry) == {
        "plan": "success",
        "approve": "success",
        "pilot": "skipped",
        "approve_rest": "success",
        "sync": "skipped",
        "verify": "skipped",
        "report": "success",
        # What comes after it would miss the image.
        "outcome": "skipped",
    }
    summary = site.airflow.xcom("migrate_images", dry, "report", "report")["summary"]
    assert summary == "dry run, nothing was copied; 1 image: 1 new, 0 changed, 0 same, 0 failed"
    credentials = f"--creds={USER}:{PASSWORD}"
    missing = skopeo(
        "inspect", "--tls-verify=false", credentials, f"docker://{site.htpasswd.host}/form/app:v1.11", check=False
    )
    assert missing.returncode != 0

    run_id = site.airflow.trigger("migrate_images", **form)
    assert site.airflow.finish("migrate_images", run_id) == "success"
    (image,) = site.airflow.xcom("migrate_images", run_id, "sync", "result", 0)["images"]
    assert image["state"] == "copied"
    assert skopeo.digest(f"{site.htpasswd.host}/form/app:v1.11", credentials) == image["digest"] != INDEX.digest
    manifest = json.loads(skopeo.raw(f"{site.htpasswd.host}/form/app:v1.11", credentials))
    assert [one["platform"]["architecture"] for one in manifest["manifests"]] == ["amd64"]


def test_what_comes_after_a_group_runs_when_its_images_are_there_and_is_skipped_with_it(
    site: Site, skopeo: Skopeo
) -> None:
    images.push(site.source.url, "larger/app", IMAGE, ["v1"])
    with_images, without = site.airflow.trigger("larger"), site.airflow.trigger("larger", wanted=False)
    assert site.airflow.finish("larger", with_images) == "success"
    assert site.airflow.states("larger", with_images) == {
        "wanted": "success",
        "images.plan": "success",
        "images.sync[0]": "success",
        "images.report": "success",
        "images.outcome": "success",
        "use_images": "success",
    }
    assert skopeo.digest(f"{site.destination.host}/larger/app:v1") == IMAGE.digest
    assert site.airflow.finish("larger", without) == "success"
    states = site.airflow.states("larger", without)
    assert states.pop("wanted") == "success"
    assert set(states.values()) == {"skipped"}


def test_the_operator_works_in_somebodys_own_dag_and_a_retry_does_what_is_left(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "own/app", IMAGE, ["v1"])
    images.push(site.flaky.url, "own/app", INDEX, ["v1"])
    site.flaky.stop()
    run_id = site.airflow.trigger("own")
    airflow = site.airflow
    # The other task reads the same source.
    tried = {"by_file": "up_for_retry", "by_connections": "success"}
    airflow.wait_for(lambda: airflow.states("own", run_id) == tried, "the first try")
    first = airflow.xcom("own", run_id, "by_file", "result")["images"]
    before = len(site.source.requests_log())
    site.flaky.start()
    assert airflow.finish("own", run_id) == "success"

    assert [one["state"] for one in first] == ["copied", "failed"]
    assert "answered" not in first[1]["error"]
    tasks = airflow.tasks("own", run_id)
    assert (tasks["by_connections"]["try_number"], tasks["by_file"]["try_number"]) == (1, 2)
    assert [one.method for one in requests_of(site.source, before, "own/app")] == ["HEAD"]
    second = airflow.xcom("own", run_id, "by_file", "result")["images"]
    assert [(one["state"], one["bytes_copied"]) for one in second[:1]] == [("copied", first[0]["bytes_copied"])]
    assert skopeo.digest(f"{site.destination.host}/own/two:v1") == INDEX.digest
    assert skopeo.digest(f"{site.htpasswd.host}/own/own:v1", f"--creds={USER}:{PASSWORD}") == IMAGE.digest


def test_a_task_that_a_registry_holds_up_leaves_its_worker_and_goes_on_in_the_same_try(
    site: Site, skopeo: Skopeo
) -> None:
    images.push(site.source.url, "waiting/app", IMAGE, ["v1"])
    images.push(site.source.url, "waiting/app", INDEX, ["v2"])
    site.front.on("GET", "/manifests/v2", too_many(6), times=1)
    airflow = site.airflow
    run_id = airflow.trigger("waiting")
    airflow.wait_for(lambda: airflow.states("waiting", run_id).get("sync[1]") == "deferred", "the task to be deferred")
    with airflow.also("triggerer"):
        assert airflow.finish("waiting", run_id, seconds=120) == "success"

    task = airflow.tasks("waiting", run_id)["sync[1]"]
    assert (task["state"], task["try_number"]) == ("success", 1)
    assert site.report("waiting", "latest.json")["totals"]["copied"] == 2
    assert "1 image held up by a registry's limit until" in airflow.log("waiting", run_id, "sync", map_index=1)
    assert skopeo.digest(f"{site.destination.host}/waiting/app:v2") == INDEX.digest


def test_a_task_marked_failed_stops_within_seconds_and_leaves_no_tag(site: Site) -> None:
    layers = [images.Blob(f"layer {number}".encode() * 100) for number in range(60)]
    images.push(site.source.url, "slow/app", images.image(layers, "linux/amd64"), ["v1"])
    before = len(site.destination.requests_log())
    airflow = site.airflow

    def sent() -> list[LoggedRequest]:
        return requests_of(site.destination, before, "slow/app")

    run_id = airflow.trigger("slow")
    airflow.wait_for(lambda: any(one.method == "PUT" for one in sent()), "the copy to begin")
    airflow.mark_failed("slow", run_id, "sync", 0)
    began = time.monotonic()
    # A heartbeat tells it, which Airflow sends every five seconds.
    airflow.wait_for(
        lambda: "Task killed!" in airflow.log("slow", run_id, "sync", map_index=0), "the end of the task", 20
    )
    assert time.monotonic() - began < 15
    time.sleep(1.5)  # what the slow line still held
    done = len(sent())
    log = airflow.log("slow", run_id, "sync", map_index=0)
    assert "the run was stopped" in log
    assert airflow.finish("slow", run_id) == "failed"
    assert len(sent()) == done
    assert not any("/manifests/" in one.path and one.method == "PUT" for one in sent())
    (image,) = site.report("slow", "latest.json")["images"]
    assert image["state"] == "failed"


def test_planted_secrets_show_nowhere(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "planted/app", IMAGE, ["v1", "v2"])
    airflow = site.airflow
    run_id = airflow.trigger("planted")
    assert airflow.finish("planted", run_id) == "failed"
    # All of them were in use: two logins that work, one that is refused, one that nobody asked for.
    states = {one["destination"]: one["state"] for one in site.report("planted", "latest.json")["images"]}
    assert states == {
        f"{site.htpasswd.host}/planted/app:v1": "copied",
        f"{site.htpasswd.host}/planted/app:v2": "copied",
        f"{site.token.host}/planted/app:v1": "copied",
        f"{site.htpasswd.host}/refused/app:v2": "failed",
    }
    with sqlite3.connect(f"file:{airflow.database}?mode=ro", uri=True) as database:
        stores = {"the metadata database": "\n".join(database.iterdump())}
    assert f"{site.htpasswd.host}/refused/app" in stores["the metadata database"]
    logs = [path for path in airflow.home.rglob("*.log") if path.is_file()]
    assert any("dag_id=planted" in str(path) for path in logs)
    for path in [*logs, *site.folder.joinpath("reports").rglob("*.*")]:
        stores[str(path)] = path.read_text(errors="replace")
    for place, secret in PLANTED.items():
        for form in (secret, base64.b64encode(f"{USER}:{secret}".encode()).decode()):
            assert [store for store, text in stores.items() if form in text] == [], f"the secret of the {place}"


def test_the_form_of_a_connection_has_its_fields(site: Site) -> None:
    (form,) = [
        one
        for one in site.airflow.request("GET", "/ui/connections/hook_meta")
        if one["connection_type"] == "oci_registry"
    ]
    assert form["hook_name"] == "Container registry (OCI)"
    (connection,) = get_provider_info()["connection-types"]
    assert set(form["extra_fields"]) == set(connection["conn-fields"])
    assert {"insecure", "ca_file", "client_cert", "proxy", "requests_per_second"} < set(form["extra_fields"])
    assert form["extra_fields"]["identity_token"]["schema"]["format"] == "password"
    assert form["standard_fields"]["host"]["title"] == "Registry host"
    assert form["standard_fields"]["url_schema"]["hidden"]


@pytest.mark.parametrize(
    ("password", "status", "message"),
    [(PASSWORD, True, f"accepts requests of {USER}"), ("mistyped-by-somebody", False, "401")],
)
def test_the_test_button_works(password: str, status: bool, message: str, site: Site) -> None:
    body = {
        "connection_id": "tried",
        "conn_type": "oci_registry",
        "host": site.htpasswd.host,
        "login": USER,
        "password": password,
        "extra": json.dumps({"insecure": True}),
    }
    answer = site.airflow.request("POST", "/api/v2/connections/test", body)
    assert answer["status"] is status
    assert message in answer["message"]
    assert password not in answer["message"]
