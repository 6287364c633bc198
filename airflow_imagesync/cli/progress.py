"""Showing how far a run has come, on standard error: live on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from airflow_imagesync.cli.terminal import say
from airflow_imagesync.domain.render import human_seconds
from airflow_imagesync.engine.progress import Snapshot
from airflow_imagesync.engine.progress_text import Rate, TimeLeft, bytes_text, counts_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

#: Seconds between two lines where no terminal shows the progress live.
LINE_INTERVAL = 10.0


class Display(Protocol):
    """Something that shows counts; `update` is called several times a second.

    While one is open, messages go through its `note`.
    """

    def update(self, snapshot: Snapshot, held: Mapping[str, float] = ...) -> None:
        """Show the counts as they are now, and for how many seconds registries asked to wait."""

    def note(self, text: str) -> None:
        """Write a line that stays."""

    def close(self) -> None:
        """Leave standard error as it was found."""


def open_display(console: Console | None) -> Display:
    """Return a live display on `console`, or one that writes lines where nothing can be live."""
    if console is None or console.is_dumb_terminal:
        return LineDisplay()
    return LiveDisplay(console)


class LineDisplay:
    """Writes a line every ten seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._rate = Rate()
        self._left = TimeLeft()

    def update(self, snapshot: Snapshot, held: Mapping[str, float] = MappingProxyType({})) -> None:
        """Write a line when the last one is old enough."""
        now = time.monotonic()
        rate = self._rate.per_second(now, snapshot.bytes_moved)
        left = self._left.text(now, snapshot, held)
        if now - self._last < LINE_INTERVAL:
            return
        self._last = now
        parts = (counts_text(snapshot, held), bytes_text(snapshot, rate), human_seconds(now - self._began), left)
        say("; ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        """Write a line."""
        say(text)

    def close(self) -> None:
        """Do nothing: lines stay."""


class LiveDisplay:
    """One line with a bar that is drawn anew in its place and goes away at the end."""

    def __init__(self, console: Console) -> None:
        self._rate = Rate()
        self._left = TimeLeft()
        self._bars = _bars(console)
        self._task = self._bars.add_task("", total=None, bytes="")
        self._bars.start()

    def update(self, snapshot: Snapshot, held: Mapping[str, float] = MappingProxyType({})) -> None:
        """Draw the line anew."""
        now = time.monotonic()
        rate = self._rate.per_second(now, snapshot.bytes_moved)
        moved = (bytes_text(snapshot, rate), self._left.text(now, snapshot, held))
        total, done = bar_of(snapshot)
        self._bars.update(
            self._task,
            total=total,
            completed=done,
            description=counts_text(snapshot, held),
            bytes=", ".join(part for part in moved if part),
        )
        self._bars.refresh()

    def note(self, text: str) -> None:
        """Write a line above the live one."""
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the line away."""
        self._bars.stop()


def bar_of(snapshot: Snapshot) -> tuple[int | None, float]:
    """Return the length of the bar, None where it is unknown, and how much of it is done.

    Images count, as the bytes of those that are not begun are not known; what is known of bytes counts for one
    image, so that the bar of a single large one moves.
    """
    if not snapshot.images:
        return snapshot.to_plan or None, snapshot.planned
    moving = snapshot.bytes_moved / snapshot.bytes_expected if snapshot.bytes_expected else 0.0
    return snapshot.images, min(snapshot.done + min(moving, 1.0), snapshot.images)


def _bars(console: Console) -> Bars:
    from rich.progress import (  # noqa: PLC0415 - slow to import, and only a terminal needs it
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[bytes]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        # Standard output has its own readers, who want it unchanged.
        redirect_stdout=False,
        redirect_stderr=False,
    )
