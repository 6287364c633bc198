"""Trying again what failed temporarily: how often, and how long to wait in between."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from airflow_imagesync.errors import DigestMismatch, ImageSyncError, RegistryError, SyncCancelled

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The longest wait, in seconds, that is usually sat out here when a registry asks for it. Docker Hub's window is six
#: hours: whoever schedules the run is better placed to wait for that.
MAX_RETRY_AFTER = 60.0
#: What is said of everything that a stopped run leaves undone.
STOPPED = "the run was stopped before this was finished"


@dataclass(frozen=True)
class RetryPolicy:
    """How what failed temporarily is tried again.

    ``retries`` counts the tries after the first. Waits begin at ``first_wait`` seconds and double up to
    ``max_wait``, with up to half taken off by chance so that many clients do not come back at once; a registry's
    Retry-After comes on top if it is at most ``longest_wait`` seconds, and with a longer one there is no further try.
    ``cancelled`` ends every wait and every further try. ``on_repeat`` is called before each further try.
    """

    retries: int = 3
    first_wait: float = 0.5
    max_wait: float = 30.0
    longest_wait: float = MAX_RETRY_AFTER
    cancelled: threading.Event = field(default_factory=threading.Event)
    on_repeat: Callable[[], None] | None = field(default=None, compare=False)

    def call(self, function: Callable[[], T], what: str) -> T:
        """Return what `function` returns, called again while it raises temporary errors of ours.

        Content that does not hash to its digest is fetched once more: once may be a bad wire, twice is a damaged
        source, or a destination that alters what it gets. `what` names the exchange in the log. Raises the last error,
        or SyncCancelled.
        """
        self.check()
        try:
            return function()
        except ImageSyncError as error:
            # tenacity costs more than a HEAD's own bookkeeping, so it comes in only when something failed.
            content_was_wrong = says_wrong_content(error) and not error.tried
            error.temporary = error.temporary or content_was_wrong
            if not self.should_retry(error):
                raise self.final(error) from error.__cause__
            first = error
        retrying = Retrying(
            stop=stop_after_attempt(self.retries + 1),
            retry=retry_if_exception(self.should_retry),
            wait=self._wait,
            sleep=self.sleep,
            reraise=True,
            before_sleep=lambda state: self._log(state, what),
        )
        failures = [first]

        def attempt() -> T:
            nonlocal content_was_wrong
            if failures:
                raise failures.pop()
            self.check()
            self.repeated()
            try:
                return function()
            except ImageSyncError as error:
                if says_wrong_content(error):
                    error.temporary, content_was_wrong = not content_was_wrong, True
                raise

        try:
            return retrying(attempt)
        except ImageSyncError as error:
            raise self.final(error) from error.__cause__

    def repeated(self) -> None:
        """Tell that something is tried once more."""
        if self.on_repeat is not None:
            self.on_repeat()

    def check(self) -> None:
        """Raise SyncCancelled when the run was told to stop."""
        if self.cancelled.is_set():
            raise SyncCancelled(STOPPED)

    def final(self, error: ImageSyncError) -> ImageSyncError:
        """Return what to raise when `error` is not retried (any more).

        That is `error`, marked so that nobody above tries all of it again, and with the time when to, where that was
        too long to wait for; SyncCancelled when the run was told to stop, since that is why connections broke.
        """
        if self.cancelled.is_set() and not isinstance(error, SyncCancelled):
            return SyncCancelled(STOPPED)
        if error.temporary and error.retry_at is None and (asked := _asked_wait(error)) > self.longest_wait:
            error.retry_at = time.time() + asked
        error.tried = True
        return error

    def should_retry(self, error: BaseException) -> bool:
        """Whether `error` may pass by itself and soon enough."""
        if not isinstance(error, ImageSyncError) or not error.temporary or error.tried:
            return False
        too_long = _asked_wait(error) > self.longest_wait
        return self.retries > 0 and not too_long and not self.cancelled.is_set()

    def wait_before(self, attempt: int, error: BaseException | None = None) -> float:
        """Return the seconds to wait after the `attempt`-th try (from 1) failed with `error`."""
        full = min(self.max_wait, self.first_wait * 2.0 ** min(attempt - 1, 32))
        asked = min(_asked_wait(error), self.longest_wait)
        # At least what was asked for: all that were refused together would come back together.
        return float(asked + full * random.uniform(0.5, 1.0))  # noqa: S311  # no secret: only spreads the load

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run is told to stop."""
        self.cancelled.wait(min(seconds, threading.TIMEOUT_MAX))

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return self.wait_before(state.attempt_number, error)

    def _log(self, state: RetryCallState, what: str) -> None:
        logger.info(
            "%s failed (try %d of %d), again in %.1f s: %s",
            what,
            state.attempt_number,
            self.retries + 1,
            state.next_action.sleep if state.next_action is not None else 0.0,
            state.outcome.exception() if state.outcome is not None else None,
        )


def _asked_wait(error: BaseException | None) -> float:
    return getattr(error, "retry_after", None) or 0.0


def says_wrong_content(error: ImageSyncError) -> bool:
    """Whether what arrived at one side was not what the digest says; to be sent once more, see RetryPolicy.call."""
    return isinstance(error, DigestMismatch) or (isinstance(error, RegistryError) and "DIGEST_INVALID" in error.codes)
