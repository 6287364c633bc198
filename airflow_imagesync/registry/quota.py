"""How many manifests a registry still gives out: Docker Hub's pull limit.

https://docs.docker.com/docker-hub/usage/pulls/ - each GET of a manifest counts, HEAD does not, and the answers to
both tell what is left.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from airflow_imagesync.domain.render import human_seconds, utc_time
from airflow_imagesync.errors import RateLimited
from airflow_imagesync.registry.retry import RetryPolicy

logger = logging.getLogger(__name__)

#: The longest wait for more pulls, in seconds. The window rolls: some of it opens long before all of it has passed.
LONGEST_HOLD = 900.0
#: How often a thread that waits looks whether a HEAD has brought better news, in seconds.
_LOOK_EVERY = 5.0
#: ``76;w=21600``: what is left of a window of so many seconds. What others call by this name has no window there,
#: and counts other things.
_REMAINING = re.compile(r"\s*([0-9]{1,9})\s*;\s*w=([0-9]{1,9})\s*")


class Quota:
    """Keeps count of one login's pulls, so that none is spent below what is to be left; for many threads.

    `registry` is its name, for messages. `min_remaining` is how many pulls are left to others.
    """

    def __init__(self, registry: str = "the registry", min_remaining: int = 0) -> None:
        self._registry = registry
        self._min_remaining = min_remaining
        self._lock = threading.Lock()
        #: What the last answer said; None where nothing limits.
        self._remaining: int | None = None
        self._hold = LONGEST_HOLD
        self._seen_at = 0.0
        self._under_way = 0
        self._warned = False
        self._waited_until = 0.0

    @property
    def held_for(self) -> float:
        """How many seconds some thread still waits for a pull."""
        return max(0.0, self._waited_until - time.monotonic()) if self._waited_until else 0.0

    @property
    def left(self) -> int | None:
        """How many pulls are left, as the last answer said; None where none did, or it is too old."""
        return self._remaining

    @property
    def counts(self) -> bool:
        """Whether an answer has told what is left: the registry counts pulls."""
        return self._seen_at > 0

    @contextmanager
    def pull(self, retry: RetryPolicy) -> Iterator[None]:
        """Cover one GET of a manifest, once there is a pull left for it.

        Raises RateLimited, without waiting, when more than `retry` sits out would have to be waited for that;
        SyncCancelled when the run is told to stop.
        """
        while (left := self._begin()) > 0:
            if left > retry.longest_wait:
                raise RateLimited(
                    f"{self._state()}: no manifest was asked for; try again in {human_seconds(left)}, "
                    "or log in with an account that may pull more",
                    retry_after=left,
                )
            self._waited_until = time.monotonic() + left
            retry.sleep(min(left, _LOOK_EVERY))
            retry.check()
        self._waited_until = 0.0
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def _begin(self) -> float:
        """Count one pull and return 0; or return how many seconds to wait for it."""
        with self._lock:
            if self._remaining is not None and self._remaining - self._under_way <= self._min_remaining:
                left = self._seen_at + self._hold - time.monotonic()
                if left > 0:
                    self._warn(left)
                    return left
                self._remaining = None  # the next answer tells
            self._under_way += 1
            return 0.0

    def _warn(self, left: float) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("%s: no manifest is asked for before %s", self._state(), utc_time(time.time() + left))

    def _state(self) -> str:
        kept = f", of which {self._min_remaining} are not to be used (min_remaining)" if self._min_remaining else ""
        return f"{self._registry} has {self._remaining or 0} pulls left for this login{kept}"

    def read(self, headers: Mapping[str, str]) -> None:
        """Take note of what the answer to a manifest's GET or HEAD says is left."""
        text = headers.get("ratelimit-remaining")
        if text is None:
            return
        found = _REMAINING.fullmatch(text)
        if found is None:
            return
        with self._lock:
            self._remaining = int(found[1])
            self._hold = min(LONGEST_HOLD, float(found[2]))
            self._seen_at = time.monotonic()
            if self._remaining > self._min_remaining:
                self._warned = False
