"""Asset events of the repositories that a run changed, which other DAGs start from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias

from airflow_imagesync.assets import repository_asset
from airflow_imagesync.domain.changes import changes
from airflow_imagesync.domain.report import ImageResult

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

_ALIAS = "imagesync"


def alias_of(dag_id: str | None) -> AssetAlias:
    """
    Return the alias by which the tasks of a DAG emit events: which repositories change is known only in a run.

    A task must have it among its outlets when the DAG is parsed. A DAG that is scheduled on it starts after any change.

    :param dag_id: id of the DAG; None where it is not known
    """
    if not dag_id:
        return AssetAlias(_ALIAS)
    return AssetAlias(dag_id if dag_id.startswith(f"{_ALIAS}_") else f"{_ALIAS}_{dag_id}")


def alias_among(outlets: Iterable[Any]) -> AssetAlias | None:
    """
    Return the alias in a task's outlets, the first if there are several; None if there is none.

    :param outlets: the task's outlets
    """
    return next((one for one in outlets if isinstance(one, AssetAlias)), None)


def add_alias(operator: BaseOperator) -> None:
    """
    Give an operator the alias of its DAG among its outlets, where it has none.

    :param operator: the operator, as it is made
    """
    if alias_among(operator.outlets) is None:
        dag = operator.get_dag()
        operator.outlets = [*operator.outlets, alias_of(dag.dag_id if dag is not None else None)]


def emit(
    context: Context,
    alias: AssetAlias,
    results: Iterable[ImageResult],
    *,
    already: Iterable[Collection[str | None]] = (),
) -> list[list[str | None]]:
    """
    Add an event for each destination repository that changed, and for each source it has that from.

    Airflow keeps the events when the task succeeds, and drops them when it fails.

    :param context: the context of the task
    :param alias: the alias among the task's outlets
    :param results: what became of the images; those that were copied are changes
    :param already: destination and digest of what was announced before, and is left out
    :return: destination and digest of what is announced now
    """
    found = changes(results, already)
    if not found:
        return []
    events: Any = context["outlet_events"]
    run_id = str(context["run_id"])
    for one in found:
        events[alias].add(repository_asset(one.destination), extra=one.details(run_id))
    return [row for one in found for row in one.announced]
