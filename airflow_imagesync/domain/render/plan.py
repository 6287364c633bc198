"""Plans as people and programs read them: log text, Markdown, JSON document."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow_imagesync.domain.estimate import Estimate
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.render.documents import document_head
from airflow_imagesync.domain.render.estimate import estimate_summary, unknown_lines
from airflow_imagesync.domain.render.human import count_of, human_bytes, one_line
from airflow_imagesync.domain.render.markdown import cell, code, metadata_lines, table

#: So many bytes of Markdown at most are for a user interface, which keeps it as an XCom and shows all of it at once.
MAX_UI_BYTES = 60_000
#: The longest text in a cell of that, and the most lines of a list.
_MAX_CELL = 240
_MAX_LINES = 20
_SHOWN = (PairState.FAILED, PairState.NEW, PairState.CHANGED)
#: A digest as it stands alone or within a reference or a message; its first twelve digits are enough for people.
_DIGEST = re.compile(r"\b([a-z0-9]+:[0-9a-f]{12})[0-9a-f]{20,}")

_Sized = Sequence[tuple[ImagePair, int | None]]


def filter_note(pair: ImagePair) -> str:
    """Return what a platform filter does to a pair's digest, or an empty text."""
    return f"digest changes: platform filter ({pair.filtered_digest})" if pair.filtered_digest else ""


def plan_summary(plan: Plan) -> str:
    """Return the totals of a plan as one line."""
    return totals_summary(plan.totals)


def totals_summary(totals: Mapping[str, int]) -> str:
    """Return a plan's totals, the number of images by state, as one line."""
    states = ", ".join(f"{number:,} {state}" for state, number in totals.items())
    return f"{count_of(sum(totals.values()), 'image')}: {states}"


def plan_text(plan: Plan, estimate: Estimate | None = None) -> str:
    """Return a plan for a log: what can't be planned, then what is to do; the same is only counted."""
    lines: list[str] = []
    for pair, size in _failed_first(_sized(plan, estimate)):
        if pair.state is PairState.SAME:
            continue
        lines.append(f"{pair.state.value.upper()} {one_line(pair.source)} -> {one_line(pair.destination)}")
        if pair.state is PairState.FAILED:
            lines.append(f"    {one_line(pair.error or 'no reason known')}")
        else:
            now = f", replaces {pair.destination_digest}" if pair.destination_digest else ""
            sized = f", {human_bytes(size)}" if size is not None else ""
            lines.append(f"    {pair.source_digest or 'digest unknown'}{now}{sized}")
        if pair.filtered_digest:
            lines.append(f"    {filter_note(pair)}")
    lines += [one_line(note) for note in plan.notes]
    if estimate is not None and estimate.images:
        lines += [*unknown_lines(estimate), estimate_summary(estimate)]
    lines.append(plan_summary(plan))
    return "\n".join(lines)


def plan_markdown(
    plan: Plan,
    metadata: Mapping[str, Any] | None = None,
    *,
    estimate: Estimate | None = None,
    max_rows: int | None = None,
) -> str:
    """Return a plan as a Markdown document: totals, what is to be sent, then the images that are not the same.

    `metadata` are lines about the run, such as when it began. `estimate` is that of this plan. `max_rows` is for a user
    interface: so many images at most are shown, fewer where more would take more than MAX_UI_BYTES, and then a table
    of all their repositories; long texts and digests are shortened. Without it every image is there in full. Raises
    ValueError for the estimate of another plan.
    """
    document = _Document(plan, metadata, estimate)
    if max_rows is None:
        return document.text(None)
    while True:
        text = document.text(max_rows)
        if max_rows <= 0 or len(text.encode()) <= MAX_UI_BYTES:
            return text
        max_rows = max_rows * 2 // 3


def plan_document(
    plan: Plan, metadata: Mapping[str, Any] | None = None, *, estimate: Estimate | None = None
) -> dict[str, Any]:
    """Return a plan as a JSON document: the object of ``plan -o json``, failed rows first, and more.

    With an `estimate` of this plan that is its totals under ``estimate``, and each row's ``size`` in bytes, null where
    it is not known or nothing is to be copied. Raises ValueError for the estimate of another plan.
    """
    images = _failed_first(_sized(plan, estimate))
    notes: list[dict[str, Any]] = [
        {"rule": pair.rule, "source": pair.source, "destination": pair.destination, "note": filter_note(pair)}
        for pair, _ in images
        if pair.filtered_digest
    ]
    notes += [{"rule": None, "source": None, "destination": None, "note": note} for note in plan.notes]
    document = {
        **document_head("plan", metadata),
        "images": [pair.as_dict() if estimate is None else {**pair.as_dict(), "size": size} for pair, size in images],
        "totals": plan.totals,
        "notes": notes,
    }
    return document if estimate is None else {**document, "estimate": estimate.as_dict()}


