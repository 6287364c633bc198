"""Reports as people and programs read them: log text, Markdown, JSON document; and how long what fails has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from airflow_imagesync.domain.render.documents import document_head
from airflow_imagesync.domain.render.human import count_of, human_bytes, human_seconds, one_line
from airflow_imagesync.domain.render.markdown import cell, code, metadata_lines, table
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport


def failing_counts(earlier: Mapping[str, Any] | None, images: Iterable[ImageResult]) -> dict[str, int]:
    """Return in how many runs in a row each failed image's source has been failing, this run included.

    `earlier` is the JSON document of the run before, or None. One that is damaged or by somebody else counts
    as none: a report never fails for what an older one says.
    """
    # A plan has rows that look alike, but planning is not running.
    before = _failing_before(earlier) if earlier and earlier.get("kind", "run") == "run" else {}
    failed = dict.fromkeys(one.source for one in images if one.state is ResultState.FAILED)
    return {source: before.get(source, 0) + 1 for source in failed}


def with_failing(report: SyncReport, earlier: Mapping[str, Any] | None) -> SyncReport:
    """Return `report` with its ``failing`` counted on from the JSON document of the run before."""
    return replace(report, failing=failing_counts(earlier, report.images))


def _failing_before(earlier: Mapping[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    images = earlier.get("images")
    for row in images if isinstance(images, list) else ():
        if isinstance(row, Mapping) and row.get("state") == "failed" and isinstance(row.get("source"), str):
            counts[row["source"]] = 1
    failing = earlier.get("failing")
    if isinstance(failing, Mapping):
        counts |= {source: count for source, count in failing.items() if isinstance(count, int) and count > 0}
    return counts


def failed_first(images: Iterable[ImageResult]) -> list[ImageResult]:
    """Return the images with the failed ones first, else in their order."""
    return sorted(images, key=lambda one: one.state is not ResultState.FAILED)


def report_summary(report: SyncReport) -> str:
    """Return the totals of a run as one line."""
    totals = report.totals
    text = (
        f"{count_of(len(report.images), 'image')}: {totals['copied']:,} copied, {totals['same']:,} same, "
        f"{totals['failed']:,} failed"
    )
    sizes = [
        f"{human_bytes(totals[key])} {word}"
        for key, word in (
            ("bytes_copied", "copied"),
            ("bytes_mounted", "mounted"),
            ("bytes_skipped", "skipped"),
        )
        if totals[key]
    ]
    return f"{text}; {', '.join([*sizes, human_seconds(report.seconds)])}"


def report_text(report: SyncReport) -> str:
    """Return a report for a log: failed images with their causes, then the copied ones, then the totals.

    Images that were the same are only counted, unless there is something to say about one.
    """
    lines: list[str] = []
    for one in failed_first(report.images):
        if one.state is ResultState.SAME and not one.note:
            continue
        lines.append(f"{one.state.value.upper()} {one_line(one.source)} -> {one_line(one.destination)}")
        if one.state is ResultState.FAILED:
            lines.append(f"    {one_line(one.error or 'no reason known')}")
            lines.append(f"    rule {one.rule}{_failing_note(report, one)}{_digests_text(one)}")
        else:
            lines.append(f"    {one.digest or 'digest unknown'}{_from_digest(one)}; {_work_text(one)}")
        if one.note:
            lines.append(f"    {one_line(one.note)}")
    lines.append(report_summary(report))
    return "\n".join(lines)


def report_markdown(report: SyncReport, metadata: Mapping[str, Any] | None = None) -> str:
    """Return a report as a Markdown document; `metadata` are lines about the run, such as when it began.

    Images that were the same are only counted, unless there is something to say about one.
    """
    lines = ["# Image sync report", "", cell(report_summary(report)), *metadata_lines(metadata)]
    titles = {ResultState.FAILED: "Failed", ResultState.COPIED: "Copied", ResultState.SAME: "Same"}
    for state, title in titles.items():
        images = [one for one in report.images if one.state is state]
        if not images:
            continue
        lines += ["", f"## {title} ({len(images):,})", ""]
        shown = [one for one in images if state is not ResultState.SAME or one.note]
        if len(shown) < len(images):
            lines.append(f"There was nothing to do for {count_of(len(images), 'image')}.")
            lines += [""] if shown else []
        if shown:
            lines += _report_table(report, shown, state)
    return "\n".join(lines) + "\n"


def report_document(report: SyncReport, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a report as a JSON document: the object of ``run -o json``, failed images first, and more.

    What it adds: the ``format``, the ``generator``, the ``metadata`` given, ``failing`` (source to number of
    runs in a row), and ``notes`` (what a person should know about an image).
    """
    images = failed_first(report.images)
    return {
        **document_head("run", metadata),
        **replace(report, images=tuple(images)).as_dict(),
        "failing": dict(report.failing),
        "notes": [
            {"rule": one.rule, "source": one.source, "destination": one.destination, "note": one.note}
            for one in images
            if one.note
        ],
    }


def _report_table(report: SyncReport, images: Iterable[ImageResult], state: ResultState) -> list[str]:
    failed = state is ResultState.FAILED
    head = ["Source", "Destination", *(["Cause", "Rule", "Failing for"] if failed else [])]
    head += ["Source digest", "Destination digest", "Copied", "Mounted", "Skipped", "Time", "Note"]
    rows = []
    for one in images:
        row = [code(one.source), code(one.destination)]
        if failed:
            runs = report.failing.get(one.source)
            since = count_of(runs, "run") if runs else ""
            row += [cell(one.error or "no reason known"), str(one.rule), since]
        row += [code(one.source_digest), code(one.digest)]
        row += [human_bytes(size) for size in (one.bytes_copied, one.bytes_mounted, one.bytes_skipped)]
        rows.append([*row, human_seconds(one.seconds), cell(one.note or "")])
    return table(head, rows)


def _failing_note(report: SyncReport, image: ImageResult) -> str:
    runs = report.failing.get(image.source, 0)
    return f", failing for {runs} runs in a row" if runs > 1 else ""


def _digests_text(image: ImageResult) -> str:
    known = (("source", image.source_digest), ("destination", image.digest))
    return "".join(f", {name} {digest}" for name, digest in known if digest)


def _from_digest(image: ImageResult) -> str:
    changed = image.source_digest and image.source_digest != image.digest
    return f" from {image.source_digest}" if changed else ""


def _work_text(image: ImageResult) -> str:
    return (
        f"{human_bytes(image.bytes_copied)} copied, {human_bytes(image.bytes_mounted)} mounted, "
        f"{human_bytes(image.bytes_skipped)} skipped, {human_seconds(image.seconds)}"
    )
