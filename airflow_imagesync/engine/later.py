"""Calls functions after a delay, on one thread for all of them."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Handle:
    """A call that is still to come."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """See that it does not come; one that has begun goes on."""
        self._function = None

    def run(self) -> None:
        """Call the function, unless that was cancelled or done before."""
        function, self._function = self._function, None
        if function is None:
            return
        try:
            function()
        except Exception:
            logger.exception("what was to be done later failed")


class Later:
    """Calls functions later; the functions must return soon, since they all wait for each other.

    Its thread is started with the first call and ends with `close`, or with the process.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, seconds: float, function: Callable[[], object]) -> Handle:
        """Call `function` after so many seconds, on another thread; never, when this was closed before."""
        handle = Handle(function)
        with self._changed:
            if self._closed:
                return handle
            call = (time.monotonic() + seconds, next(self._order), handle)
            heapq.heappush(self._calls, call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="imagesync-later", daemon=True)
                self._thread.start()
            elif self._calls[0] is call:
                self._changed.notify()
        return handle

    def close(self) -> None:
        """Drop the calls that have not begun, and wait for the one that has."""
        with self._changed:
            self._closed = True
            self._calls.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed:
                    left = self._calls[0][0] - time.monotonic() if self._calls else None
                    if left is not None and left <= 0:
                        break
                    self._changed.wait(left)
                if self._closed:
                    return
                handle = heapq.heappop(self._calls)[2]
            handle.run()
