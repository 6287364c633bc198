"""The operator that compares both sides by digest, for who must sign off that everything is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_imagesync.domain.render import verification_text, verification_verdict
from airflow_imagesync.domain.verification import Verification, VerifiedImage
from airflow_imagesync.engine.records import NO_RECORDS
from airflow_imagesync.errors import SyncCancelled
from airflow_imagesync.operators.approval import DECISION_KEY
from airflow_imagesync.operators.arguments import as_bool
from airflow_imagesync.operators.base import ConfiguredOperator, lines_for_log, mistakes_fail
from airflow_imagesync.operators.plan import PLAN_KEY
from airflow_imagesync.operators.retries import images_failed, keep_to_limits

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The XCom with the totals of a verification, and the first of the images that are not the same.
VERIFICATION_KEY = "verification"
_SHOWN_ERRORS = 3
_KEPT_ROWS = 200
#: An error that names many sources would make a row longer than all others.
_KEPT_CHARACTERS = 1000


class ImageSyncVerifyOperator(ConfiguredOperator):
    """
    Compares every destination tag with its source by digest, and fails when anything is missing or differs.

    Both sides are asked anew, whatever records say, and ``force`` means nothing here. Pushes the XCom ``verification``
    with the ``totals``, the first 200 ``images`` that are not the same and how many ``more`` there are, also when it
    fails; returns the totals. Airflow tries again when nothing is wrong but what could not be compared for now.

    :param verify: whether to do so at all, else this is skipped (templated)
    :param plan_task_id: the task that planned, in a run that may have been a dry run: then this is skipped
    :param approval_task_ids: the tasks in which a person may have rejected something: then this is skipped

    The other parameters are those of ConfiguredOperator.
    """

    template_fields: Sequence[str] = (*ConfiguredOperator.template_fields, "verify")
    ui_color = "#e6f0ff"

    def __init__(
        self,
        *,
        verify: bool | str = True,
        plan_task_id: str | None = None,
        approval_task_ids: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keep_to_limits(self)
        self.verify = verify
        self.plan_task_id = plan_task_id
        self.approval_task_ids = approval_task_ids

    def execute(self, context: Context) -> dict[str, int]:
        """Compare, log and push what was found, and return the totals; fail when anything is not the same."""
        ti: Any = context["ti"]
        with mistakes_fail():
            if not as_bool(self.verify, "verify"):
                raise AirflowSkipException("not asked for")
            if reason := self._nothing_to_verify(ti):
                raise AirflowSkipException(reason)
            config = self.configuration()
            for warning in config.warnings:
                self.log.warning("%s", warning)
            with self.engine(config, NO_RECORDS) as engine:
                verification = engine.verify()
                if engine.cancelled:
                    raise SyncCancelled("verifying was stopped")
        self.log.info("%s", lines_for_log(verification_text(verification)))
        deviations = verification.deviations
        ti.xcom_push(
            key=VERIFICATION_KEY,
            value={
                "summary": verification_verdict(verification),
                "totals": verification.totals,
                "images": [_row(one) for one in deviations[:_KEPT_ROWS]],
                "more": max(0, len(deviations) - _KEPT_ROWS),
            },
        )
        if verification.may_pass:
            raise images_failed(_failure(verification), deviations)
        if deviations:
            raise AirflowFailException(_failure(verification))
        return verification.totals

    def _nothing_to_verify(self, ti: Any) -> str | None:
        if self.plan_task_id is not None:
            planned = ti.xcom_pull(task_ids=self.plan_task_id, key=PLAN_KEY) or {}
            if planned.get("dry_run"):
                return "this was a dry run"
        for task_id in self.approval_task_ids:
            decision = ti.xcom_pull(task_ids=task_id, key=DECISION_KEY) or {}
            if decision.get("approved") is False:
                return f"{task_id} was rejected by {decision['by']}"
        return None


def _row(image: VerifiedImage) -> dict[str, Any]:
    return {**image.as_dict(), "error": image.error[:_KEPT_CHARACTERS] if image.error else None}


def _failure(verification: Verification) -> str:
    """Return what is not the same, in a message that is still readable with many images."""
    deviations = verification.deviations
    lines = [f"{one.source} -> {one.destination}: {one.error}" for one in deviations[:_SHOWN_ERRORS]]
    if len(deviations) > _SHOWN_ERRORS:
        lines.append(f"and {len(deviations) - _SHOWN_ERRORS:,} more, see the log")
    return "\n".join([verification_verdict(verification), *lines])
