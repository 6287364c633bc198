"""The addresses of pages in Airflow's UI."""

from __future__ import annotations

from urllib.parse import quote

from airflow.sdk import conf


def run_page(dag_id: str, run_id: str) -> str:
    """
    Return the path of the page of a run.

    :param dag_id: the DAG
    :param run_id: the run
    """
    return f"/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def task_page(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """
    Return the path of the page of a task, which shows its log.

    :param dag_id: the DAG
    :param run_id: the run
    :param task_id: the task, with the groups it is in
    :param map_index: which one of a mapped task; -1 for a task that is not mapped
    """
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"{run_page(dag_id, run_id)}/tasks/{quote(task_id, safe='')}{mapped}"


def in_airflow(page: str) -> str:
    """
    Return the link to a page for who is in Airflow's UI already: its whole address where that is known.

    :param page: the path of the page
    """
    return from_anywhere(page) or page


def from_anywhere(page: str) -> str | None:
    """
    Return the whole address of a page; None where Airflow's configuration does not say where its UI is.

    :param page: the path of the page
    """
    base = (conf.get("api", "base_url", fallback="") or "").strip().rstrip("/")
    return f"{base}{page}" if base.startswith(("https://", "http://")) else None
