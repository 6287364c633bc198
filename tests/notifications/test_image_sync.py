from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import AsyncCallback, BaseNotifier

from airflow_imagesync.errors import ConfigError
from airflow_imagesync.notifications.image_sync import ImageSyncNotifier
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from tests.notifications.conftest import HOSTILE, Night, Recorder
from tests.support.smtp import SmtpSink, body_of

PATH = "airflow_imagesync.notifications.image_sync.ImageSyncNotifier"
RUN = "manual__2026-01-01T02%3A00%3A00%2B00%3A00"


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    return "https://airflow.example.com/team"


def test_it_says_what_failed_and_why_and_where_the_report_is(
    night: Callable[..., Night], sent: list[dict[str, Any]], base_url: str
) -> None:
    ImageSyncNotifier(Recorder)(night("v1", "v2", failing=("bad",)).context())
    (one,) = sent
    lines = one["text"].splitlines()
    assert one["subject"] == lines[0] == "Image sync failed: nightly"
    assert lines[1] == "Run manual__2026-01-01T02:00:00+00:00"
    assert lines[2].startswith("3 images: 2 copied, 0 same, 1 failed; ")
    assert lines[3].startswith("- 127.0.0.1:")
    assert HOSTILE in lines[3]
    assert lines[4:] == [f"See {base_url}/dags/nightly/runs/{RUN}/tasks/report"]


def test_what_a_registry_wrote_is_not_rendered_and_what_the_author_wrote_is(
    night: Callable[..., Night], sent: list[dict[str, Any]]
) -> None:
    notifier = ImageSyncNotifier(Recorder, channel="#{{ dag.dag_id }}-{{ 7 * 7 }}", plain="{{ 7 }}")
    notifier(night("v1", failing=("bad",)).context())
    assert "{{ 7 * 7 }}" in sent[0]["text"]
    assert sent[0]["channel"] == "#nightly-49"
    # Not a template of the backend, so not one here.
    assert sent[0]["plain"] == "{{ 7 }}"


def test_a_subject_of_the_authors_own_is_kept(night: Callable[..., Night], sent: list[dict[str, Any]]) -> None:
    ImageSyncNotifier(Recorder, subject="mine")(night("v1").context())
    assert sent[0]["subject"] == "mine"
    assert sent[0]["text"].startswith("Image sync done: nightly\n")


def test_without_a_base_url_there_is_no_link(night: Callable[..., Night], sent: list[dict[str, Any]]) -> None:
    ImageSyncNotifier(Recorder)(night("v1").context())
    assert "http" not in sent[0]["text"]


def test_many_failures_are_counted_and_the_message_is_bounded(
    night: Callable[..., Night], sent: list[dict[str, Any]], base_url: str
) -> None:
    ImageSyncNotifier(Recorder)(night(failing=tuple(f"bad{index:02}" for index in range(30))).context())
    text = sent[0]["text"]
    shown = text.count("\n- ")
    assert 1 <= shown <= 5
    assert f"and {30 - shown} more failed" in text
    assert len(text) <= 1900


def test_a_callback_of_the_dag_reads_the_report_too(
    night: Callable[..., Night], sent: list[dict[str, Any]], base_url: str
) -> None:
    context = night("v1", failing=("bad",)).context("plan")
    ImageSyncNotifier(Recorder)({**context, "reason": "task_failure"})
    assert "2 images: 1 copied, 0 same, 1 failed" in sent[0]["text"]
    assert sent[0]["text"].endswith("/tasks/report")


