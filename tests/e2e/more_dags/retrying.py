"""Is tried again by Airflow when a registry asks for more than two seconds, where a minute would be long for a test."""

import os
from datetime import timedelta

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.operators import progress
from airflow_imagesync.operators.image_sync import ImageSyncOperator

FOLDER = os.environ["SITE_FOLDER"]
ImageSyncOperator.longest_wait = 2.0
progress.FIRST_LINE = 1.0
dag = image_sync_dag(
    f"{FOLDER}/retrying.yaml",
    dag_id="retrying",
    report_path=f"{FOLDER}/reports",
    sync_args={"max_wait": 0, "retries": 2, "retry_delay": timedelta(minutes=5)},
)
