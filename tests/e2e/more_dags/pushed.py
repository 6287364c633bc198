"""A sync that starts by itself when a tag at the source is new or names another image."""

import json
import os

from airflow.sdk import Asset, AssetWatcher

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.triggers.image_tag import ImageTagTrigger

SOURCE = f"{os.environ['SITE_SOURCE']}/pushed/app"
DESTINATION = f"{os.environ['SITE_HTPASSWD']}/pushed/app"

tags = ImageTagTrigger(f"{SOURCE}:/^v/", conn_id="watched", poll_interval=1)
dag = image_sync_dag(
    dag_id="pushed",
    rules=json.dumps({"rules": [{"source": f"{SOURCE}:/^v/", "destination": DESTINATION}]}),
    source_conn_id="src",
    destination_conn_id="dst",
    schedule=Asset("pushed", f"oci://{SOURCE}", watchers=[AssetWatcher(name="tags", trigger=tags)]),
)
