"""The example DAG on the example manifests, in one process by Airflow's ``dag.test``, started with a conf."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.kubernetes import images_of_manifests
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.skopeo import Skopeo

pytestmark = [pytest.mark.more_airflow, pytest.mark.timeout(400)]

DAGS = Path(__file__).parents[2] / "dags"
WEB = images.image([images.layer(10_000, "web")], "linux/amd64")
INDEX = images.index([WEB, images.image([images.layer(10_000, "arm")], "linux/arm64")])
PROGRAM = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("dags_of_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
run = module.dag.test(run_conf=json.loads(sys.argv[2]))
states = {(ti.task_id, ti.map_index): ti.state for ti in run.get_task_instances()}
tasks = {task if index < 0 else f"{task}[{index}]": state for (task, index), state in states.items()}
print("RUN " + json.dumps({"state": run.state, "tasks": tasks}), flush=True)
"""

#: Runs the DAG with a conf, and returns the run's state, the tasks' states and the log.
RunDag = Callable[..., tuple[str, dict[str, str], str]]


@pytest.fixture
def run_dag(airflow_database: Path, tmp_path: Path) -> RunDag:
    home = tmp_path / "home"
    (home / "dags").mkdir(parents=True)
    shutil.copy(airflow_database, home)
    shutil.copy(DAGS / "cluster_migration.py", home / "dags")
    connection = json.dumps({"conn_type": "oci_registry", "extra": {"insecure": True}})

    def run(**conf: object) -> tuple[str, dict[str, str], str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, home / "dags" / "cluster_migration.py", json.dumps(conf)],
            env={
                **os.environ,
                "AIRFLOW_HOME": str(home),
                "AIRFLOW_CONN_SRC": connection,
                "AIRFLOW_CONN_DST": connection,
                "IMAGESYNC_ALLOWED_FOLDERS": str(tmp_path),
            },
            capture_output=True,
            text=True,
        )
        log = done.stdout + done.stderr
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith("RUN ")] or [""]
        assert answer, log[-3000:]
        found: dict[str, Any] = json.loads(answer.removeprefix("RUN "))
        return found["state"], found["tasks"], log

    return run


def test_a_cluster_moves_with_its_images_and_its_manifests(
    run_dag: RunDag,
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    skopeo: Skopeo,
) -> None:
    manifests, output = tmp_path / "manifests", tmp_path / "output"
    manifests.mkdir()
    for path in (DAGS / "examples").glob("*.yaml"):
        (manifests / path.name).write_text(path.read_text().replace("localhost:5001", source_registry.host))
    for image in images_of_manifests(manifests):
        repository, tag = image.removeprefix(f"{source_registry.host}/").split(":")
        images.push(source_registry.url, repository, INDEX if repository == "shop/web" else WEB, [tag])
    conf = {
        "manifests": str(manifests),
        "destination": f"{destination_registry.host}/cluster",
        "source_connection": "src",
        "destination_connection": "dst",
        "output": str(output),
    }
    state, tasks, log = run_dag(**conf)
    assert state == "success", log[-5000:]
    assert {"inventory", "images.plan", "images.outcome", "rewrite", "verify"} <= set(tasks)
    assert images_of_manifests(output) == sorted(
        f"{destination_registry.host}/cluster/shop/{name}@{INDEX.digest if name == 'web' else WEB.digest}"
        for name in ("database", "log-shipper", "tools", "web")
    )
    for image in images_of_manifests(output):
        assert skopeo.digest(image) == image.partition("@")[2]

    state, tasks, log = run_dag(**conf | {"output": "/etc"})
    assert (state, tasks["inventory"], tasks["rewrite"]) == ("failed", "failed", "upstream_failed")
    assert "the folder /etc is not below one of IMAGESYNC_ALLOWED_FOLDERS" in log
