"""Migrations from the form: plan, approval, pilot, and what comes of mistakes; run by a real scheduler."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_imagesync.kubernetes import images_of_manifests
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.e2e.conftest import ROOT, Site
from tests.support import PASSWORD, USER
from tests.support.skopeo import Skopeo

IMAGE = images.image([images.layer(100_000, "migrated")], "linux/amd64")
OTHER = images.image([images.layer(100_000, "migrated, too")], "linux/amd64")
CREDENTIALS = f"--creds={USER}:{PASSWORD}"
CONNECTIONS = {"source_connection": "src", "destination_connection": "dst"}


def has(registry: DistributionRegistry, image: str, skopeo: Skopeo) -> bool:
    found = skopeo("inspect", "--tls-verify=false", CREDENTIALS, f"docker://{registry.host}/{image}", check=False)
    return found.returncode == 0


def test_a_plan_is_shown_and_copied_once_a_person_approves(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "approved/app", IMAGE, ["v1", "v2"])
    airflow = site.airflow
    run_id = airflow.trigger(
        "migrate_images",
        rules=f"{site.source.host}/approved/app:v1,v2 {site.htpasswd.host}/approved/app",
        approval=True,
        **CONNECTIONS,
    )
    asked = airflow.question("migrate_images", run_id, "approve")
    assert "Copy what is planned" in asked["subject"]
    assert f"{site.source.host}/approved/app:v1" in asked["body"]
    assert "| --- |" in asked["body"]
    assert "98.3 KiB" in asked["body"]
    assert not has(site.htpasswd, "approved/app:v1", skopeo)

    airflow.answer("migrate_images", run_id, "approve", "Approve")
    assert airflow.finish("migrate_images", run_id) == "success"
    assert airflow.states("migrate_images", run_id) == {
        "plan": "success",
        "approve": "success",
        "pilot": "skipped",
        "approve_rest": "success",
        "sync[0]": "success",
        "verify": "success",
        "report": "success",
        "outcome": "success",
    }
    assert skopeo.digest(f"{site.htpasswd.host}/approved/app:v2", CREDENTIALS) == IMAGE.digest
    assert airflow.xcom("migrate_images", run_id, "outcome", "image_map") == {
        f"{site.source.host}/approved/app:{tag}": f"{site.htpasswd.host}/approved/app@{IMAGE.digest}"
        for tag in ("v1", "v2")
    }


def test_what_is_rejected_is_not_copied_and_the_run_ends_in_peace(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "rejected/app", IMAGE, ["v1"])
    airflow = site.airflow
    run_id = airflow.trigger(
        "migrate_images",
        rules=f"{site.source.host}/rejected/app:v1 {site.htpasswd.host}/rejected/app",
        approval=True,
        **CONNECTIONS,
    )
    airflow.question("migrate_images", run_id, "approve")
    airflow.answer("migrate_images", run_id, "approve", "Reject")
    assert airflow.finish("migrate_images", run_id) == "success"
    assert airflow.states("migrate_images", run_id) == {
        "plan": "success",
        "approve": "success",
        "pilot": "skipped",
        "approve_rest": "success",
        "sync": "skipped",
        "verify": "skipped",
        "report": "success",
        "outcome": "skipped",
    }
    summary = airflow.xcom("migrate_images", run_id, "report", "report")["summary"]
    assert summary.startswith("rejected by ")
    assert summary.endswith("nothing was copied of 1 image: 1 new, 0 changed, 0 same, 0 failed")
    assert not has(site.htpasswd, "rejected/app:v1", skopeo)


def test_an_approval_that_times_out_fails_the_task_and_copies_nothing(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "asking/app", IMAGE, ["v1"])
    airflow = site.airflow
    run_id = airflow.trigger("asking")
    assert airflow.finish("asking", run_id) == "failed"
    assert airflow.states("asking", run_id) == {
        "plan": "success",
        "approve": "failed",
        "sync": "upstream_failed",
        "report": "success",
        "outcome": "failed",
    }
    sentence = "nobody approved within 3.0 s; clear the task approve to ask again"
    assert sentence in airflow.log("asking", run_id, "approve")
    assert sentence in airflow.log("asking", run_id, "outcome")
    assert not has(site.destination, "asking/app:v1", skopeo)


def test_the_rest_waits_for_the_pilot_and_for_a_second_approval(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "wave/one", IMAGE, ["v1", "v2"])
    images.push(site.source.url, "wave/two", OTHER, ["v1"])
    airflow = site.airflow
    run_id = airflow.trigger(
        "migrate_images",
        rules=f"{site.source.host}/wave/one {site.htpasswd.host}/wave/one\n"
        f"{site.source.host}/wave/two {site.htpasswd.host}/wave/two\n",
        approval=True,
        pilot="2",
        **CONNECTIONS,
    )
    airflow.question("migrate_images", run_id, "approve")
    airflow.answer("migrate_images", run_id, "approve", "Approve")
    asked = airflow.question("migrate_images", run_id, "approve_rest", seconds=90)
    assert asked["subject"] == "The pilot is copied. Copy the rest, 1 image?"
    # One of each rule, so that both repositories are tried.
    assert [has(site.htpasswd, f"wave/{name}", skopeo) for name in ("one:v1", "two:v1", "one:v2")] == [
        True,
        True,
        False,
    ]
    airflow.answer("migrate_images", run_id, "approve_rest", "Approve")
    assert airflow.finish("migrate_images", run_id) == "success"
    assert has(site.htpasswd, "wave/one:v2", skopeo)
    report = airflow.xcom("migrate_images", run_id, "report", "report")
    assert report["totals"]["copied"] == 3


def test_a_pilot_that_fails_keeps_the_rest_back_until_it_is_mended(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "pilot/app", IMAGE, ["v1"])
    airflow = site.airflow
    run_id = airflow.trigger(
        "migrate_images",
        rules=f"{site.source.host}/pilot/app {site.htpasswd.host}/pilot/app\n"
        f"{site.source.host}/pilot/late:v1 {site.htpasswd.host}/pilot/late\n",
        pilot="pilot/late:*",
        **CONNECTIONS,
    )
    assert airflow.finish("migrate_images", run_id) == "failed"
    states = airflow.states("migrate_images", run_id)
    assert (states["pilot[0]"], states["approve_rest"], states["sync"]) == (
        "failed",
        "upstream_failed",
        "upstream_failed",
    )
    assert "not begun, since images of the pilot failed" in airflow.log("migrate_images", run_id, "outcome")
    assert not has(site.htpasswd, "pilot/app:v1", skopeo)

    images.push(site.source.url, "pilot/late", OTHER, ["v1"])
    airflow.clear("migrate_images", run_id, "pilot", only_failed=False)
    airflow.wait_for(lambda: airflow.run_state("migrate_images", run_id) != "failed", "the clear")
    assert airflow.finish("migrate_images", run_id) == "success"
    assert has(site.htpasswd, "pilot/app:v1", skopeo)
    assert has(site.htpasswd, "pilot/late:v1", skopeo)


def test_a_mistake_in_the_form_is_told_by_the_failed_task_and_nothing_is_copied(site: Site) -> None:
    images.push(site.source.url, "mistakes/app", IMAGE, ["v1"])
    right = f"{site.source.host}/mistakes/app:v1 {site.destination.host}/form/app"
    forms = {
        "rules, line 3: found one word, expected source and destination": {
            "rules": f"# first\n{right}\n{site.source.host}/mistakes/app:v2\n"
        },
        "there is no connection 'nowhere'; create it under Admin, Connections": {
            "rules": right,
            "source_connection": "nowhere",
        },
        "pilot: no image of the plan matches 'wbe:*'": {"rules": right, "pilot": "wbe:*"},
    }
    before = len(site.destination.requests_log())
    airflow = site.airflow
    runs = {sentence: airflow.trigger("migrate_images", **form) for sentence, form in forms.items()}
    for sentence, run_id in runs.items():
        assert airflow.finish("migrate_images", run_id) == "failed"
        tasks = airflow.tasks("migrate_images", run_id)
        assert (tasks["plan"]["state"], tasks["plan"]["try_number"]) == ("failed", 1)
        assert sentence in airflow.log("migrate_images", run_id, "plan")
        assert sentence in airflow.log("migrate_images", run_id, "outcome")
    written = [one for one in site.destination.requests_log()[before:] if one.method not in ("GET", "HEAD")]
    assert written == []


def test_a_configuration_that_is_gone_fails_the_plan_with_its_name(site: Site) -> None:
    airflow = site.airflow
    run_id = airflow.trigger("gone")
    assert airflow.finish("gone", run_id) == "failed"
    tasks = airflow.tasks("gone", run_id)
    assert (tasks["plan"]["state"], tasks["plan"]["try_number"]) == ("failed", 1)
    sentence = f"{site.folder}/taken-away.yaml: there is no such file; check the path"
    assert sentence in airflow.log("gone", run_id, "plan")
    assert sentence in airflow.log("gone", run_id, "outcome")


def test_another_dag_starts_a_migration_with_its_conf(site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "started/app", IMAGE, ["v1"])
    rules = f"{site.source.host}/started/app:v1 {site.htpasswd.host}/started/app"
    run_id = site.airflow.trigger("starter", starts="migrate_images", conf={"rules": rules, **CONNECTIONS})
    assert site.airflow.finish("starter", run_id, seconds=120) == "success"
    assert has(site.htpasswd, "started/app:v1", skopeo)


def test_a_cluster_moves_with_its_images_and_manifests_when_another_dag_says_so(
    site: Site, skopeo: Skopeo, tmp_path: Path
) -> None:
    """On the example manifests, whose registry is the one of the tests."""
    manifests, output = tmp_path / "manifests", tmp_path / "output"
    manifests.mkdir()
    for path in (ROOT / "dags" / "examples").iterdir():
        (manifests / path.name).write_text(path.read_text().replace("localhost:5001", site.source.host))
    for name, tag in (("web", "1.4"), ("tools", "2.1"), ("database", "17"), ("log-shipper", "0.9")):
        images.push(site.source.url, f"shop/{name}", IMAGE, [tag])
    conf = {
        "manifests": str(manifests),
        "destination": f"{site.htpasswd.host}/moved",
        "output": str(output),
        **CONNECTIONS,
    }
    run_id = site.airflow.trigger("starter", starts="cluster_migration", conf=conf)
    assert site.airflow.finish("starter", run_id, seconds=150) == "success"
    moved = [
        f"{site.htpasswd.host}/moved/shop/{name}@{IMAGE.digest}" for name in ("database", "log-shipper", "tools", "web")
    ]
    assert images_of_manifests(output) == moved
    assert [skopeo.digest(one, CREDENTIALS) for one in moved] == [IMAGE.digest] * 4
    # Nothing but the images: the comments and the form are what they were.
    for path in manifests.iterdir():
        written = (output / path.name).read_text()
        for image in moved:
            written = written.replace(image, "image")
        before = path.read_text()
        assert [line for line in written.splitlines() if "image" not in line] == [
            line for line in before.splitlines() if site.source.host not in line and "image" not in line
        ]


def test_changes_start_the_dags_that_wait_for_them_also_in_a_run_that_failed(site: Site) -> None:
    images.push(site.source.url, "changing/app", IMAGE, ["v1", "v2"])
    airflow = site.airflow

    def consumed() -> list[str]:
        runs = airflow.request("GET", "/api/v2/dags/consumer/dagRuns")["dag_runs"]
        return sorted(one["dag_run_id"] for one in runs if one["state"] == "success")

    run_id = airflow.trigger("changing")
    assert airflow.finish("changing", run_id) == "failed"  # the other repository is not there
    airflow.wait_for(lambda: len(consumed()) == 1, "the consumer")
    (event,) = airflow.xcom("consumer", consumed()[0], "told", "return_value")
    assert json.loads(json.dumps(event)) == {
        "uri": f"oci://{site.destination.host}/changing/app",
        "tags": ["v1", "v2"],
        "digests": {"v1": IMAGE.digest, "v2": IMAGE.digest},
        "source": f"{site.source.host}/changing/app",
        "bytes": event["bytes"],
        "run": run_id,
    }
    assert event["bytes"] > 100_000

    # Nothing more changes for the one that is there, and what was cleared tells of itself alone.
    images.push(site.source.url, "changing/late", OTHER, ["v1"])
    airflow.clear("changing", run_id, "sync", only_failed=True)
    airflow.wait_for(lambda: airflow.run_state("changing", run_id) != "failed", "the clear")
    assert airflow.finish("changing", run_id) == "success"
    again = airflow.trigger("changing")
    assert airflow.finish("changing", again) == "success"
    events = airflow.request("GET", "/api/v2/assets/events", source_dag_id="changing")["asset_events"]
    assert sorted((one["uri"], one["source_task_id"], one["extra"]["run"]) for one in events) == [
        (f"oci://{site.destination.host}/changing/app", "report", run_id),
        (f"oci://{site.destination.host}/changing/late", "outcome", run_id),
    ]
    assert len(consumed()) == 1
