from __future__ import annotations

import io

import pytest
from rich.console import Console

from airflow_imagesync.cli.progress import LineDisplay, LiveDisplay, bar_of, open_display
from airflow_imagesync.engine.progress import Snapshot

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("snapshot", "bar"),
    [
        (Snapshot(), (None, 0)),
        (Snapshot(to_plan=10, planned=4), (10, 4)),
        (Snapshot(to_plan=10, planned=10, images=10, same=8, failed=1), (10, 9)),
        (Snapshot(images=1, bytes_moved=MIB, bytes_expected=4 * MIB), (1, 0.25)),
        (Snapshot(images=4, copied=4, bytes_moved=9 * MIB, bytes_expected=4 * MIB), (4, 4)),
    ],
)
def test_bar(snapshot: Snapshot, bar: tuple[int | None, float]) -> None:
    assert bar_of(snapshot) == bar


def test_lines_come_at_most_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("airflow_imagesync.cli.progress.time.monotonic", lambda: now)
    display = LineDisplay()
    for tick in range(126):
        now = 100.0 + tick / 5
        display.update(Snapshot(images=4, copied=1, bytes_moved=tick * MIB))
    display.close()
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "1 of 4 images done; 50.0 MiB, 5.0 MiB/s; 10.0 s",
        "1 of 4 images done; 100.0 MiB, 5.0 MiB/s; 20.0 s",
    ]


def test_lines_tell_how_long_it_still_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("airflow_imagesync.cli.progress.time.monotonic", lambda: now)
    display = LineDisplay()
    for tick in range(51):
        now = 100.0 + tick / 5
        display.update(Snapshot(images=40, copied=tick // 5))
    assert capsys.readouterr().err.splitlines() == ["10 of 40 images done; 10.0 s; about 30.0 s left"]


def terminal(**settings: str) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm", **settings})


def test_a_live_line_shows_counts_and_goes_away() -> None:
    console = terminal()
    display = open_display(console)
    assert isinstance(display, LiveDisplay)
    display.update(Snapshot(images=4, copied=1, failed=1, bytes_moved=MIB, bytes_expected=4 * MIB))
    display.note("a [note] that stays")
    display.close()
    stream = console.file
    assert isinstance(stream, io.StringIO)
    text = stream.getvalue()
    assert "2 of 4 images done, 1 failed" in text
    assert "1.0 MiB of 4.0 MiB" in text
    assert "a [note] that stays" in text
    assert text.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, the line is gone


def test_no_terminal_or_a_dumb_one_gets_lines() -> None:
    assert isinstance(open_display(None), LineDisplay)
    assert isinstance(open_display(terminal(TERM="dumb")), LineDisplay)
