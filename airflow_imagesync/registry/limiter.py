"""How many requests may be in flight to one registry at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


_order = itertools.count()


class Limiter:
    """A number of slots, taken by threads; a thread that holds one passes freely.

    The slot covers a request until its body is read. A transfer holds one slot at each registry for all of its
    requests, so that no two transfers can wait for each other in the middle.
    """

    def __init__(self, slots: int | None = None) -> None:
        self.order = next(_order)
        self._semaphore = threading.BoundedSemaphore(slots) if slots is not None else None
        self._held = threading.local()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it."""
        if self._semaphore is None or getattr(self._held, "here", False):
            yield
            return
        with self._semaphore:
            self._held.here = True
            try:
                yield
            finally:
                self._held.here = False


@contextmanager
def hold(*limiters: Limiter) -> Iterator[None]:
    """Hold a slot of each limiter, taken in one order by everybody, so that no two wait for each other."""
    with ExitStack() as stack:
        for limiter in sorted(set(limiters), key=lambda one: one.order):
            stack.enter_context(limiter.slot())
        yield
