"""The parts of Markdown documents: tables, cells that show foreign text as it is, and lines about a run."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from airflow_imagesync.domain.render.human import one_line

#: ASCII punctuation that means something in Markdown; what HTML gives a meaning is escaped as HTML.
_MARKDOWN = re.compile(r"[\\`*_\[\]#|~$]")


def table(head: list[str], rows: Iterable[list[str]], *, right: Collection[str] = ()) -> list[str]:
    """Return the lines of a table whose cells are Markdown already; the columns named in `right` stand to the right."""
    under = ["---:" if title in right else "---" for title in head]
    return [f"| {' | '.join(row)} |" for row in (head, under, *rows)]


def cell(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, also within a table; line breaks stay."""
    lines = [one_line(line) for line in text.splitlines()]
    return "<br>".join(
        _MARKDOWN.sub(lambda found: f"\\{found[0]}", html.escape(line, quote=False)) for line in lines if line
    )


def code(text: str | None) -> str:
    """Return `text` as a code span that a table can hold; nothing for None."""
    if not text:
        return ""
    line = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    # GitHub's Markdown splits cells before it looks for code, so a pipe needs its backslash here too.
    inner = line.replace("|", "\\|")
    return f"{fence} {inner} {fence}" if longest else f"{fence}{inner}{fence}"


def metadata_lines(metadata: Mapping[str, Any] | None) -> list[str]:
    """Return lines about a run, such as when it began, as a list."""
    lines = [f"- {cell(str(key))}: {cell(str(value))}" for key, value in (metadata or {}).items()]
    return ["", *lines] if lines else []
