"""A sync whose configuration names a variable that is not set."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/unset.yaml", dag_id="unset", report_path=f"{FOLDER}/reports")
