"""A sync whose configuration is there when this file is parsed, and gone when a task is about to run."""

import os
from pathlib import Path

from airflow.sdk import get_parsing_context

from airflow_imagesync.dag_factory import image_sync_dag

FOLDER = os.environ["SITE_FOLDER"]
config = Path(FOLDER, "gone.yaml" if get_parsing_context().task_id is None else "taken-away.yaml")
dag = image_sync_dag(config, dag_id="gone", report_path=f"{FOLDER}/reports")
