"""How many requests may be in flight to one registry at once."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_order = itertools.count()


class Limiter:
    """A number of slots, taken by threads; a thread that holds some passes freely.

    A slot covers a request until its body is read. A transfer takes the slots for all of its requests at once, so that
    no two transfers can wait for each other in the middle. ``slots`` None means no limit.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.order = next(_order)
        self._slots = slots
        self._free = threading.BoundedSemaphore(slots) if slots is not None else None
        # Only who stands first in this line takes slots, so that who needs two is not passed by for ever.
        self._line = threading.Lock()
        self._held = threading.local()

    @contextmanager
    def slot(self, count: int = 1) -> Iterator[None]:
        """Wait for `count` slots, or for all there are, and hold them."""
        if self._free is None or getattr(self._held, "here", False):
            yield
            return
        count = min(count, self._slots or count)
        with self._line:
            for _ in range(count):
                self._free.acquire()
        self._held.here = True
        try:
            yield
        finally:
            self._held.here = False
            self._free.release(count)


@contextmanager
def hold(*limiters: Limiter) -> Iterator[None]:
    """Hold a slot of each limiter, two of one that is named twice.

    They are taken in one order by everybody, so that no two wait for each other.
    """
    with ExitStack() as stack:
        for limiter, count in sorted(Counter(limiters).items(), key=lambda one: one[0].order):
            stack.enter_context(limiter.slot(count))
        yield
