"""Waits without a worker for whatever takes longer than two seconds: a minute is long for a test."""

import os

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.operators.image_sync import ImageSyncOperator

FOLDER = os.environ["SITE_FOLDER"]
ImageSyncOperator.longest_wait = 2.0
dag = image_sync_dag(
    f"{FOLDER}/waiting.yaml", dag_id="waiting", report_path=f"{FOLDER}/reports", sync_args={"max_wait": 600}
)