def plan_order(plan: Plan) -> list[ImagePair]:
    """Return the pairs with those that failed first, else in their order."""
    return [pair for pair, _ in _failed_first(_sized(plan, None))]


def _sized(plan: Plan, estimate: Estimate | None) -> _Sized:
    sizes = estimate.sizes_of(plan.images) if estimate is not None else [None] * len(plan.images)
    return list(zip(plan.images, sizes, strict=True))


def _failed_first(images: _Sized) -> _Sized:
    return sorted(images, key=lambda one: one[0].state is not PairState.FAILED)


class _Document:
    """The Markdown of a plan, in full or for a user interface."""

    def __init__(self, plan: Plan, metadata: Mapping[str, Any] | None, estimate: Estimate | None) -> None:
        self._plan = plan
        self._metadata = metadata
        self._estimate = estimate
        by_state: dict[PairState, list[tuple[ImagePair, int | None]]] = {state: [] for state in PairState}
        for pair, size in _sized(plan, estimate):
            by_state[pair.state].append((pair, size))
        self._images = by_state

    def text(self, max_rows: int | None) -> str:
        """Return the document, with so many rows of images at most."""
        brief = max_rows is not None
        lines = ["# Image sync plan", "", cell(plan_summary(self._plan)), *metadata_lines(self._metadata)]
        if self._plan.images:
            lines += ["", *self._states()]
        if self._estimate is not None and self._estimate.images:
            lines += ["", *_estimate_lines(self._estimate, brief=brief)]
        if self._plan.notes:
            lines += ["", *_items(self._plan.notes, brief=brief)]
        counts = {state: len(self._images[state]) for state in _SHOWN}
        shown = counts if max_rows is None else _shares(counts, max_rows)
        for state in _SHOWN:
            if max_rows and shown != counts and state is PairState.NEW:
                lines += self._by_repository(max_rows)
            if counts[state]:
                lines += ["", f"## {state.value.capitalize()} ({counts[state]:,})"]
                lines += self._rows(self._images[state], state, shown[state], brief=brief)
        if same := len(self._images[PairState.SAME]):
            lines += ["", f"## Same ({same:,})", "", f"Nothing to do for {count_of(same, 'image')}."]
        return "\n".join(lines) + "\n"

    def _states(self) -> list[str]:
        """Return the table of how many images, and how many bytes, are in each state."""
        rows = []
        for state in (*_SHOWN, PairState.SAME):
            images = self._images[state]
            if images:
                copied = state in (PairState.NEW, PairState.CHANGED)
                rows.append([state.value.capitalize(), f"{len(images):,}", _sum_text(images) if copied else ""])
        head = ["State", "Images", "Size"]
        if self._estimate is None:
            head, rows = head[:-1], [row[:-1] for row in rows]
        return table(head, rows, right=("Images", "Size"))

    def _by_repository(self, shown: int) -> list[str]:
        """Return the table of what is to be copied between which repositories, the first of them."""
        groups = self._repositories
        rows = []
        for (source, destination), images in list(groups.items())[:shown]:
            new = sum(pair.state is PairState.NEW for pair, _ in images)
            row = [code(_shortened(source)), code(_shortened(destination)), f"{new:,}", f"{len(images) - new:,}"]
            rows.append([*row, *([_sum_text(images)] if self._estimate is not None else [])])
        head = ["Source", "Destination", "New", "Changed", *(["Size"] if self._estimate is not None else [])]
        lines = ["", f"## Repositories ({len(groups):,})", "", *table(head, rows, right=head[2:])]
        return [*lines, *(["", f"and {len(groups) - shown:,} more"] if len(groups) > shown else [])] if groups else []

    @cached_property
    def _repositories(self) -> dict[tuple[str, str], list[tuple[ImagePair, int | None]]]:
        """The images that are to be copied, by their source and destination repositories."""
        groups: dict[tuple[str, str], list[tuple[ImagePair, int | None]]] = defaultdict(list)
        for state in (PairState.NEW, PairState.CHANGED):
            for pair, size in self._images[state]:
                source, destination = pair.images
                groups[str(source.repository), str(destination.repository)].append((pair, size))
        return groups

    def _rows(self, images: _Sized, state: PairState, shown: int, *, brief: bool) -> list[str]:
        """Return the table of images in one state, the first of them, and how many are left."""
        failed = state is PairState.FAILED
        text = _shortened if brief else str
        rows = [
            {
                "Source": code(text(pair.source)),
                "Destination": code(text(pair.destination)),
                "Cause": cell(text(pair.error or "no reason known")) if failed else "",
                "Rule": str(pair.rule) if failed else "",
                "Size": _size_text(size) if self._estimate is not None and not failed else "",
                "Source digest": _digest(pair.source_digest, brief=brief),
                "Destination digest": _digest(pair.destination_digest, brief=brief),
                "Note": cell(text(filter_note(pair))),
            }
            for pair, size in images[:shown]
        ]
        # What no image has is no column.
        head = [title for title in rows[0] if any(row[title] for row in rows)] if rows else []
        lines = ["", *table(head, ([row[title] for title in head] for row in rows), right=("Rule", "Size"))]
        more = f"and {count_of(len(images) - shown, 'more image')}" if rows else "not shown here"
        return [*(lines if rows else []), *(["", more] if shown < len(images) else [])]


