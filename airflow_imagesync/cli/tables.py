"""What the commands show a person on standard output: tables, plain unless `terminal` says that it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.plan import PairState, Plan
from airflow_imagesync.domain.render import (
    count_of,
    failed_first,
    filter_note,
    human_bytes,
    human_seconds,
    one_line,
    plan_order,
    plan_summary,
    report_summary,
    verification_verdict,
)
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.verification import Verification, VerifiedState

_STYLES = {
    "failed": "red",
    "changed": "yellow",
    "different": "yellow",
    "missing": "yellow",
    "new": "green",
    "copied": "green",
    "same": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    References are long and terminals narrow, so there a column may stand `below` the one before it, in the
    same cell, with `prefix` before what it says.
    """

    title: str
    below: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, one for each column, and its colour."""

    cells: Sequence[str]
    style: str = ""


def check_view(document: Mapping[str, Any], *, terminal: bool) -> str:
    """Return the object of ``check -o json`` as a table: what each rule means, and the logins it uses."""
    columns = [
        Column("Rule"),
        Column("Source"),
        Column("Takes", below=True, prefix="takes "),
        Column("Login", below=True, prefix="login "),
        Column("Destination"),
        Column("Gives", below=True, prefix="gives "),
        Column("Login", below=True, prefix="login "),
    ]
    rows = [
        Row(
            [
                str(rule["rule"]),
                rule["source"],
                _select_text(rule["select"]),
                rule["source_auth"] or "anonymous",
                to["repository"],
                _gives_text(rule["select"], to),
                to["auth"] or "anonymous",
            ]
        )
        for rule in document["rules"]
        for to in rule["destinations"]
    ]
    return _view(columns, rows, [f"{count_of(len(document['rules']), 'rule')}, no errors"], terminal)


def plan_view(plan: Plan, *, all_images: bool, terminal: bool) -> str:
    """Return a plan as a table, failed rows first; what is the same only where `all_images` says so."""
    columns = [
        Column("State"),
        Column("Source"),
        Column("Destination", below=True, prefix="-> "),
        Column("Detail", below=True),
    ]
    rows = [
        Row(
            [pair.state.value, pair.source, pair.destination, pair.error or filter_note(pair)],
            _STYLES[pair.state.value],
        )
        for pair in plan_order(plan)
        if all_images or pair.state is not PairState.SAME
    ]
    return _view(columns, rows, [*plan.notes, plan_summary(plan)], terminal)


def verify_view(verification: Verification, *, all_images: bool, terminal: bool) -> str:
    """Return a verification as a table of what is not the same; of all images only where `all_images` says so."""
    columns = [
        Column("State"),
        Column("Source"),
        Column("Destination", below=True, prefix="-> "),
        Column("Detail", below=True),
    ]
    same = [one for one in verification.images if all_images and one.state is VerifiedState.SAME]
    rows = [
        Row([one.state.value, one.source, one.destination, one.error or ""], _STYLES[one.state.value])
        for one in (*verification.deviations, *same)
    ]
    return _view(columns, rows, [*verification.notes, verification_verdict(verification)], terminal)


def run_view(report: SyncReport, *, all_images: bool, terminal: bool) -> str:
    """Return a report as a table, failed rows first; what is the same only where `all_images` says so."""
    columns = [
        Column("State"),
        Column("Copied"),
        Column("Time"),
        Column("Source"),
        Column("Destination", below=True, prefix="-> "),
        Column("Detail", below=True),
    ]
    rows = [
        Row(
            [
                one.state.value,
                human_bytes(one.bytes_copied) if one.state is ResultState.COPIED else "",
                human_seconds(one.seconds) if one.state is not ResultState.SAME else "",
                one.source,
                one.destination,
                _detail(report, one),
            ],
            _STYLES[one.state.value],
        )
        for one in failed_first(report.images)
        if all_images or one.state is not ResultState.SAME
    ]
    return _view(columns, rows, [report_summary(report)], terminal)


def records_view(document: Mapping[str, Any], *, all_images: bool, terminal: bool) -> str:
    """Return the object of ``records show -o json`` as tables; of the images those that failed, or all."""
    registries = [
        Row([one["registry"], *(str(one[key]) for key in ("repositories", "blobs", "images"))])
        for one in document["registries"]
    ]
    runs = [
        Row([one["run"], one["at"], *(str(one[key]) for key in ("copied", "same", "failed"))])
        for one in document["runs"]
    ]
    images = [
        Row([one["result"], one["at"], one["source"], one["destination"], one["error"] or ""], _STYLES[one["result"]])
        for one in document["images"]
        if all_images or one["result"] == "failed"
    ]
    size = "" if document["size"] is None else f", {human_bytes(document['size'])}"
    count = count_of(len(document["images"]), "image")
    columns = [Column("State"), Column("When"), Column("Source")]
    columns += [Column("Destination", below=True, prefix="-> "), Column("Detail", below=True)]
    tables = [
        _view([Column(one) for one in ("Registry", "Repositories", "Blobs", "Images")], registries, [], terminal),
        _view([Column(one) for one in ("Run", "When", "Copied", "Same", "Failed")], runs, [], terminal),
        _view(columns, images, [f"{count} remembered in {document['records']}{size}"], terminal),
    ]
    return "\n".join(table for table in tables if table.strip())


def _detail(report: SyncReport, image: ImageResult) -> str:
    runs = report.failing.get(image.source, 0)
    since = f"failing for {runs} runs in a row" if image.state is ResultState.FAILED and runs > 1 else ""
    return "; ".join(part for part in (image.error, image.note, since) if part)


def _select_text(select: Mapping[str, Any]) -> str:
    if "tags" in select:
        return ", ".join(select["tags"])
    if "regex" in select:
        return f"tags matching /{select['regex']}/"
    return str(select.get("digest", "all tags"))


def _gives_text(select: Mapping[str, Any], destination: Mapping[str, Any]) -> str:
    if destination["tags"]:
        return ", ".join(destination["tags"])
    return "the digest only" if "digest" in select else "the same tags"


def _view(columns: Sequence[Column], rows: Sequence[Row], lines: Sequence[str], terminal: bool) -> str:
    rows = [Row([one_line(cell) for cell in row.cells], row.style) for row in rows]
    lines = [one_line(line) for line in lines]
    return _coloured(columns, rows, lines) if terminal else _plain(columns, rows, lines)


def _plain(columns: Sequence[Column], rows: Sequence[Row], lines: Sequence[str]) -> str:
    """Return a table with each row on one line, as wide as it needs to be."""
    table = [[column.title for column in columns], *(row.cells for row in rows)] if rows else []
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table]
    return "\n".join([*text, *lines]) + "\n"


def _coloured(columns: Sequence[Column], rows: Sequence[Row], lines: Sequence[str]) -> str:
    """Return a table that fits the terminal's width."""
    from rich import box  # noqa: PLC0415 - slow to import, and only a terminal needs it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(force_terminal=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    for column in columns:
        if not column.below:
            table.add_column(column.title, overflow="fold")
    for row in rows:
        cells: list[list[str]] = []
        for column, text in zip(columns, row.cells, strict=True):
            if not column.below:
                cells.append([text])
            elif text:
                cells[-1].append(f"{column.prefix}{text}")
        table.add_row(*(Text("\n".join(cell)) for cell in cells), style=row.style)
    with console.capture() as capture:
        if rows:
            console.print(table)
        for line in lines:
            console.print(Text(line))
    return capture.get()
