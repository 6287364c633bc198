"""A group between other tasks."""

import os

from airflow.sdk import DAG, task

from airflow_imagesync.dag_factory import image_sync_group

FOLDER = os.environ["SITE_FOLDER"]

with DAG("larger", schedule=None, params={"wanted": True}) as dag:

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def wanted(params):
        return params["wanted"]

    @task
    def use_images():
        return "used"

    wanted() >> image_sync_group(f"{FOLDER}/larger.yaml", group_id="images") >> use_images()