def _estimate_lines(estimate: Estimate, *, brief: bool) -> list[str]:
    """Return what is to be sent in all, then to each registry, and what is left out of that."""
    registries = list(estimate.registries.items())
    shown = registries[:_MAX_LINES] if brief else registries
    rows = [
        [code(name), f"{one.images:,}", _bytes_text(one.to_send, one.images, one.unknown), human_bytes(one.there)]
        for name, one in shown
    ]
    head = ["Destination registry", "Images", "To send at most", "Already there"]
    lines = [cell(estimate_summary(estimate)), "", *table(head, rows, right=head[1:])]
    if len(shown) < len(registries):
        lines += ["", f"and {len(registries) - len(shown):,} more"]
    if estimate.unknown:
        lines += ["", *_items(unknown_lines(estimate), brief=brief)]
    return lines


def _items(texts: Sequence[str], *, brief: bool) -> list[str]:
    """Return a list of texts, the first of them where it is to be brief."""
    if not brief:
        return [f"- {cell(text)}" for text in texts]
    lines = [f"- {cell(_shortened(text))}" for text in texts[:_MAX_LINES]]
    return lines + ([f"- and {len(texts) - _MAX_LINES:,} more"] if len(texts) > _MAX_LINES else [])


def _shares(counts: Mapping[PairState, int], most: int) -> dict[PairState, int]:
    """Return how many of each are shown so that they are `most` in all, and many of one do not hide the others."""
    shares: dict[PairState, int] = {}
    for left, (state, count) in zip(range(len(counts), 0, -1), sorted(counts.items(), key=_count), strict=True):
        shares[state] = min(count, (most - sum(shares.values())) // left)
    return shares


def _count(one: tuple[PairState, int]) -> int:
    return one[1]


def _sum_text(images: Iterable[tuple[ImagePair, int | None]]) -> str:
    sizes = [size for _, size in images]
    known = [size for size in sizes if size is not None]
    return _bytes_text(sum(known), len(sizes), len(sizes) - len(known))


def _bytes_text(known: int, images: int, unknown: int) -> str:
    """Return a sum of sizes, of which some may not be known."""
    if unknown and unknown == images:
        return "unknown"
    return f"{human_bytes(known)} + {unknown:,} unknown" if unknown else human_bytes(known)


def _size_text(size: int | None) -> str:
    return "unknown" if size is None else human_bytes(size)


def _digest(digest: str | None, *, brief: bool) -> str:
    return code(digest.partition(":")[2][:12] if digest and brief else digest)


def _shortened(text: str) -> str:
    """Return a text on one line with its digests shortened, and its middle left out where it is still long."""
    line = _DIGEST.sub("\\1…", one_line(text))
    half = _MAX_CELL // 2
    return line if len(line) <= _MAX_CELL else f"{line[:half]} … {line[-half:]}"
