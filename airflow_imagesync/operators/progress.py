"""Telling in a task's log how far its work has come: now and then, and only of tasks that take their time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_imagesync.engine.progress_text import Rate, TimeLeft, bytes_text, counts_text
from airflow_imagesync.engine.sync import SyncEngine

logger = logging.getLogger(__name__)

#: After how many seconds the first line comes, and how many are between it and the next ones.
FIRST_LINE = 10.0
LINE_INTERVAL = 30.0
#: How often the counts are looked at, in seconds.
_LOOK_EVERY = 1.0
#: How long the end of the work waits for a line that is being written, in seconds.
_ENDS_WITHIN = 5.0


@contextmanager
def logged_progress(engine: SyncEngine) -> Iterator[None]:
    """
    Log how far an engine has come, on a thread of its own that ends with the context.

    :param engine: whose counts to tell
    """
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(engine, ended), name="imagesync-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ENDS_WITHIN)


def _tell(engine: SyncEngine, ended: threading.Event) -> None:
    began = time.monotonic()
    due = began + FIRST_LINE
    rate, left = Rate(LINE_INTERVAL), TimeLeft()
    rate.per_second(began, 0)
    while not ended.wait(min(_LOOK_EVERY, max(0.0, due - time.monotonic()))):
        now, snapshot, held = time.monotonic(), engine.progress.snapshot(), engine.held
        per_second, time_left = rate.per_second(now, snapshot.bytes_moved), left.text(now, snapshot, held)
        if now < due:
            continue
        due = now + LINE_INTERVAL
        parts = (counts_text(snapshot, held), bytes_text(snapshot, per_second), time_left)
        logger.info("%s", "; ".join(part for part in parts if part))
