"""The notification backend that is there on every machine: the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseNotifier


class LogNotifier(BaseNotifier):
    """
    Writes a message to the log of the process that notifies: a task's, the DAG processor's or the triggerer's.

    :param message: what to write (templated)
    :param level: the name of a level of Python's logging
    :raises ValueError: when there is no such level
    """

    template_fields: Sequence[str] = ("message",)

    def __init__(self, message: str, *, level: str = "WARNING", context: Any = None) -> None:
        super().__init__(context)
        levels = logging.getLevelNamesMapping()
        if level.upper() not in levels:
            raise ValueError(f"there is no log level {level!r}; expected one of {', '.join(levels)}")
        self.message = message
        self.level = levels[level.upper()]

    def notify(self, context: Any) -> None:  # noqa: ARG002  # what Airflow passes
        """
        Write the message.

        :param context: the task's context, which says nothing more
        """
        self.log.log(self.level, "%s", self.message)

    async def async_notify(self, context: Any) -> None:
        """
        Write the message.

        :param context: the context of the deadline, which says nothing more
        """
        self.notify(context)
