"""Doing something once for all threads that need it."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from airflow_imagesync.errors import ImageSyncError

T = TypeVar("T")


class Once:
    """Lets one thread do something while the others wait, and share what comes of it, a failure too.

    After a failure of the kind `final` it is not done again; after a temporary one by those who come later.
    """

    def __init__(self, final: type[ImageSyncError] = ImageSyncError) -> None:
        self._final = final
        self._lock = threading.Lock()
        self._failure: ImageSyncError | None = None
        self._failed_at = 0.0

    def do(self, have: Callable[[], T | None], work: Callable[[], T]) -> T:
        """Return what there is, else what `work` returns; raise what it raised, also to those who waited for it."""
        begun = time.monotonic()
        with self._lock:
            value = have()
            if value is not None:
                return value
            failure = self._failure
            if failure is not None and self._spares_trying(failure, begun):
                shared = copy.copy(failure)  # one exception must not be raised by many threads
                shared.tried = False
                raise shared
            try:
                return work()
            except ImageSyncError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise

    def _spares_trying(self, failure: ImageSyncError, begun: float) -> bool:
        if failure.temporary:
            return self._failed_at >= begun
        return isinstance(failure, self._final)
