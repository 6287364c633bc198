"""Starts when an image changed, and keeps what it was told."""

import os

from airflow.sdk import DAG, Asset, task

CHANGED = Asset(f"oci://{os.environ['SITE_DESTINATION']}/changing/app")

with DAG("consumer", schedule=CHANGED) as dag:

    @task
    def told(triggering_asset_events):
        return [{"uri": event.asset.uri, **event.extra} for event in triggering_asset_events[CHANGED]]

    told()
