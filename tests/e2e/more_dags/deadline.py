"""Waits for a person for longer than it has time: unpaused by the test, so that the schedule starts a run then."""

import os
from datetime import datetime, timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_imagesync.dag_factory import image_sync_dag

SOURCE, DESTINATION = os.environ["SITE_SOURCE"], os.environ["SITE_DESTINATION"]


def alert(reference, to):
    notify = {
        "backend": "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
        "to": to,
        "smtp_conn_id": "deadline_mail",
    }
    callback = AsyncCallback("airflow_imagesync.notifications.image_sync.ImageSyncNotifier", notify)
    return DeadlineAlert(reference=reference, interval=timedelta(seconds=5), callback=callback)


dag = image_sync_dag(
    dag_id="deadline",
    rules=f"{SOURCE}/deadline/app:v1 {DESTINATION}/deadline/app",
    source_conn_id="src",
    destination_conn_id="plain",
    approval=True,
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    is_paused_upon_creation=True,
    max_active_runs=2,
    deadline=[
        alert(DeadlineReference.DAGRUN_LOGICAL_DATE, "logical-date@example.com"),
        alert(DeadlineReference.DAGRUN_QUEUED_AT, "queued-at@example.com"),
    ],
)
