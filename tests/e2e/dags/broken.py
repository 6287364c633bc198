"""A sync whose configuration has a mistake in its syntax."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/broken.yaml", dag_id="broken")
