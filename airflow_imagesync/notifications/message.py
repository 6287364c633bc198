"""What a message says of a run: how it went, what failed, where the report is; bounded, and plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.render import one_line

#: Discord takes no more than 2,000 characters, Amazon SNS no subject of 100. The rest allows for the longest link.
MAX_TEXT = 1900
MAX_SUBJECT = 99
_MAX_LINE = 400
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Message:
    """A message: its ``subject``, which is also the first of its ``lines``, and the ``link`` that stands at its end."""

    subject: str
    lines: tuple[str, ...]
    link: str | None = None

    @property
    def text(self) -> str:
        """The message as plain text."""
        return "\n".join([*self.lines, *([f"See {self.link}"] if self.link else [])])


def message_of(
    how: str, dag_id: str, run_id: str, reports: Sequence[tuple[str, Mapping[str, Any]]], link: str | None
) -> Message:
    """
    Return the message of a run.

    :param how: how it went, such as ``failed``
    :param dag_id: the DAG
    :param run_id: the run
    :param reports: what was reported, of each part of the run: the part's name, which may be empty, and ``summary``,
        ``failed`` rows of source, destination and error, and ``failed_count``
    :param link: where to read more
    """
    subject = _shortened(f"Image sync {how}: {one_line(dag_id)}", MAX_SUBJECT)
    lines = [subject, _shortened(f"Run {one_line(run_id)}")]
    left = MAX_TEXT - sum(len(line) + 1 for line in lines) - len(link or "") - len("See ")
    for name, report in reports:
        part = _lines_of(name, report, left)
        left -= sum(len(line) + 1 for line in part)
        lines += part
    return Message(subject, tuple(lines), link)


def _lines_of(name: str, report: Mapping[str, Any], left: int) -> list[str]:
    """Return the lines of a report that take `left` characters at most: with as many failures as fit."""
    summary = _shortened(f"{name}: {one_line(str(report['summary']))}" if name else one_line(str(report["summary"])))
    rows = [
        _shortened(f"- {one_line(str(source))} -> {one_line(str(destination))}: {one_line(str(error))}")
        for source, destination, error in report.get("failed", ())
    ]
    for shown in range(min(len(rows), _MAX_SHOWN), -1, -1):
        more = max(report.get("failed_count", len(rows)), len(rows)) - shown
        lines = [summary, *rows[:shown], *([f"and {more:,} more failed"] if more and shown else [])]
        if sum(len(line) + 1 for line in lines) <= left:
            return lines
    return []


def _shortened(line: str, length: int = _MAX_LINE) -> str:
    return line if len(line) <= length else f"{line[: length - 3]}..."
