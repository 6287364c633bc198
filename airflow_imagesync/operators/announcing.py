"""Announces what a run changed, each image once, also when tasks of the run are cleared and run again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_imagesync.domain.report import ImageResult
from airflow_imagesync.operators.asset_events import emit
from airflow_imagesync.operators.task_state import TaskState

if TYPE_CHECKING:
    from airflow.sdk import AssetAlias, Context

#: The XCom, and the key in the task state store, with what was announced.
ANNOUNCED_KEY = "announced"


def announce(
    context: Context, alias: AssetAlias | None, images: Iterable[ImageResult], before: Iterable[str] = ()
) -> None:
    """
    Emit asset events for the copied images that were not announced before, and remember that.

    What is remembered are fingerprints of a destination with its digest. Airflow's task state store, there since
    Airflow 3.3, outlives a clear; without it, a task that is cleared announces everything again. To be called when
    nothing can fail any more: Airflow drops the events of a task that fails.

    :param context: the context of the task
    :param alias: the alias among the task's outlets; without one, nobody is told
    :param images: the results of the run
    :param before: what another task of the run has announced
    """
    if alias is None:
        return
    images = list(images)
    state = TaskState(context)
    kept = state.get(ANNOUNCED_KEY, "what was announced before can't be read, and is announced again")
    told = {*before, *(kept if isinstance(kept, list) else ())}
    already = [row for row in ((one.destination, one.digest) for one in images) if _fingerprint(*row) in told]
    fresh = {_fingerprint(*row) for row in emit(context, alias, images, already=already)}
    announced = sorted(told | fresh)
    if announced:
        ti: Any = context["ti"]
        ti.xcom_push(key=ANNOUNCED_KEY, value=announced)
    if fresh:
        state.set(ANNOUNCED_KEY, announced, "what was announced can't be kept, and is announced again after a clear")


def _fingerprint(destination: str | None, digest: str | None) -> str:
    return hashlib.sha256(f"{destination} {digest}".encode()).hexdigest()[:12]
