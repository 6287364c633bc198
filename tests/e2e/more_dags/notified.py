"""Starts when the operator of another DAG changed a repository, and keeps what it was told."""

import os

from airflow.sdk import DAG, task

from airflow_imagesync.assets import repository_asset

COPY = repository_asset(f"{os.environ['SITE_DESTINATION']}/observed/copy")

with DAG("notified", schedule=COPY) as dag:

    @task
    def told(triggering_asset_events):
        return [{"uri": event.asset.uri, **event.extra} for event in triggering_asset_events[COPY]]

    told()
