"""Keeps registries in sync every night, as imagesync.yaml beside this file says, and tells when a night went wrong."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.notifications.image_sync import ImageSyncNotifier

# Who is told, and how, such as {"backend": "airflow.providers.slack.notifications.slack.SlackNotifier",
# "channel": "#images"}. Unset, it is written to the log.
notify = json.loads(os.environ.get("IMAGESYNC_NOTIFY") or "{}")

# The night begins at two and is to be done by six. A run that somebody starts by hand has no deadline.
by_six = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
    interval=timedelta(hours=4),
    callback=AsyncCallback("airflow_imagesync.notifications.image_sync.ImageSyncNotifier", notify),
)
# "airflow dags test" of Airflow 3.3.2 runs a DAG with a deadline well, and then fails for want of the deadline's row.
no_deadline = os.environ.get("IMAGESYNC_NO_DEADLINE")

dag = image_sync_dag(
    os.environ.get("IMAGESYNC_CONFIG") or Path(__file__).with_name("imagesync.yaml"),
    dag_id="nightly_sync",
    description="Incremental image sync between registries",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    report_path=os.environ.get("IMAGESYNC_REPORTS"),
    outcome_args={"on_failure_callback": ImageSyncNotifier(**notify)},
    deadline=None if no_deadline else by_six,
)
