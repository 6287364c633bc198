from __future__ import annotations

import pytest

from airflow_imagesync.engine.progress import Snapshot
from airflow_imagesync.engine.progress_text import Rate, TimeLeft, bytes_text, counts_text

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (Snapshot(), "starting"),
        (Snapshot(to_plan=1000, planned=340), "340 of 1,000 images compared"),
        (
            Snapshot(to_plan=10, planned=4, images=3, copied=1, failed=1),
            "4 of 10 images compared, 2 of 3 images done, 1 failed",
        ),
        (Snapshot(to_plan=10, planned=10, images=1, copied=1), "1 of 1 image done"),
    ],
)
def test_counts(snapshot: Snapshot, text: str) -> None:
    assert counts_text(snapshot) == text


def test_bytes() -> None:
    assert bytes_text(Snapshot(), 0) == ""
    assert bytes_text(Snapshot(bytes_moved=3 * MIB, bytes_expected=10 * MIB), MIB) == "3.0 MiB of 10.0 MiB, 1.0 MiB/s"


def test_rate_forgets_what_is_long_ago() -> None:
    rate = Rate()
    assert rate.per_second(0.0, 0) == 0
    assert rate.per_second(1.0, 100) == 100
    for second in range(2, 30):
        found = rate.per_second(float(second), 100)
    assert found == 0


@pytest.mark.parametrize(
    ("first", "now", "text"),
    [
        (Snapshot(), Snapshot(), ""),
        (Snapshot(to_plan=30), Snapshot(to_plan=30, planned=10), "about 20.0 s left to compare"),
        (Snapshot(images=30), Snapshot(images=30, copied=9, failed=1), "about 20.0 s left"),
        # What was the same before anything was copied says nothing of how quickly that goes.
        (Snapshot(images=130, same=100), Snapshot(images=130, same=100, copied=10), "about 20.0 s left"),
        # More is being sent than was sent for those that are done.
        (
            Snapshot(images=2),
            Snapshot(images=2, copied=1, bytes_moved=10 * MIB, bytes_expected=100 * MIB),
            "about 1 min 30 s left",
        ),
        # There may be more to send than what is being sent.
        (Snapshot(images=1), Snapshot(images=1, bytes_moved=MIB, bytes_expected=4 * MIB), "at least 30.0 s left"),
        (Snapshot(images=2), Snapshot(images=2), ""),
        (Snapshot(images=2), Snapshot(images=2, copied=2, bytes_moved=MIB, bytes_expected=2 * MIB), ""),
    ],
)
def test_time_left_after_ten_seconds(first: Snapshot, now: Snapshot, text: str) -> None:
    left = TimeLeft()
    assert left.text(100.0, first) == ""
    assert left.text(110.0, now) == text


def test_time_left_begins_anew_when_there_is_more_to_do() -> None:
    left = TimeLeft()
    left.text(0.0, Snapshot(to_plan=30))
    assert left.text(10.0, Snapshot(to_plan=30, planned=30)) == ""
    assert left.text(11.0, Snapshot(to_plan=30, planned=30, images=20)) == ""
    assert left.text(12.0, Snapshot(to_plan=30, planned=30, images=20, copied=1)) == ""  # too early to tell
    assert left.text(15.0, Snapshot(to_plan=30, planned=30, images=20, copied=4)) == "about 16.0 s left"


def test_a_registry_to_be_waited_for_is_not_forgotten() -> None:
    left = TimeLeft()
    left.text(0.0, Snapshot(images=2))
    assert left.text(10.0, Snapshot(images=2, copied=1), {"quay.io": 75.0}) == "about 1 min 15 s left"
    assert left.text(10.0, Snapshot(images=2), {"quay.io": 75.0}) == "at least 1 min 15 s left"
