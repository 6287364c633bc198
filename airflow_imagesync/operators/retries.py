"""When Airflow tries a task again that a registry's limit held up: not before the registry wants to see it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_imagesync.domain.render import human_seconds, utc_time
from airflow_imagesync.domain.report import ImageResult
from airflow_imagesync.domain.verification import VerifiedImage
from airflow_imagesync.errors import ImagesFailed, ImageSyncError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context, RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk import RetryDecision, RetryPolicy
    except ImportError:  # before Airflow 3.3
        RetryDecision, RetryPolicy = None, object

#: How much later than asked for a task goes on at the latest, as a part of the wait and in seconds: so that many tasks
#: that wait for one registry do not come back at once.
_SPREAD, _MOST_SPREAD = 0.1, 60.0
#: The longest time between two tries, in seconds: a registry that asks for more is asked once a day all the same.
_LONGEST = 86400.0


class RegistryRetryPolicy(RetryPolicy):
    """
    Tries again when the registry allows it, instead of after ``retry_delay``, and never what can't pass.

    It takes Airflow 3.3, where ImageSyncOperator has it unless ``retry_policy`` says otherwise; before, every retry
    waits for ``retry_delay``. Where other images failed for other reasons, ``retry_delay`` is kept to as well. No
    wait is longer than a day, and there are no more tries than ``retries`` says.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002  # what Airflow passes
        max_tries: int,  # noqa: ARG002
        context: Context | None = None,
    ) -> RetryDecision:
        """
        Decide when to try again.

        :param exception: what the task failed with; only errors of this package are judged
        :param try_number: the number of the try that failed, from 1
        :param max_tries: how many tries there may be
        :param context: the context of the task
        """
        if not isinstance(exception, ImageSyncError):
            return RetryDecision.default()
        if not exception.temporary:
            return RetryDecision.fail(reason="trying again would not help")
        if exception.retry_at is None:
            return RetryDecision.default()
        wait = spread(max(0.0, exception.retry_at - time.time()))
        if not getattr(exception, "only_time", True) and wait <= _usual_delay(context):
            return RetryDecision.default()
        wait = min(wait, _LONGEST)
        reason = f"a registry is to be left alone until {utc_time(exception.retry_at)}: again in {human_seconds(wait)}"
        return RetryDecision.retry(timedelta(seconds=wait), reason=reason)


def keep_to_limits(operator: BaseOperator) -> None:
    """
    Give an operator the policy of this module where Airflow has policies and the operator none.

    :param operator: the operator; a mapped one gets it when it is unmapped
    """
    if getattr(operator, "retry_policy", ...) is None:
        operator.retry_policy = RegistryRetryPolicy()


def images_failed(message: str, failed: Iterable[ImageResult | VerifiedImage]) -> ImagesFailed:
    """
    Return the error of a task of which at least one image may succeed in another try.

    :param message: what failed
    :param failed: the images that did
    """
    times = [one.retry_at for one in failed if one.temporary]
    known = [one for one in times if one is not None]
    return ImagesFailed(message, retry_at=max(known, default=None), only_time=len(known) == len(times))


def spread(wait: float) -> float:
    """
    Return a wait that is a little longer, by chance.

    :param wait: how long a registry wants to be left alone, in seconds
    """
    return wait + min(_MOST_SPREAD, wait * _SPREAD) * random.uniform(0.1, 1.0)  # noqa: S311  # no secret


def _usual_delay(context: Context | None) -> float:
    """Return the least that the task waits between two tries by itself, in seconds."""
    task: Any = context.get("task") if context is not None else None
    delay = getattr(task, "retry_delay", None)
    return delay.total_seconds() if isinstance(delay, timedelta) else 0.0
