"""The operator in a DAG that tells OpenLineage what it does."""

import os

from airflow.providers.openlineage.utils.selective_enable import enable_lineage
from airflow.sdk import DAG

from airflow_imagesync.operators.image_sync import ImageSyncOperator

with DAG("observed", schedule=None) as dag:
    enable_lineage(
        ImageSyncOperator(
            task_id="sync",
            source=f"{os.environ['SITE_SOURCE']}/observed/app",
            destination=f"{os.environ['SITE_DESTINATION']}/observed/copy",
            source_conn_id="src",
            destination_conn_id="plain",
        )
    )
