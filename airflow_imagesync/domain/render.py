"""Plans and reports as people and programs read them: log text, Markdown, JSON documents, the success list.

Pure functions: whoever writes a file or asks a clock does it elsewhere.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from airflow_imagesync import __version__
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport

#: The version of the JSON documents; it goes up when a key changes its meaning or goes away.
FORMAT = 1

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
#: ASCII punctuation that means something in Markdown; what HTML gives a meaning is escaped as HTML.
_MARKDOWN = re.compile(r"[\\`*_\[\]#|~$]")


def human_bytes(count: float) -> str:
    """Return a number of bytes with a binary unit, like ``12.3 MiB``."""
    unit = 0
    # 1023.95 and not 1024, so that rounding never shows "1024.0 KiB".
    while count >= 1023.95 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def human_seconds(seconds: float) -> str:
    """Return a duration like ``0.4 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def utc_time(posix: float) -> str:
    """Return a time in POSIX seconds like ``2026-01-31 14:05:09 UTC``; one beyond this century as its end."""
    return datetime.fromtimestamp(min(posix, 4102444799.0), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count_of(number: int, noun: str) -> str:
    """Return ``1 image`` or ``3 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """Return `text` with control characters written out, line breaks among them.

    Error texts come from other machines, and a terminal would obey the escape sequences in them.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def one_line(text: str) -> str:
    """Return `text` on one line, with control characters written out."""
    return printable(" ".join(text.split()))


# --- Reports ---------------------------------------------------------------------------------------------


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
    lines = ["# Image sync report", "", _cell(report_summary(report)), *_metadata_lines(metadata)]
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
        **_head("run", metadata),
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
        row = [_code(one.source), _code(one.destination)]
        if failed:
            runs = report.failing.get(one.source)
            since = count_of(runs, "run") if runs else ""
            row += [_cell(one.error or "no reason known"), str(one.rule), since]
        row += [_code(one.source_digest), _code(one.digest)]
        row += [human_bytes(size) for size in (one.bytes_copied, one.bytes_mounted, one.bytes_skipped)]
        rows.append([*row, human_seconds(one.seconds), _cell(one.note or "")])
    return _table(head, rows)


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


# --- Plans -----------------------------------------------------------------------------------------------


def filter_note(pair: ImagePair) -> str:
    """Return what a platform filter does to a pair's digest, or an empty text."""
    return f"digest changes: platform filter ({pair.filtered_digest})" if pair.filtered_digest else ""


def plan_summary(plan: Plan) -> str:
    """Return the totals of a plan as one line."""
    states = ", ".join(f"{number:,} {state}" for state, number in plan.totals.items())
    return f"{count_of(len(plan.images), 'image')}: {states}"


def plan_text(plan: Plan) -> str:
    """Return a plan for a log: what can't be planned, then what is to do; the same is only counted."""
    lines: list[str] = []
    for pair in plan_order(plan):
        if pair.state is PairState.SAME:
            continue
        lines.append(f"{pair.state.value.upper()} {one_line(pair.source)} -> {one_line(pair.destination)}")
        if pair.state is PairState.FAILED:
            lines.append(f"    {one_line(pair.error or 'no reason known')}")
        else:
            now = f", replaces {pair.destination_digest}" if pair.destination_digest else ""
            lines.append(f"    {pair.source_digest or 'digest unknown'}{now}")
        if pair.filtered_digest:
            lines.append(f"    {filter_note(pair)}")
    lines += [one_line(note) for note in plan.notes]
    lines.append(plan_summary(plan))
    return "\n".join(lines)


def plan_markdown(plan: Plan, metadata: Mapping[str, Any] | None = None) -> str:
    """Return a plan as a Markdown document; `metadata` are lines about the run, such as when it began."""
    lines = ["# Image sync plan", "", _cell(plan_summary(plan)), *_metadata_lines(metadata)]
    if plan.notes:
        lines += ["", *(f"- {_cell(note)}" for note in plan.notes)]
    for state in (PairState.FAILED, PairState.NEW, PairState.CHANGED, PairState.SAME):
        pairs = [pair for pair in plan.images if pair.state is state]
        if not pairs:
            continue
        lines += ["", f"## {state.value.capitalize()} ({len(pairs):,})", ""]
        if state is PairState.SAME:
            lines.append(f"Nothing to do for {count_of(len(pairs), 'image')}.")
            continue
        failed = state is PairState.FAILED
        head = ["Source", "Destination", *(["Cause", "Rule"] if failed else [])]
        head += ["Source digest", "Destination digest", "Note"]
        rows = [
            [
                _code(pair.source),
                _code(pair.destination),
                *([_cell(pair.error or "no reason known"), str(pair.rule)] if failed else []),
                _code(pair.source_digest),
                _code(pair.destination_digest),
                _cell(filter_note(pair)),
            ]
            for pair in pairs
        ]
        lines += _table(head, rows)
    return "\n".join(lines) + "\n"


def plan_document(plan: Plan, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a plan as a JSON document: the object of ``plan -o json``, failed rows first, and more."""
    images = plan_order(plan)
    notes: list[dict[str, Any]] = [
        {"rule": pair.rule, "source": pair.source, "destination": pair.destination, "note": filter_note(pair)}
        for pair in images
        if pair.filtered_digest
    ]
    notes += [{"rule": None, "source": None, "destination": None, "note": note} for note in plan.notes]
    return {**_head("plan", metadata), **replace(plan, images=tuple(images)).as_dict(), "notes": notes}


def plan_order(plan: Plan) -> list[ImagePair]:
    """Return the pairs with those that failed first, else in their order."""
    return sorted(plan.images, key=lambda pair: pair.state is not PairState.FAILED)


# --- image-syncer's list of successful images ------------------------------------------------------------


def success_list(report: SyncReport) -> dict[str, list[str]]:
    """Return image-syncer's success list: each source that was copied, with its destinations.

    As there, images that had nothing to do are absent.
    """
    found: dict[str, list[str]] = {}
    for one in report.images:
        if one.state is ResultState.COPIED:
            found.setdefault(one.source, []).append(one.destination)
    return found


def success_text(report: SyncReport, *, as_json: bool) -> str:
    """Return image-syncer's success list as JSON or as YAML."""
    found = success_list(report)
    if as_json:
        return json_text(found)
    return yaml.safe_dump(found, sort_keys=False, default_flow_style=False, width=float("inf"))


def json_text(document: Mapping[str, Any]) -> str:
    """Return `document` as indented JSON in ASCII, with a newline at its end."""
    return json.dumps(document, indent=2) + "\n"


# --- Shared ----------------------------------------------------------------------------------------------


def _head(kind: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": kind,
        "generator": f"airflow_imagesync {__version__}",
        "metadata": dict(metadata or {}),
    }


def _metadata_lines(metadata: Mapping[str, Any] | None) -> list[str]:
    lines = [f"- {_cell(str(key))}: {_cell(str(value))}" for key, value in (metadata or {}).items()]
    return ["", *lines] if lines else []


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _cell(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, also within a table; line breaks stay."""
    lines = [one_line(line) for line in text.splitlines()]
    return "<br>".join(
        _MARKDOWN.sub(lambda found: f"\\{found[0]}", html.escape(line, quote=False)) for line in lines if line
    )


def _code(text: str | None) -> str:
    """Return `text` as a code span that a table can hold; nothing for None."""
    if not text:
        return ""
    line = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    # GitHub's Markdown splits cells before it looks for code, so a pipe needs its backslash here too.
    inner = line.replace("|", "\\|")
    return f"{fence} {inner} {fence}" if longest else f"{fence}{inner}{fence}"
