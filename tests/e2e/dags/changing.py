"""A sync whose changes start another DAG."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/changing.yaml", dag_id="changing", report_path=f"{FOLDER}/reports")
