"""The notifier that tells how a sync went, on any of Airflow's notification backends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow.sdk import BaseNotifier

from airflow_imagesync.notifications.backend import Backend
from airflow_imagesync.notifications.log import LogNotifier
from airflow_imagesync.notifications.message import Message, message_of
from airflow_imagesync.notifications.reported import reports_of
from airflow_imagesync.operators.pages import from_anywhere, run_page, task_page


class ImageSyncNotifier(BaseNotifier):
    """
    Tells how a sync went: its DAG and run, what failed and why, the totals, and where the report is.

    As callback of the task ``outcome`` or of the whole DAG, or, by its import path, as the callback of a Deadline
    Alert::

        notify = {"backend": "airflow.providers.slack.notifications.slack.SlackNotifier", "channel": "#images"}
        image_sync_dag(
            ...,
            outcome_args={"on_failure_callback": ImageSyncNotifier(**notify)},
            deadline=DeadlineAlert(
                reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
                interval=timedelta(hours=4),
                callback=AsyncCallback("airflow_imagesync.notifications.image_sync.ImageSyncNotifier", notify),
            ),
        )

    What the message quotes, such as the errors of registries, is never rendered as a template. The link is there when
    ``[api] base_url`` says where Airflow's UI is.

    :param backend: the notifier that sends the message, a class or its import path; None to write it to the log. An
        Alert takes only a path
    :param message_field: the argument of the backend that takes the text; found by its name where it is one of
        MESSAGE_FIELDS. ``payload.description`` is a key in a mapping
    :param subject_field: the argument that takes the subject, likewise; one that you give a value yourself keeps it
    :param context: Airflow's context, where Airflow gives it so
    :param backend_arguments: the backend's other arguments, such as ``channel`` or ``to``; templates where the backend
        takes templates. Name connections, and no secrets: Airflow stores those of an Alert as they are
    :raises ConfigError: when the backend can't be imported, or takes other arguments
    """

    def __init__(
        self,
        backend: str | type[BaseNotifier] | None = None,
        *,
        message_field: str | None = None,
        subject_field: str | None = None,
        context: Any = None,
        **backend_arguments: Any,
    ) -> None:
        super().__init__(context)
        self.backend = Backend(
            backend or LogNotifier, backend_arguments, message_field=message_field, subject_field=subject_field
        )
        self.backend_arguments = backend_arguments

    def notify(self, context: Any) -> None:
        """
        Send the message.

        :param context: that of a task that ended, or of a DAG whose run did
        """
        self.backend.notify(self._rendered(context), self.message(context), context)
        self.log.info("%s sent the message", self.backend.name)

    async def async_notify(self, context: Any) -> None:
        """
        Send the message.

        :param context: that of a missed deadline
        """
        await self.backend.async_notify(self._rendered(context), self.message(context), context)
        self.log.info("%s sent the message", self.backend.name)

    def message(self, context: Any) -> Message:
        """
        Return what there is to say.

        :param context: that of a task, a DAG or a deadline
        """
        if "deadline" in context:
            return _deadline_message(context)
        ti = context.get("ti")
        dag_id = context["dag"].dag_id if "dag" in context else ti.dag_id
        run_id = str(context.get("run_id") or ti.run_id)
        reported = reports_of(context, self.log)
        page = task_page(dag_id, run_id, *reported.task) if reported.task is not None else run_page(dag_id, run_id)
        return message_of(reported.how, dag_id, run_id, reported.reports, from_anywhere(page))

    def _rendered(self, context: Any) -> dict[str, Any]:
        environment = self.get_template_env(context.get("dag"))
        return {
            name: self.render_template(value, context, environment) if self.backend.is_template(name) else value
            for name, value in self.backend_arguments.items()
        }


def _deadline_message(context: Mapping[str, Any]) -> Message:
    """Return the message of a missed deadline: Airflow tells the run and the time, and nothing of its tasks."""
    run = context["dag_run"]
    dag_id, run_id = str(run["dag_id"]), str(run["dag_run_id"])
    deadline = context["deadline"]["deadline_time"]
    if isinstance(deadline, str):
        deadline = datetime.fromisoformat(deadline)
    summary = f"its deadline was {deadline:%Y-%m-%d %H:%M:%S %Z}, and the run is {run.get('state') or 'not done'}"
    link = from_anywhere(run_page(dag_id, run_id))
    return message_of("not done by its deadline", dag_id, run_id, [("", {"summary": summary})], link)
