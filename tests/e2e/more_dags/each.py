"""The operator mapped over sources that are known before a run."""

import os

from airflow.sdk import DAG

from airflow_imagesync.operators.image_sync import ImageSyncOperator

SOURCE = f"{os.environ['SITE_SOURCE']}/each/app"

with DAG("each", schedule=None) as dag:
    ImageSyncOperator.partial(
        task_id="sync",
        destination=f"{os.environ['SITE_DESTINATION']}/each/copy",
        source_conn_id="src",
        destination_conn_id="plain",
    ).expand(source=[f"{SOURCE}:v1", f"{SOURCE}:v2"])
