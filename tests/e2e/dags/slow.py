"""A sync over a slow line."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/slow.yaml", dag_id="slow", report_path=f"{FOLDER}/reports")
