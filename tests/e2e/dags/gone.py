"""A sync whose configuration is taken away after this file was parsed."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/gone.yaml", dag_id="gone", report_path=f"{FOLDER}/reports")
