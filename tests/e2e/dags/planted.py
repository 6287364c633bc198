"""A sync with secrets of all kinds in its configuration."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/planted.yaml", dag_id="planted", report_path=f"{FOLDER}/reports")
