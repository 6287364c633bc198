"""Copies one image and fails to find another, and tells of it by mail: once as a task, once as a DAG."""

import os

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.notifications.image_sync import ImageSyncNotifier

SOURCE, DESTINATION = os.environ["SITE_SOURCE"], os.environ["SITE_DESTINATION"]


def mail(to):
    backend = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
    return ImageSyncNotifier(backend, to=to, smtp_conn_id="feedback_mail")


dag = image_sync_dag(
    dag_id="feedback",
    rules=[
        {"source": f"{SOURCE}/feedback/app:v1", "destination": f"{DESTINATION}/feedback/copy"},
        {"source": f"{SOURCE}/feedback/gone:v1", "destination": f"{DESTINATION}/feedback/gone"},
    ],
    source_conn_id="src",
    destination_conn_id="plain",
    outcome_args={"on_failure_callback": mail("task-{{ ti.task_id }}@example.com")},
    on_failure_callback=mail("dag@example.com"),
)
