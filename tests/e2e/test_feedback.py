"""What people get to see of a sync: messages, links and alerts, from a real Airflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from devtools import images
from tests.e2e.conftest import Site
from tests.support.smtp import SmtpSink, body_of

pytestmark = pytest.mark.more_airflow

IMAGE = images.image([images.Blob(b"feedback" * 1000)], "linux/amd64")


@contextmanager
def mails(site: Site, conn_id: str) -> Iterator[SmtpSink]:
    """Receive the mails that are sent by a connection."""
    with SmtpSink() as sink:
        connection = {**sink.connection, "connection_id": conn_id, "extra": json.dumps(sink.connection["extra"])}
        site.airflow.request("POST", "/api/v2/connections", connection)
        yield sink


def test_who_asked_for_it_is_told_what_failed_and_finds_the_way_to_it(site: Site) -> None:
    images.push(site.source.url, "feedback/app", IMAGE, ["v1"])
    airflow = site.airflow
    with mails(site, "feedback_mail") as sink:
        run_id = airflow.trigger("feedback")
        assert airflow.finish("feedback", run_id) == "failed"
        airflow.wait_for(lambda: len(sink.mails) == 2, "the mails")
    by_receiver = {str(one["To"]): one for one in sink.mails}
    page = f"/dags/feedback/runs/{quote(run_id, safe='')}/tasks/report"
    for receiver in ("task-outcome@example.com", "dag@example.com"):
        mail = by_receiver[receiver]
        assert mail["Subject"] == "Image sync failed: feedback"
        body = body_of(mail)
        assert run_id in body
        assert "2 images: 1 copied, 0 same, 1 failed" in body
        gone = f"- {site.source.host}/feedback/gone:v1 -&gt; {site.destination.host}/feedback/gone:v1: "
        assert gone in body

    def links(task_id: str, map_index: int) -> dict[str, str | None]:
        path = f"/api/v2/dags/feedback/dagRuns/{run_id}/taskInstances/{task_id}/links"
        found: dict[str, str | None] = airflow.request("GET", path, map_index=map_index)["extra_links"]
        return found

    # Of a task that succeeded, and of one that failed.
    assert airflow.states("feedback", run_id)["sync[1]"] == "failed"
    for index, name in enumerate(("app", "gone")):
        copy = {"app": "copy"}.get(name, name)
        assert links("sync", index) == {
            "Source registry": f"https://{site.source.host}/v2/feedback/{name}/tags/list",
            "Destination registry": f"https://{site.destination.host}/v2/feedback/{copy}/tags/list",
            "Report": page,
        }


def test_a_missed_deadline_is_told_while_the_run_goes_on(site: Site) -> None:
    images.push(site.source.url, "deadline/app", IMAGE, ["v1"])
    airflow = site.airflow

    def deadlines(run_id: str) -> int:
        return len(airflow.request("GET", f"/ui/dags/deadline/dagRuns/{run_id}/deadlines")["deadlines"])

    with mails(site, "deadline_mail") as sink, airflow.also("triggerer"):
        airflow.request("PATCH", "/api/v2/dags/deadline", {"is_paused": False})
        by_hand = airflow.trigger("deadline")

        def scheduled() -> list[str]:
            runs = airflow.request("GET", "/api/v2/dags/deadline/dagRuns")["dag_runs"]
            return [one["dag_run_id"] for one in runs if one["run_type"] == "scheduled"]

        airflow.wait_for(scheduled, "the run of the schedule")
        airflow.request("PATCH", "/api/v2/dags/deadline", {"is_paused": True})
        (on_schedule,) = scheduled()
        # A run that is started by hand has no logical date, and so no deadline that goes by it.
        assert (deadlines(on_schedule), deadlines(by_hand)) == (2, 1)
        airflow.wait_for(lambda: len(sink.mails) >= 3, "the mails", 120)
        told = sorted((str(one["To"]), one["Subject"], body_of(one)) for one in sink.mails)
    for run_id in (on_schedule, by_hand):
        path = f"/api/v2/dags/deadline/dagRuns/{run_id}"
        airflow.request("PATCH", path, {"state": "failed"})
    assert [(to, subject) for to, subject, _ in told] == [
        ("logical-date@example.com", "Image sync not done by its deadline: deadline"),
        ("queued-at@example.com", "Image sync not done by its deadline: deadline"),
        ("queued-at@example.com", "Image sync not done by its deadline: deadline"),
    ]
    assert on_schedule in told[0][2]
    assert "and the run is running" in told[0][2]
