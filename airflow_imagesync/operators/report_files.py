"""Where the reports of a DAG's runs are: their folder, their names, the latest one, and what it told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import ObjectStoragePath

LATEST = "latest"


def report_folder(report_path: str, dag_id: str, task_id: str) -> ObjectStoragePath:
    """
    Return the folder for the reports of a DAG, or of a group of tasks in one.

    :param report_path: a path or an object storage URL
    :param dag_id: the DAG
    :param task_id: the task that writes them
    """
    folder = ObjectStoragePath(report_path) / file_name(dag_id)
    group = task_id.rpartition(".")[0]
    return folder / file_name(group) if group else folder


def write_report(folder: ObjectStoragePath, names: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """
    Write the files of a report under each of its names, and return the paths of the first.

    :param folder: where to
    :param names: the names
    :param texts: what is written, by what stands behind the name, such as ``.json``
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for suffix, text in texts.items():
            path = folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [str(folder / f"{names[0]}{suffix}") for suffix in texts]


def read_latest(folder: ObjectStoragePath) -> dict[str, Any] | None:
    """
    Return the report of the run before; none that can't be read counts.

    :param folder: the folder of the reports
    """
    try:
        document = json.loads((folder / f"{LATEST}.json").read_text(encoding="utf-8"))
    except Exception:  # noqa: BLE001  # each storage has errors of its own, and this is only a hint
        return None
    return document if isinstance(document, dict) else None


def metadata_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Return what a report says of its run.

    :param document: the report
    """
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def before_run(latest: Mapping[str, Any] | None, run_id: str) -> Mapping[str, Any] | None:
    """
    Return the latest report as it was before a run, which may have been cleared: a run counts once.

    :param latest: the latest report
    :param run_id: the run
    """
    if latest is None or metadata_of(latest).get("run_id") != run_id or "problem" in metadata_of(latest):
        return latest
    failing = latest.get("failing")
    counts = failing.items() if isinstance(failing, dict) else ()
    return {"failing": {source: count - 1 for source, count in counts if isinstance(count, int)}}


def file_name(text: str) -> str:
    """
    Return a DAG's or a run's id as a name that every storage takes.

    :param text: the id
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "_"
