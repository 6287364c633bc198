from __future__ import annotations

import pytest

from airflow_imagesync.domain import render


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert render.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (125.4, "2 min 05 s"), (3725, "1 h 02 min")],
)
def test_human_seconds(seconds: float, text: str) -> None:
    assert render.human_seconds(seconds) == text


def test_one_line_leaves_nothing_that_a_terminal_obeys() -> None:
    assert render.one_line("a\n\tb \x1b[31mred\x07 \u202e\udc80") == "a b \\x1b[31mred\\x07 \\u202e\\udc80"
