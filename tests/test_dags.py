from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parents[1] / "dags"

# A DAG processor's view of a folder: nothing in the environment, and whoever asks the network ends the process.
PARSE = """
import json, socket, sys

def refuse(*arguments, **more):
    raise SystemExit(f"the network was asked: {arguments}")

socket.socket.connect = socket.getaddrinfo = refuse
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
print(json.dumps({
    "errors": bag.import_errors,
    "dags": {dag.dag_id: [str(dag.schedule), sorted(dag.task_ids), sorted(dag.tags)] for dag in bag.dags.values()},
}))
"""


def parse(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder)],
        env=dict(os.environ),
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_dags_of_this_repository_need_nothing_to_be_parsed() -> None:
    found = parse(DAGS)
    assert found["errors"] == {}
    tasks = ["outcome", "plan", "report", "sync"]
    migration = sorted([*tasks, "approve", "approve_rest", "pilot", "verify"])
    group = [f"images.{name}" for name in sorted([*tasks, "verify"])]
    assert found["dags"] == {
        "nightly_sync": ["0 2 * * *", tasks, ["imagesync"]],
        "migrate_images": ["None", migration, ["imagesync"]],
        "cluster_migration": ["None", [*group, "inventory", "rewrite", "verify"], ["imagesync"]],
    }


def test_a_mistake_takes_down_only_the_dag_of_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    shutil.copytree(DAGS, folder)
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules:\n  - {source: a.io/b, destnation: c.io/d}\n")
    (folder / "broken.py").write_text(
        "from airflow_imagesync.dag_factory import image_sync_dag\n"
        f"dag = image_sync_dag({str(broken)!r}, dag_id='broken')\n"
    )
    found = parse(folder)
    assert sorted(found["dags"]) == ["cluster_migration", "migrate_images", "nightly_sync"]
    (error,) = found["errors"].values()
    assert f"{broken}, rule 0, destnation: unknown key 'destnation'; did you mean 'destination'?" in error


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_dag_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 110


def test_what_the_form_may_name_is_the_administrators_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESYNC_ALLOWED_HOSTS", "quay.io, https://registry.example.com")
    found = parse(DAGS)
    assert sorted(Path(name).stem for name in found["errors"]) == ["cluster_migration", "migrate_images"]
    error = next(iter(found["errors"].values()))
    assert "allowed_hosts: found 'https://registry.example.com', expected host, host:port" in error
    monkeypatch.setenv("IMAGESYNC_ALLOWED_HOSTS", "quay.io, *.example.com")
    assert parse(DAGS)["errors"] == {}
