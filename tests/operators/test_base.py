from __future__ import annotations

from airflow_imagesync.operators.base import lines_for_log


def test_a_log_holds_the_beginning_and_the_totals_of_a_long_report() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    lines = lines_for_log(text).splitlines()
    assert len(lines) == 2002
    assert lines[:1] + lines[1999:] == ["line 0", "line 1999", "... and 7999 more lines", "line 9999"]
    assert lines_for_log("one\ntwo") == "one\ntwo"