def test_a_callback_of_the_dag_that_reaches_no_xcom_tells_what_it_knows(
    night: Callable[..., Night], sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = night("v1", failing=("bad",)).context("plan")

    def out_of_reach(*arguments: object, **more: object) -> None:
        raise RuntimeError("no server here")

    monkeypatch.setattr(context["ti"], "xcom_pull", out_of_reach, raising=False)
    notifier = ImageSyncNotifier(Recorder)
    notifier({**context, "reason": "task_failure"})
    # What Airflow gives when there is no task to tell of.
    notifier({"dag": context["dag"], "run_id": "manual__1", "reason": "timed_out"})
    assert [one["text"].splitlines() for one in sent] == [
        ["Image sync failed: nightly", "Run manual__2026-01-01T02:00:00+00:00", "it ended with task_failure"],
        ["Image sync failed: nightly", "Run manual__1", "it ended with timed_out"],
    ]


def test_a_callback_of_a_mapped_task_tells_of_its_own_images(
    night: Callable[..., Night], sent: list[dict[str, Any]], base_url: str
) -> None:
    context = night("v1", failing=("bad",)).context("sync", 0)
    # Airflow gives the task that the mapped one became.
    context["task"] = ImageSyncOperator(task_id="sync", config="x", unit={"label": "one"})
    ImageSyncNotifier(Recorder)(context)
    lines = sent[0]["text"].splitlines()
    assert lines[2] == "2 images: 1 copied, 0 same, 1 failed"
    assert lines[-1].endswith("/tasks/sync/mapped/0")


def test_a_task_without_a_report_tells_its_error(night: Callable[..., Night], sent: list[dict[str, Any]]) -> None:
    context = night("v1").context("plan")
    context["ti"].state = "failed"
    ImageSyncNotifier(Recorder)({**context, "exception": ValueError("config is gone\nline two")})
    assert sent[0]["text"].splitlines()[2] == "the task plan: config is gone line two"


def missed(**run: object) -> dict[str, Any]:
    """What Airflow gives the callback of a missed deadline, and nothing else."""
    return {
        "dag_run": {"dag_id": "nightly", "dag_run_id": "scheduled__1", "state": "running", **run},
        "deadline": {"id": "1", "deadline_time": "2026-01-01T06:00:00+00:00"},
    }


async def called_back(**arguments: Any) -> None:
    """Call the notifier as Airflow's CallbackTrigger does."""
    await ImageSyncNotifier(**arguments)  # type: ignore[misc]


@pytest.mark.parametrize("time", ["2026-01-01T06:00:00+00:00", datetime(2026, 1, 1, 6, tzinfo=UTC)])
def test_a_missed_deadline_is_told_as_one(time: object, sent: list[dict[str, Any]], base_url: str) -> None:
    context = missed()
    context["deadline"]["deadline_time"] = time
    asyncio.run(called_back(backend=f"{Recorder.__module__}.Recorder", context=context))
    assert sent[0]["text"].splitlines() == [
        "Image sync not done by its deadline: nightly",
        "Run scheduled__1",
        "its deadline was 2026-01-01 06:00:00 UTC, and the run is running",
        f"See {base_url}/dags/nightly/runs/scheduled__1",
    ]


def test_it_can_be_the_callback_of_an_alert() -> None:
    assert AsyncCallback(PATH, {"backend": "a.b.C"}).path == PATH


def test_a_backend_that_only_knows_async_is_used_by_a_task(night: Callable[..., Night]) -> None:
    texts = []

    class Async(BaseNotifier):
        def __init__(self, message: str) -> None:
            super().__init__()
            self.message = message

        async def async_notify(self, context: Any) -> None:
            texts.append(self.message)

    ImageSyncNotifier(Async)(night("v1").context())
    assert texts[0].startswith("Image sync done")


def test_without_a_backend_it_is_logged(night: Callable[..., Night], capsys: pytest.CaptureFixture[str]) -> None:
    context = night("v1", failing=("bad",)).context()
    capsys.readouterr()
    ImageSyncNotifier()(context)
    first, _, counts, *_ = capsys.readouterr().out.splitlines()
    assert re.search(r"\[warning *\] Image sync failed: nightly$", first)
    assert counts.startswith("2 images: 1 copied, 0 same, 1 failed; ")


def test_a_mail_is_sent_by_airflows_own_notifier(
    night: Callable[..., Night], base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmtpSink() as sink:
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(sink.connection))
        notify: dict[str, Any] = {
            "backend": "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
            "to": "{{ dag.dag_id }}@example.com",
            "smtp_conn_id": "mail",
        }
        ImageSyncNotifier(**notify)(night("v1", failing=("bad",)).context())
        asyncio.run(called_back(**{**notify, "to": "ops@example.com"}, context=missed()))
        failed, late = sink.mails
    assert (failed["To"], failed["Subject"]) == ("nightly@example.com", "Image sync failed: nightly")
    body = body_of(failed)
    assert "no {{ 7 * 7 }} {% raw %} &lt;img src=x&gt; &lt;!channel&gt; @everyone" in body
    assert f'<a href="{base_url}/dags/nightly/runs/{RUN}/tasks/report">' in body
    assert late["Subject"] == "Image sync not done by its deadline: nightly"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "no.such.Notifier"}, "can't be imported: No module named 'no'"),
        ({"backend": "airflow.providers.smtp.notifications.smtp.Smtp"}, "can't be imported: module"),
        ({"backend": "Slack"}, "can't be imported"),
        ({"backend": "json.JSONDecoder"}, "is no notifier; expected a subclass of BaseNotifier"),
        ({"backend": Recorder, "txt": "x"}, "Recorder does not take these arguments"),
        ({"backend": Recorder, "text": "x"}, "leave out text: what Recorder gets there is the message"),
        ({"backend": Recorder, "message_field": "note"}, "does not take these arguments"),
        ({"backend": "airflow.providers.smtp.notifications.smtp.SmtpNotifier"}, "missing 1 required .* 'to'"),
    ],
)
def test_mistakes_show_where_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSyncNotifier(**arguments)
