"""The operator in somebody's own DAG."""

import os
from datetime import timedelta

from airflow.sdk import DAG

from airflow_imagesync.operators.image_sync import ImageSyncOperator

FOLDER = os.environ["SITE_FOLDER"]
HTPASSWD = os.environ["SITE_HTPASSWD"]

with DAG("own", schedule=None, params={"tag": "v1"}) as dag:
    ImageSyncOperator(
        task_id="by_connections",
        source="{{ conn.src.host }}/own/app:{{ params.tag }}",
        destination=HTPASSWD + "/own/{{ dag.dag_id }}",
        source_conn_id="src",
        destination_conn_id="{{ 'd' ~ 'st' }}",
    )
    ImageSyncOperator(
        task_id="by_file",
        config=f"{FOLDER}/own.yaml",
        request_retries=0,
        retries=2,
        retry_delay=timedelta(seconds=6),
    )
