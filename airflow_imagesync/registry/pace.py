"""When the next request may be sent to a registry: not before the time it named, and only so many a second."""

from __future__ import annotations

import logging
import threading
import time

from airflow_imagesync.domain.render import human_seconds, utc_time
from airflow_imagesync.errors import RateLimited
from airflow_imagesync.registry.retry import RetryPolicy

logger = logging.getLogger(__name__)

#: Holds from this long on, in seconds, are worth a warning: a person would wonder why nothing happens.
_WORTH_A_WARNING = 10.0
#: Answers that refuse requests of the same moment name times that differ by so much, in seconds: they are one hold.
_SAME_HOLD = 1.5


class Pace:
    """Spreads the requests to one registry evenly, and keeps to the Retry-After it answered; for many threads.

    `registry` is its name, for messages. `per_second` is how many requests may begin in a second, None for no bound.
    """

    def __init__(self, registry: str = "the registry", per_second: float | None = None) -> None:
        self._registry = registry
        self._interval = 1.0 / per_second if per_second is not None else 0.0
        self._lock = threading.Lock()
        # By the monotonic clock, 0 for none.
        self._next = 0.0
        self._not_before = 0.0
        self._told = 0.0

    @property
    def held_for(self) -> float:
        """How many seconds it is until the registry takes requests again."""
        return max(0.0, self._not_before - time.monotonic()) if self._not_before else 0.0

    def begin(self, retry: RetryPolicy) -> None:
        """Wait until one request may be sent.

        Raises RateLimited, without waiting, when the registry asked for a longer wait than `retry` sits out;
        SyncCancelled when the run is told to stop.
        """
        if not self._interval and not self._not_before:
            return
        self.wait_for_hold(retry)
        while self._interval:
            with self._lock:
                now = time.monotonic()
                turn = max(now, self._next)
                self._next = turn + self._interval
            if turn > now:
                retry.sleep(turn - now)
                retry.check()
            if not self._not_before:
                return
            self.wait_for_hold(retry)  # it began meanwhile: all who waited for that must be spread anew

    def wait_for_hold(self, retry: RetryPolicy) -> None:
        """Wait until the registry takes requests again; raises as `begin` does."""
        while self._not_before:
            left = self._not_before - time.monotonic()
            if left <= 0:
                with self._lock:
                    if self._not_before <= time.monotonic():
                        self._not_before = 0.0
                return
            if left > retry.longest_wait:
                raise RateLimited(
                    f"{self._registry} asked to be left alone until {utc_time(time.time() + left)}, for another "
                    f"{human_seconds(left)}: nothing was sent; try again then",
                    retry_after=left,
                )
            retry.sleep(left)
            retry.check()

    def hold(self, seconds: float, retry: RetryPolicy) -> None:
        """Send nothing for so many seconds, as the registry asked."""
        with self._lock:
            until = time.monotonic() + seconds
            if until <= self._not_before:
                return
            self._not_before = until
            known, self._told = until - self._told < _SAME_HOLD, max(self._told, until)
        if known:
            return
        logger.log(
            logging.WARNING if seconds >= _WORTH_A_WARNING else logging.INFO,
            "%s asks to wait %s, until %s: %s",
            self._registry,
            human_seconds(seconds),
            utc_time(time.time() + seconds),
            "waiting" if seconds <= retry.longest_wait else "what still needs it fails for now",
        )
