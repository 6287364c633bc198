"""Asks for approval and gives up after a few seconds."""

import os
from datetime import timedelta

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(
    f"{FOLDER}/asking.yaml",
    dag_id="asking",
    approval=True,
    approval_args={"response_timeout": timedelta(seconds=3)},
    report_path=f"{FOLDER}/reports",
)
