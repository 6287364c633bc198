"""What copying a plan would send and how long it takes, as people read it."""

from __future__ import annotations

import math

from airflow_imagesync.domain.estimate import Estimate
from airflow_imagesync.domain.render.human import count_of, human_bytes, human_seconds, one_line


def time_text(estimate: Estimate) -> str:
    """Return about how long copying takes, and what that rests on.

    ``about 2 min 10 s at 85.0 MiB/s (the rate of the last run)``, or ``(assumed)`` in place of that.
    """
    if estimate.seconds is None:
        return "unknown"
    seconds = max(1, math.ceil(estimate.seconds))
    time = f"{seconds} s" if seconds < 60 else human_seconds(seconds)
    source = "the rate of the last run" if estimate.is_measured else "assumed"
    return f"about {time} at {human_bytes(estimate.bytes_per_second)}/s ({source})"


def estimate_summary(estimate: Estimate) -> str:
    """Return all that is expected as one line: images, bytes, time, and what is left out because nobody knows it."""
    unknown, images = estimate.unknown_images, count_of(estimate.images, "image")
    if unknown and unknown == estimate.images:
        return f"{images} to copy, of unknown size"
    without = f", without {count_of(unknown, 'image')} of unknown size" if unknown else ""
    return (
        f"{images} to copy: {human_bytes(estimate.size)} in all, at most {human_bytes(estimate.to_send)} to send, "
        f"{time_text(estimate)}{without}"
    )


def unknown_lines(estimate: Estimate) -> list[str]:
    """Return, for each reason why sizes are not known, how many images it concerns."""
    return [
        f"{count_of(number, 'image')} of unknown size: {one_line(reason)}"
        for reason, number in estimate.unknown.items()
    ]
