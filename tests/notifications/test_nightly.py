from __future__ import annotations

import json
import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DeadlineReference

from airflow_imagesync.errors import ConfigError
from airflow_imagesync.notifications.image_sync import ImageSyncNotifier

NIGHTLY = Path(__file__).parents[2] / "dags" / "nightly_sync.py"
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"


def nightly() -> Any:
    return runpy.run_path(str(NIGHTLY))["dag"]


@pytest.mark.parametrize(
    ("notify", "backend"), [(None, "LogNotifier"), ({"backend": SMTP, "to": "ops@example.com"}, "SmtpNotifier")]
)
def test_the_nightly_example_tells_of_failures_and_of_a_deadline_that_is_missed(
    notify: dict[str, Any] | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if notify is not None:
        monkeypatch.setenv("IMAGESYNC_NOTIFY", json.dumps(notify))
    dag = nightly()
    (alert,) = dag.deadline
    assert (alert.reference, alert.interval) == (DeadlineReference.DAGRUN_LOGICAL_DATE, timedelta(hours=4))
    # As the triggerer makes it, from what Airflow has stored as JSON.
    late = ImageSyncNotifier(**json.loads(json.dumps(alert.callback.kwargs)))
    (failed,) = dag.get_task("outcome").on_failure_callback
    assert late.backend.name == failed.backend.name == backend


def test_a_slip_in_who_is_told_shows_when_the_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESYNC_NOTIFY", json.dumps({"backend": SMTP, "two": "ops@example.com"}))
    with pytest.raises(ConfigError, match="SmtpNotifier does not take these arguments"):
        nightly()
