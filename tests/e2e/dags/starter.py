"""Starts another DAG with a conf, as one that moves a cluster does."""

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

with DAG("starter", schedule=None, params={"starts": "", "conf": {}}, render_template_as_native_obj=True) as dag:
    TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id="{{ params.starts }}",
        conf="{{ params.conf }}",
        wait_for_completion=True,
        poke_interval=1,
    )
