"""Keeps registries in sync every night, as imagesync.yaml beside this file says."""

import os
from datetime import datetime
from pathlib import Path

from airflow_imagesync.dag_factory import image_sync_dag

dag = image_sync_dag(
    os.environ.get("IMAGESYNC_CONFIG") or Path(__file__).with_name("imagesync.yaml"),
    dag_id="nightly_sync",
    description="Incremental image sync between registries",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    report_path=os.environ.get("IMAGESYNC_REPORTS"),
)
