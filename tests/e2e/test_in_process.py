"""Runs of a DAG in one process, by Airflow's ``dag.test``: no scheduler, no server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.skopeo import Skopeo

pytestmark = pytest.mark.slow

IMAGE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
INDEX = images.index([IMAGE, images.image([images.Blob(b"arm")], "linux/arm64")])
BAD = images.Blob(b"good" * 1000)
BROKEN = images.image([BAD], "linux/amd64")

# Runs the DAG once for each line it reads.
PROGRAM = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("dags_of_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for _ in sys.stdin:
    run = module.dag.test()
    states = {(ti.task_id, ti.map_index): ti.state for ti in run.get_task_instances()}
    tasks = {task if index < 0 else f"{task}[{index}]": state for (task, index), state in states.items()}
    print("RUN " + json.dumps({"id": run.run_id, "state": run.state, "tasks": tasks}), flush=True)
"""

RunDag = Callable[[], dict[str, Any]]


@pytest.fixture
def run_dag(
    airflow_database: Path,
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
) -> Iterator[RunDag]:
    """Runs a DAG for the repository ``tested/app`` once more."""
    hosts = source_registry.host, destination_registry.host
    config = {
        "registries": {host: {"insecure": True} for host in hosts},
        "rules": [{"source": f"{hosts[0]}/tested/app", "destination": f"{hosts[1]}/tested/app"}],
    }
    (tmp_path / "tested.json").write_text(json.dumps(config))
    home = tmp_path / "home"
    path = home / "dags" / "tested.py"
    path.parent.mkdir(parents=True)
    shutil.copy(airflow_database, home)
    path.write_text(
        "from airflow_imagesync.dag_factory import image_sync_dag\n"
        f"dag = image_sync_dag({str(tmp_path / 'tested.json')!r}, dag_id='tested', report_path={str(tmp_path)!r})\n"
    )
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)],
            env={**os.environ, "AIRFLOW_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def once() -> dict[str, Any]:
            stdin.write("\n")
            stdin.flush()
            for line in stdout:
                if line.startswith("RUN "):
                    found: dict[str, Any] = json.loads(line.removeprefix("RUN "))
                    return found
            raise AssertionError(log.read_text()[-3000:])

        try:
            yield once
        finally:
            stdin.close()
            stdout.read()


def test_copies_then_has_nothing_to_do_then_is_red_for_one_broken_image(
    run_dag: RunDag,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    tmp_path: Path,
    skopeo: Skopeo,
) -> None:
    def report() -> dict[str, Any]:
        document: dict[str, Any] = json.loads((tmp_path / "tested" / "latest.json").read_text())
        return document

    images.push(source_registry.url, "tested/app", INDEX, ["v1", "v2"])
    first = run_dag()
    assert (first["state"], set(first["tasks"].values())) == ("success", {"success"})
    for tag in ("v1", "v2"):
        assert skopeo.digest(f"{destination_registry.host}/tested/app:{tag}") == INDEX.digest
    skopeo.pull(f"{destination_registry.host}/tested/app:v1", tmp_path / "pulled")
    assert (report()["metadata"]["run_id"], report()["totals"]["copied"]) == (first["id"], 2)

    second = run_dag()
    assert (second["state"], second["tasks"]["sync"]) == ("success", "skipped")
    assert report()["totals"]["same"] == 2

    images.push(source_registry.url, "tested/app", IMAGE, ["v3"])
    images.push(source_registry.url, "tested/app", BROKEN, ["v4"])
    algorithm, _, digest = BAD.digest.partition(":")
    blobs = source_registry.storage / "docker" / "registry" / "v2" / "blobs"
    (blobs / algorithm / digest[:2] / digest / "data").write_bytes(b"evil" * 1000)
    third = run_dag()
    assert third["state"] == "failed"
    assert third["tasks"] == {"plan": "success", "sync[0]": "failed", "report": "success", "outcome": "failed"}
    by_tag = {one["source"].rpartition(":")[2]: one for one in report()["images"]}
    assert {tag: one["state"] for tag, one in by_tag.items()} == {
        "v1": "same",
        "v2": "same",
        "v3": "copied",
        "v4": "failed",
    }
    assert BAD.digest in by_tag["v4"]["error"]
    assert skopeo.digest(f"{destination_registry.host}/tested/app:v3") == IMAGE.digest
    gone = skopeo("inspect", "--tls-verify=false", f"docker://{destination_registry.host}/tested/app:v4", check=False)
    assert gone.returncode != 0
