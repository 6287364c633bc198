"""What a task keeps over its tries and clears, as hints: in Airflow's task state store, there since Airflow 3.3."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)


class TaskState:
    """
    The state store of a task; without one nothing is kept, and a fault of it harms nothing.

    :param context: the context of the task
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    def get(self, key: str, warning: str) -> Any:
        """
        Return what is kept under a key; None where nothing is.

        :param key: the key
        :param warning: what to log where the store can't be read
        """
        if self._store is None:
            return None
        try:
            return self._store.get(key, default=None)
        except Exception:  # whatever a store's backend raises
            logger.warning("%s", warning, exc_info=True)
            return None

    def set(self, key: str, value: Any, warning: str) -> None:
        """
        Keep a value under a key.

        :param key: the key
        :param value: plain JSON
        :param warning: what to log where it can't be kept
        """
        if self._store is None:
            return
        try:
            self._store.set(key, value)
        except Exception:  # whatever a store's backend raises: what it was kept of is done
            logger.warning("%s", warning, exc_info=True)
