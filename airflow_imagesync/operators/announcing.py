"""Announces what a run changed, each image once, also when tasks of the run are cleared and run again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.operators.asset_events import emit

if TYPE_CHECKING:
    from airflow.sdk import AssetAlias, Context

#: The XCom, and the key in the task state store, with what was announced.
ANNOUNCED_KEY = "announced"

logger = logging.getLogger(__name__)


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
    ti: Any = context["ti"]
    store: Any = context.get("task_state_store")
    told = {*before, *_remembered(store)}
    fresh = [one for one in images if one.state is ResultState.COPIED and _fingerprint(one) not in told]
    emit(context, alias, fresh)
    announced = sorted(told.union(_fingerprint(one) for one in fresh))
    if not announced:
        return
    ti.xcom_push(key=ANNOUNCED_KEY, value=announced)
    if store is not None and fresh:
        try:
            store.set(ANNOUNCED_KEY, announced)
        except Exception:  # whatever a store's backend raises
            logger.warning("what was announced can't be kept, and is announced again after a clear", exc_info=True)


def _remembered(store: Any) -> list[str]:
    if store is None:
        return []
    try:
        kept = store.get(ANNOUNCED_KEY, default=None)
    except Exception:  # whatever a store's backend raises
        logger.warning("what was announced before can't be read, and is announced again", exc_info=True)
        return []
    return kept if isinstance(kept, list) else []


def _fingerprint(image: ImageResult) -> str:
    return hashlib.sha256(f"{image.destination} {image.digest}".encode()).hexdigest()[:12]
