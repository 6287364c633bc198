"""Starts a migration with rules of its own, as a DAG that moves a cluster does."""

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

with DAG("starter", schedule=None, params={"rules": ""}) as dag:
    TriggerDagRunOperator(
        task_id="migrate",
        trigger_dag_id="migrate_images",
        conf={
            "rules": "{{ params.rules }}",
            "source_connection": "src",
            "destination_connection": "dst",
        },
        wait_for_completion=True,
        poke_interval=1,
    )
