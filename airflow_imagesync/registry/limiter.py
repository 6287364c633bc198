"""How many requests may be in flight to one registry at once, which is as many as it bears."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from airflow_imagesync.errors import RateLimited, RegistryError
from airflow_imagesync.registry.pace import Pace
from airflow_imagesync.registry.retry import RetryPolicy

logger = logging.getLogger(__name__)

#: Refusals within so many seconds were for requests of one moment, and count as one.
HALVE_AT_MOST_EVERY = 1.0
#: Transfers of at least so many bytes are large: they leave a slot to small requests.
LARGE = 1024 * 1024

_order = itertools.count()


class _Taken(NamedTuple):
    """What a thread holds: so many slots, one of which may be that which is kept for small requests."""

    slots: int
    kept: bool = False


_NOTHING = _Taken(0)


class _Waiting:
    """A thread in the line, with what it wants."""

    __slots__ = ("count", "granted", "large", "taken")

    def __init__(self, count: int, *, large: bool) -> None:
        self.count = count
        self.large = large
        self.taken = _NOTHING
        self.granted = threading.Lock()
        self.granted.acquire()


class Limiter:
    """A number of slots, taken by threads; a thread that holds some passes freely.

    A slot covers a request until its body is read. A transfer takes the slots for all of its requests at once, so that
    no two transfers can wait for each other in the middle.

    One slot is kept for small requests, so that they go on while large transfers have all others. It is also the only
    one in which a small request passes a large transfer that waits: neither can be put off for ever. A transfer that
    can't do with less than all slots gets that one, too, when its turn has come.

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
        #: Whether a small request has the slot that is kept for them.
        self._kept_in_use = False
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
    def slot(self, count: int = 1, *, large: bool = False) -> Iterator[None]:
        """Wait for `count` slots, or for all there are, and hold them; `large` says what for."""
        if getattr(self._held, "here", False):
            yield
            return
        taken = self._take(count, large=large)
        self._held.here = True
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            self._held.here = False
            self._give_back(taken, succeeded=succeeded)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Pass freely in this thread, by slots that another one holds for it meanwhile."""
        before = getattr(self._held, "here", False)
        self._held.here = True
        try:
            yield
        finally:
            self._held.here = before

    def _take(self, count: int, *, large: bool) -> _Taken:
        waiting = _Waiting(count, large=large)
        with self._lock:
            self._line.append(waiting)
            self._grant()
        waiting.granted.acquire()
        return waiting.taken

    def _give_back(self, taken: _Taken, *, succeeded: bool) -> None:
        with self._lock:
            self._in_use -= taken.slots
            if taken.kept:
                self._kept_in_use = False
            if succeeded and self._window is not None and self._window != self._most:
                self._successes += 1
                if self._successes >= self._window:
                    self._window += 1
                    self._successes = 0
            self._grant()

    def _grant(self) -> None:
        """Give slots to those in the line who can have them now."""
        while self._line:
            first = self._line[0]
            wanted = first.count if self._window is None else min(first.count, self._window)
            if self._fits(wanted, large=first.large):
                self._line.popleft()
                self._give(first, wanted)
                continue
            if self._window is None or wanted >= self._window or self._kept_in_use or self._in_use >= self._window:
                return
            passing = next((one for one in self._line if one.count == 1 and not one.large), None)
            if passing is None:
                return
            self._line.remove(passing)
            self._give(passing, 1)

    def _fits(self, wanted: int, *, large: bool) -> bool:
        if self._window is None:
            return True
        if large and wanted < self._window:
            return self._in_use - self._kept_in_use + wanted < self._window
        return self._in_use + wanted <= self._window

    def _give(self, waiting: _Waiting, slots: int) -> None:
        # Small requests take the slot that is kept for them first: the others are good for all.
        kept = not waiting.large and not self._kept_in_use
        self._kept_in_use = self._kept_in_use or kept
        self._in_use += slots
        waiting.taken = _Taken(slots, kept)
        waiting.granted.release()

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
def hold(*limiters: Limiter, large: bool = False) -> Iterator[None]:
    """Hold a slot of each limiter, two of one that is named twice; `large` says what for.

    They are taken in one order by everybody, so that no two wait for each other.
    """
    with ExitStack() as stack:
        for limiter, count in sorted(Counter(limiters).items(), key=lambda one: one[0].order):
            stack.enter_context(limiter.slot(count, large=large))
        yield
