"""Waits for an image, and uses what it was found to be."""

import os

from airflow.sdk import DAG, task

from airflow_imagesync.sensors.image import ImageSensor

SOURCE = os.environ["SITE_SOURCE"]

with DAG("awaited", schedule=None, params={"tag": "v1"}) as dag:

    @task
    def use(image):
        return image["digest"]

    wait = ImageSensor(
        task_id="wait",
        image=SOURCE + "/awaited/app:{{ params.tag }}",
        platform="linux/arm64",
        conn_id="watched",
        poke_interval=1,
        timeout=300,
    )
    use(wait.output)
