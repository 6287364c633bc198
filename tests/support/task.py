"""A task's surroundings, as far as the operators look at them: XComs and the task state store, in memory."""

from __future__ import annotations

import json
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors


class Run:
    """A DAG run that keeps what its tasks push; values go through JSON, as Airflow's do."""

    def __init__(self, dag_id: str = "a_dag", run_id: str = "manual__2026-01-01T00:00:00+00:00") -> None:
        self.dag_id = dag_id
        self.run_id = run_id
        self.xcoms: dict[tuple[str, str], dict[int, Any]] = {}
        self.states: dict[str, str] = {}
        self.stores: dict[tuple[str, int], dict[str, Any]] = {}
        #: What the task that was executed last adds, which Airflow drops if the task fails.
        self.outlet_events = OutletEventAccessors()

    def execute(
        self,
        operator: BaseOperator,
        *,
        map_index: int = -1,
        store: bool = True,
        deferred: TaskDeferred | None = None,
        **more: Any,
    ) -> Any:
        """Run a task once more, as Airflow does: without its earlier XComs, with what it keeps in its state store.

        `deferred` is how it left, for one that goes on, whose XComs are kept. `more` is in its context, such as
        ``params``.
        """
        ti = TaskInstance(self, operator.task_id, map_index)
        for (task_id, _), by_index in self.xcoms.items():
            if task_id == operator.task_id and deferred is None:
                by_index.pop(map_index, None)
        self.outlet_events = OutletEventAccessors()
        context: dict[str, Any] = {"ti": ti, "run_id": self.run_id, "outlet_events": self.outlet_events, **more}
        if store:
            context["task_state_store"] = StateStore(self.stores.setdefault((operator.task_id, map_index), {}))
        operator.render_template_fields(context)  # type: ignore[arg-type]
        if deferred is None:
            result = operator.execute(context)  # type: ignore[arg-type]
        else:
            kwargs = {**json.loads(json.dumps(deferred.kwargs or {})), "event": "the time"}
            result = operator.resume_execution(deferred.method_name, kwargs, context)  # type: ignore[arg-type]
        if result is not None:
            ti.xcom_push("return_value", result)
        return result

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return self.xcoms[task_id, key][map_index]


class TaskInstance:
    def __init__(self, run: Run, task_id: str, map_index: int) -> None:
        self.run = run
        self.dag_id = run.dag_id
        self.run_id = run.run_id
        self.task_id = task_id
        self.map_index = map_index

    def xcom_push(self, key: str, value: Any) -> None:
        by_index = self.run.xcoms.setdefault((self.task_id, key), {})
        by_index[self.map_index] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: int | None = None) -> Any:
        by_index = self.run.xcoms.get((task_ids, key), {})
        if map_indexes is not None:
            return by_index.get(map_indexes)
        values = [by_index[index] for index in sorted(by_index)]
        return None if not values else values[0] if len(values) == 1 else values

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        return {self.run.run_id: {key: state for key, state in self.run.states.items() if key in task_ids}}


class StateStore:
    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self._values[key] = json.loads(json.dumps(value))
