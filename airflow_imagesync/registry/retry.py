"""Trying again what failed temporarily: how often, and how long to wait in between."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from airflow_imagesync.errors import ImageSyncError, SyncCancelled

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The longest wait, in seconds, that is sat out here. Docker Hub's window is six hours: whoever schedules the run
#: is better placed to wait for that.
MAX_RETRY_AFTER = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How what failed temporarily is tried again.

    ``retries`` counts the tries after the first. Waits begin at ``first_wait`` seconds and double up to ``max_wait``, with up to
    half taken off by chance so that many clients do not come back at once; a registry's Retry-After is
    waited for instead, if it is at most a minute. ``cancelled`` ends every wait and every further try.
    """

    retries: int = 3
    first_wait: float = 0.5
    max_wait: float = 30.0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def call(self, function: Callable[[], T], what: str) -> T:
        """Return what `function` returns, called again while it raises temporary errors of ours.

        `what` names the exchange in the log. Raises the last error, or SyncCancelled.
        """
        self.check()
        try:
            return function()
        except ImageSyncError as error:
            # tenacity costs more than a HEAD's own bookkeeping, so it comes in only when something failed.
            if not self.should_retry(error):
                raise self.unless_cancelled(error) from error
            first = error
        retrying = Retrying(
            stop=stop_after_attempt(self.retries + 1),
            retry=retry_if_exception(self.should_retry),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
            before_sleep=lambda state: self._log(state, what),
        )
        failures = iter([first])

        def attempt() -> T:
            for failure in failures:
                raise failure
            self.check()
            return function()

        try:
            return retrying(attempt)
        except ImageSyncError as error:
            raise self.unless_cancelled(error) from error

    def check(self) -> None:
        """Raise SyncCancelled when the run was told to stop."""
        if self.cancelled.is_set():
            raise SyncCancelled("the run was stopped before this was finished")

    def unless_cancelled(self, error: ImageSyncError) -> ImageSyncError:
        """Return `error`, or SyncCancelled in its place when the run was told to stop: it is why connections broke."""
        if self.cancelled.is_set() and not isinstance(error, SyncCancelled):
            return SyncCancelled("the run was stopped before this was finished")
        return error

    def should_retry(self, error: BaseException) -> bool:
        """Whether `error` may pass by itself and soon enough."""
        if not isinstance(error, ImageSyncError) or not error.temporary or isinstance(error, SyncCancelled):
            return False
        too_long = (getattr(error, "retry_after", None) or 0) > MAX_RETRY_AFTER
        return self.retries > 0 and not too_long and not self.cancelled.is_set()

    def wait_before(self, attempt: int, error: BaseException | None = None) -> float:
        """Return the seconds to wait after the `attempt`-th try (from 1) failed with `error`."""
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return float(min(asked, MAX_RETRY_AFTER))
        full = min(self.max_wait, self.first_wait * 2.0 ** (attempt - 1))
        return float(full * random.uniform(0.5, 1.0))  # noqa: S311  # no secret: only spreads the load

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return self.wait_before(state.attempt_number, error)

    def _sleep(self, seconds: float) -> None:
        self.cancelled.wait(seconds)

    def _log(self, state: RetryCallState, what: str) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        logger.info(
            "%s failed (try %d of %d), again in %.1f s: %s",
            what, state.attempt_number, self.retries + 1, state.next_action.sleep if state.next_action else 0.0, error,
        )
