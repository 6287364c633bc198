"""The operator that hands out units of a plan, once a person has approved it where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.render import count_of, human_seconds
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.arguments import as_bool
from airflow_imagesync.operators.plan import PLAN_MARKDOWN_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom that says what was decided: ``approved`` and by whom, or the ``error`` for which nothing was.
DECISION_KEY = "decision"


class ImageSyncApprovalOperator(ApprovalOperator):
    """
    Hands out the units of a plan that ImageSyncOperator is mapped over, after a person has approved it.

    The plan is the body of the request, which Airflow shows under Required Actions. What is rejected hands out
    nothing, so that the mapped task is skipped; without an answer within `response_timeout` the task fails, and
    clearing it asks again. With nothing to copy, and where `approval` comes out false, nobody is asked.

    :param plan_task_id: the task that planned
    :param units: which units are handed out: ``all``, ``pilot`` for those that go first, or ``rest`` for the others
    :param pilot_task_id: for the rest, the task of this kind that handed out the pilot; a person is asked again only
        where there was one
    :param approval: whether to ask (templated)
    :param response_timeout: how long to wait for an answer, for ever without it

    The other parameters are those of ApprovalOperator; subject and body say what is to be copied.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "approval")
    ui_color = "#f3e6fa"

    def __init__(
        self,
        *,
        plan_task_id: str,
        units: Literal["all", "pilot", "rest"] = "all",
        pilot_task_id: str | None = None,
        approval: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(subject="Copy what is planned?", **kwargs)
        self.plan_task_id = plan_task_id
        self.units = units
        self.pilot_task_id = pilot_task_id
        self.approval = approval

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the units at once where nobody is to be asked, else wait for a person."""
        ti: Any = context["ti"]
        try:
            ask = as_bool(self.approval, "approval")
        except ConfigError as error:
            raise self._undecided(ti, str(error)) from None
        planned = self._planned(ti)
        units = self._handed_out(ti, planned)
        if self.units == "rest":
            ask = ask and bool(units) and any(unit["pilot"] for unit in planned)
        waiting = count_of(_images(units), "image")
        if not ask or not planned:
            self.log.info("nobody is asked for %s", waiting)
            return units
        if self.units == "rest":
            self.subject = f"The pilot is copied. Copy the rest, {waiting}?"
        elif self.units == "pilot" and units:
            self.subject = f"Copy what is planned, first a pilot of {waiting}?"
        # Set here and not as a template: what registries have named must not be taken for one.
        self.body = ti.xcom_pull(task_ids=self.plan_task_id, key=PLAN_MARKDOWN_KEY)
        super().execute(context)
        raise AssertionError("unreachable: Airflow goes on in execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the units that a person has approved, none where they were rejected."""
        ti: Any = context["ti"]
        try:
            # Not that of ApprovalOperator: mapped over nothing, what comes next is skipped by itself.
            answer = HITLOperator.execute_complete(self, context, event)
        except HITLTimeoutError:
            waited = human_seconds(self.response_timeout.total_seconds()) if self.response_timeout else "the given time"
            raise self._undecided(
                ti, f"nobody approved within {waited}; clear the task {self.task_id} to ask again"
            ) from None
        approved = self.APPROVE in answer["chosen_options"]
        user = answer.get("responded_by_user") or {}
        by = str(user.get("name") or user.get("id") or "an unnamed user")
        ti.xcom_push(key=DECISION_KEY, value={"approved": approved, "by": by})
        self.log.info("%s by %s", "approved" if approved else "rejected", by)
        return self._handed_out(ti, self._planned(ti)) if approved else []

    def _planned(self, ti: Any) -> list[dict[str, Any]]:
        return ti.xcom_pull(task_ids=self.plan_task_id) or []

    def _handed_out(self, ti: Any, planned: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.units == "all":
            return planned
        if self.units == "rest":
            decision = ti.xcom_pull(task_ids=self.pilot_task_id, key=DECISION_KEY) or {}
            if decision.get("approved") is False:
                return []
        return [unit for unit in planned if unit["pilot"] is (self.units == "pilot")]

    def _undecided(self, ti: Any, error: str) -> AirflowFailException:
        """Return the failure of a task that nobody decided, after noting it for the report."""
        ti.xcom_push(key=DECISION_KEY, value={"error": error})
        return AirflowFailException(f"{error}; nothing was copied")


def _images(units: list[dict[str, Any]]) -> int:
    return sum(Unit.load(unit).size for unit in units)
