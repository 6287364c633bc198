"""Plans and reports as people and programs read them.

Pure functions: whoever writes a file or asks a clock does it elsewhere.
"""

from __future__ import annotations

from airflow_imagesync.domain.render.documents import FORMAT, json_text
from airflow_imagesync.domain.render.estimate import estimate_summary, time_text, unknown_lines
from airflow_imagesync.domain.render.human import (
    count_of,
    human_bytes,
    human_seconds,
    one_line,
    printable,
    utc_time,
)
from airflow_imagesync.domain.render.plan import (
    filter_note,
    plan_document,
    plan_markdown,
    plan_order,
    plan_summary,
    plan_text,
    totals_summary,
)
from airflow_imagesync.domain.render.report import (
    failed_first,
    failing_counts,
    report_document,
    report_markdown,
    report_summary,
    report_text,
    with_failing,
)
from airflow_imagesync.domain.render.success import success_list, success_text
from airflow_imagesync.domain.render.verification import (
    verification_document,
    verification_markdown,
    verification_text,
    verification_verdict,
)

__all__ = [
    "FORMAT",
    "count_of",
    "estimate_summary",
    "failed_first",
    "failing_counts",
    "filter_note",
    "human_bytes",
    "human_seconds",
    "json_text",
    "one_line",
    "plan_document",
    "plan_markdown",
    "plan_order",
    "plan_summary",
    "plan_text",
    "printable",
    "report_document",
    "report_markdown",
    "report_summary",
    "report_text",
    "success_list",
    "success_text",
    "time_text",
    "totals_summary",
    "unknown_lines",
    "utc_time",
    "verification_document",
    "verification_markdown",
    "verification_text",
    "verification_verdict",
    "with_failing",
]
