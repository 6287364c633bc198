"""What is told of a run under way, as text: counts, bytes, their rate, and how long it still takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from airflow_imagesync.domain.render import count_of, human_bytes, human_seconds
from airflow_imagesync.engine.progress import Snapshot

#: Seconds over which the rate is taken.
RATE_WINDOW = 5.0
#: Seconds for which a run must have gone on before anything can be said of its end.
_TOO_EARLY = 2.0


class Rate:
    """Bytes a second over the last `window` seconds."""

    def __init__(self, window: float = RATE_WINDOW) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def per_second(self, now: float, amount: int) -> float:
        """Return the rate, given how much has been moved in all at the time `now`."""
        self._seen.append((now, amount))
        # One older than the window is kept, so that the window is covered whole.
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()
        since, before = self._seen[0]
        return (amount - before) / (now - since) if now > since else 0.0


class TimeLeft:
    """Tells how long a run still takes, from how it has gone since there was that much to do.

    `text` is to be called now and then from the beginning on, so that it knows when that was.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._before: Snapshot | None = None

    def text(self, now: float, snapshot: Snapshot, held: Mapping[str, float] = MappingProxyType({})) -> str:
        """Return ``about 2 min 05 s left``, or ``at least`` so long, or nothing where nothing is known yet.

        `snapshot` are the counts at the time `now`, and `held` for how many seconds registries want to be waited for.
        Comparing has an estimate of its own, as nobody knows then what there will be to copy.
        """
        before = self._before
        if before is None or (before.to_plan, before.images) != (snapshot.to_plan, snapshot.images):
            # What is done already took no copying, or was other work.
            self._since, self._before = now, snapshot
            return ""
        elapsed = now - self._since
        if elapsed < _TOO_EARLY:
            return ""
        if snapshot.planned < snapshot.to_plan:
            left = _left(snapshot.planned - before.planned, snapshot.to_plan - snapshot.planned, elapsed)
            return f"about {human_seconds(left)} left to compare" if left else ""
        if snapshot.done >= snapshot.images:
            return ""
        images = _left(snapshot.done - before.done, snapshot.images - snapshot.done, elapsed)
        # Only of what is being sent: less than all there is to send.
        sent = _left(snapshot.bytes_moved - before.bytes_moved, snapshot.bytes_expected - snapshot.bytes_moved, elapsed)
        left = max(images, sent, *held.values(), 0.0)
        if not left:
            return ""
        return f"{'about' if images else 'at least'} {human_seconds(left)} left"


def counts_text(snapshot: Snapshot, held: Mapping[str, float] = MappingProxyType({})) -> str:
    """Return the counts of images as a person reads them, and for how long registries want to be waited for."""
    parts = []
    if snapshot.planned < snapshot.to_plan:
        parts.append(f"{snapshot.planned:,} of {count_of(snapshot.to_plan, 'image')} compared")
    if snapshot.images:
        parts.append(f"{min(snapshot.done, snapshot.images):,} of {count_of(snapshot.images, 'image')} done")
    if snapshot.failed:
        parts.append(f"{snapshot.failed:,} failed")
    parts += [f"{registry} to be waited for: {human_seconds(seconds)}" for registry, seconds in held.items()]
    return ", ".join(parts) or "starting"


def bytes_text(snapshot: Snapshot, rate: float) -> str:
    """Return the bytes and their rate as a person reads them; empty when nothing was moved."""
    if not snapshot.bytes_moved:
        return ""
    total = f" of {human_bytes(snapshot.bytes_expected)}" if snapshot.bytes_expected else ""
    return f"{human_bytes(snapshot.bytes_moved)}{total}, {human_bytes(rate)}/s"


def _left(done: int, left: int, elapsed: float) -> float:
    """Return how many seconds it takes to do what is left at the pace so far; 0 where nothing is left or known."""
    return elapsed * left / done if done > 0 and left > 0 else 0.0
