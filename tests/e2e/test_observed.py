"""What others learn of a sync: DAGs by asset events, OpenLineage by data sets, StatsD by metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devtools import images
from tests.e2e.conftest import Site

pytestmark = pytest.mark.more_airflow

IMAGE = images.image([images.Blob(b"observed" * 1000)], "linux/amd64")


def lineage(site: Site) -> list[dict[str, Any]]:
    """Return the events of OpenLineage of the task's completion."""
    path = site.folder / "lineage.json"
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [one for one in events if one["eventType"] == "COMPLETE" and one["job"]["name"] == "observed.sync"]


def test_a_sync_tells_other_dags_openlineage_and_statsd(site: Site) -> None:
    images.push(site.source.url, "observed/app", IMAGE, ["v1", "v2"])
    airflow, copy = site.airflow, f"{site.destination.host}/observed/copy"

    def notified() -> list[str]:
        runs = airflow.request("GET", "/api/v2/dags/notified/dagRuns")["dag_runs"]
        return sorted(one["dag_run_id"] for one in runs if one["state"] == "success")

    run_id = airflow.trigger("observed")
    assert airflow.finish("observed", run_id) == "success"
    airflow.wait_for(lambda: len(notified()) == 1, "the DAG that is scheduled on the repository")
    size = sum(blob.size for blob in IMAGE.all_blobs())
    assert airflow.xcom("notified", notified()[0], "told", "return_value") == [
        {
            "uri": f"oci://{copy}",
            "tags": ["v1", "v2"],
            "digests": {"v1": IMAGE.digest, "v2": IMAGE.digest},
            "source": f"{site.source.host}/observed/app",
            "bytes": size,
            "run": run_id,
        }
    ]
    (asset,) = airflow.request("GET", "/api/v2/assets", uri_pattern=f"oci://{copy}")["assets"]
    (alias,) = asset["aliases"]
    assert alias["name"] == "imagesync_observed"

    airflow.wait_for(lambda: lineage(site), "the lineage")
    (event,) = lineage(site)
    sides = [[(one["namespace"], one["name"]) for one in event[side]] for side in ("inputs", "outputs")]
    assert sides == [
        [(f"oci://{site.source.host}", "observed/app")],
        [(f"oci://{site.destination.host}", "observed/copy")],
    ]

    # Other tests may sync to the same registry, too.
    airflow.wait_for(lambda: "images.copied" in site.metrics.found("airflow.imagesync."), "the metrics")
    told = site.metrics.found("airflow.imagesync.", registry=site.destination.host.replace(":", "_"))
    assert told["images.copied"] >= 2
    assert told["bytes.copied"] >= size
    assert told["requests"] > 4
    assert site.metrics.found("airflow.imagesync.", registry=site.source.host.replace(":", "_"))["requests"] >= 4

    # Nothing changes.
    again = airflow.trigger("observed")
    assert airflow.finish("observed", again) == "success"
    events = airflow.request("GET", "/api/v2/assets/events", source_dag_id="observed")["asset_events"]
    assert [one["extra"]["run"] for one in events] == [run_id]


def test_each_of_mapped_syncs_announces_what_it_did(site: Site) -> None:
    """Their alias is not among the outlets before they run, and nothing is to be scheduled on it."""
    images.push(site.source.url, "each/app", IMAGE, ["v1", "v2"])
    run_id = site.airflow.trigger("each")
    assert site.airflow.finish("each", run_id) == "success"
    events = site.airflow.request("GET", "/api/v2/assets/events", source_dag_id="each")["asset_events"]
    assert sorted((one["uri"], one["source_map_index"], one["extra"]["tags"]) for one in events) == [
        (f"oci://{site.destination.host}/each/copy", 0, ["v1"]),
        (f"oci://{site.destination.host}/each/copy", 1, ["v2"]),
    ]
