"""How many requests may be in flight to one registry at once, which is as many as it bears."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from airflow_imagesync.errors import RateLimited, RegistryError
from airflow_imagesync.registry.pace import Pace
from airflow_imagesync.registry.retry import RetryPolicy

logger = logging.getLogger(__name__)

#: Refusals within so many seconds were for requests of one moment, and count as one.
HALVE_AT_MOST_EVERY = 1.0

_order = itertools.count()


class _Waiting:
    """A thread in the line, with what it wants."""

    __slots__ = ("count", "granted", "taken")

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.granted = threading.Lock()
        self.granted.acquire()


class Limiter:
    """A number of slots, taken by threads; a thread that holds some passes freely.

    A slot covers a request until its body is read. A transfer takes the slots for all of its requests at once, so that
    no two transfers can wait for each other in the middle.

    There are `slots` of them at first and at most; None means no limit before the registry refuses something. Each
    refusal halves them, down to one, and for as many successes as there are slots there is one more. ``pace`` says
    when a request may be sent; `registry` is the registry's name, for messages, and `requests_per_second` bounds how
    many are begun.
    """

    def __init__(
        self, slots: int | None = None, *, registry: str = "the registry", requests_per_second: float | None = None
    ) -> None:
        self.order = next(_order)
        self.registry = registry
        self.pace = Pace(registry, requests_per_second)
        self._most = slots
        self._window = slots
        self._in_use = 0
        self._successes = 0
        self._halved_at = -HALVE_AT_MOST_EVERY
        # First come, first served, so that who needs two is not passed by for ever.
        self._line: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._held = threading.local()

    @property
    def window(self) -> int | None:
        """How many slots there are now; None for no limit."""
        return self._window

    @contextmanager
    def slot(self, count: int = 1) -> Iterator[None]:
        """Wait for `count` slots, or for all there are, and hold them."""
        if getattr(self._held, "here", False):
            yield
            return
        taken = self._take(count)
        self._held.here = True
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            self._held.here = False
            self._give_back(taken, succeeded=succeeded)

    def _take(self, count: int) -> int:
        with self._lock:
            taken = 0 if self._line else self._fitting(count)
            if taken:
                self._in_use += taken
                return taken
            waiting = _Waiting(count)
            self._line.append(waiting)
        waiting.granted.acquire()
        return waiting.taken

    def _fitting(self, count: int) -> int:
        """Return how many slots can be had by who wants `count`: all it gets, or 0."""
        if self._window is None:
            return count
        wanted = min(count, self._window)
        return wanted if self._in_use + wanted <= self._window else 0

    def _give_back(self, taken: int, *, succeeded: bool) -> None:
        with self._lock:
            self._in_use -= taken
            if succeeded and self._window is not None and self._window != self._most:
                self._successes += 1
                if self._successes >= self._window:
                    self._window += 1
                    self._successes = 0
            while self._line:
                first = self._line[0]
                first.taken = self._fitting(first.count)
                if not first.taken:
                    return
                self._in_use += first.taken
                self._line.popleft()
                first.granted.release()

    def refused(self, error: RegistryError, retry: RetryPolicy) -> None:
        """Take note of an error that the registry answered: with fewer slots, and a hold, where there is too much.

        `retry` says how long a wait is sat out, for the log.
        """
        if not isinstance(error, RateLimited) and error.status != 503:
            return
        if error.retry_after:
            self.pace.hold(error.retry_after, retry)
        with self._lock:
            now = time.monotonic()
            if now - self._halved_at < HALVE_AT_MOST_EVERY:
                return
            self._halved_at = now
            # Slots that nobody used say nothing about what the registry bears.
            used = self._in_use if self._window is None else min(self._in_use, self._window)
            before, self._window = self._window, max(1, used // 2)
            self._successes = 0
        if before != self._window:
            logger.info("%s refuses requests: at most %d at once from now on", self.registry, self._window)


@contextmanager
def hold(*limiters: Limiter) -> Iterator[None]:
    """Hold a slot of each limiter, two of one that is named twice.

    They are taken in one order by everybody, so that no two wait for each other.
    """
    with ExitStack() as stack:
        for limiter, count in sorted(Counter(limiters).items(), key=lambda one: one[0].order):
            stack.enter_context(limiter.slot(count))
        yield
