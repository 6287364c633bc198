from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.operators.approval import DECISION_KEY, ImageSyncApprovalOperator
from tests.support.task import Run, TaskInstance


def unit(number: int, *, pilot: bool) -> dict[str, Any]:
    images = [[number, 0, f"src.io/app:v{number}", f"dst.io/app:v{number}"]]
    rules = [{"rule": 0, "source": "src.io/app"}]
    return {"label": "app", "rules": rules, "images": images, "whole": [], "number": number, "pilot": pilot}


UNITS = [unit(0, pilot=True), unit(1, pilot=False), unit(2, pilot=False)]


@pytest.fixture
def run() -> Run:
    run = Run()
    TaskInstance(run, "plan", -1).xcom_push("return_value", UNITS)
    return run


def numbers(units: list[dict[str, Any]]) -> list[int]:
    return [one["number"] for one in units]


def gate(units: Any, task_id: str = "approve", **arguments: Any) -> ImageSyncApprovalOperator:
    if units == "rest":
        arguments["pilot_task_id"] = "approve"
    return ImageSyncApprovalOperator(task_id=task_id, plan_task_id="plan", units=units, **arguments)


def answer(run: Run, operator: ImageSyncApprovalOperator, event: dict[str, Any]) -> list[dict[str, Any]]:
    context: dict[str, Any] = {"ti": TaskInstance(run, operator.task_id, -1)}
    return operator.execute_complete(context, event)  # type: ignore[arg-type]


def choice(option: str, by: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": by,
    }


@pytest.mark.parametrize("approval", [False, "false", "", None], ids=["no", "text", "empty", "none"])
def test_hands_out_its_units_at_once_where_nobody_is_to_be_asked(approval: Any, run: Run) -> None:
    for units, expected in (("all", [0, 1, 2]), ("pilot", [0]), ("rest", [1, 2])):
        assert numbers(run.execute(gate(units, approval=approval))) == expected


def test_nobody_is_asked_when_there_is_nothing_to_copy() -> None:
    run = Run()
    TaskInstance(run, "plan", -1).xcom_push("return_value", [])
    assert run.execute(gate("all")) == []


def test_the_rest_is_asked_for_only_where_there_was_a_pilot(run: Run) -> None:
    TaskInstance(run, "plan", -1).xcom_push("return_value", UNITS[1:])
    assert numbers(run.execute(gate("rest", "approve_rest"))) == [1, 2]


def test_what_a_person_approves_is_handed_out_and_who_it_was_is_kept(run: Run) -> None:
    assert numbers(answer(run, gate("pilot"), choice("Approve", {"id": "7", "name": "ada"}))) == [0]
    assert run.xcom("approve", DECISION_KEY) == {"approved": True, "by": "ada"}


def test_what_a_person_rejects_is_not_handed_out_nor_the_rest(run: Run) -> None:
    assert answer(run, gate("pilot"), choice("Reject")) == []
    assert run.xcom("approve", DECISION_KEY) == {"approved": False, "by": "an unnamed user"}
    assert run.execute(gate("rest", "approve_rest")) == []


def test_without_an_answer_in_time_the_task_fails_with_what_to_do(run: Run) -> None:
    operator = gate("all", response_timeout=timedelta(hours=2))
    timed_out = {"error": "The timeout has passed.", "error_type": "timeout"}
    with pytest.raises(AirflowFailException) as raised:
        answer(run, operator, timed_out)
    said = "nobody approved within 2 h 00 min; clear the task approve to ask again"
    assert str(raised.value) == f"{said}; nothing was copied"
    assert run.xcom("approve", DECISION_KEY) == {"error": said}


def test_an_argument_that_is_neither_yes_nor_no_is_a_mistake(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="approval: 'perhaps' is neither true nor false"):
        run.execute(gate("all", approval="perhaps"))
