"""A whole sync, in units of two images."""

import os

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
dag = image_sync_dag(f"{FOLDER}/nightly.yaml", dag_id="nightly", images_per_unit=2, report_path=f"{FOLDER}/reports")
