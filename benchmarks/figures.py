"""What chart and README show of a result file: for each workload, what each program took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tools.imagesync import NAME


@dataclass(frozen=True)
class Figure:
    """What one program took for all items of a workload: medians of its runs, and of bytes the most.

    ``seconds`` are in proportion where ``whole`` is false: then only part of the items was run. ``requests`` are those
    for one item. ``read`` and ``sent`` are bytes of blobs from the source and to all destinations.
    """

    tool: str
    seconds: float
    requests: float
    read: int
    sent: int
    whole: bool


@dataclass(frozen=True)
class Comparison:
    """A workload that ours and at least one peer have run; ours comes first."""

    name: str
    title: str
    unit: str
    figures: tuple[Figure, ...]


def comparisons(document: Mapping[str, Any]) -> list[Comparison]:
    """Return the workloads of a result file that compare ours with peers, in order."""
    peers = [peer["name"] for peer in document["peers"]]
    found = []
    for workload in document["workloads"]:
        items = max((run["items"] for run in workload["runs"]), default=0)
        by_tool = {name: [run for run in workload["runs"] if run["tool"] == name] for name in (NAME, *peers)}
        figures = tuple(_figure(name, runs, items) for name, runs in by_tool.items() if runs)
        if len(figures) > 1 and figures[0].tool == NAME:
            found.append(Comparison(workload["name"], workload["title"], workload["unit"], figures))
    return found


def _figure(tool: str, runs: Sequence[Mapping[str, Any]], items: int) -> Figure:
    each = [run["cost"]["wall"] / run["items"] for run in runs]
    requests = [_requests(run) / run["items"] for run in runs]
    return Figure(
        tool,
        statistics.median(each) * items,
        statistics.median(requests),
        max(run["source"]["blob_bytes"] for run in runs),
        max(run["uploaded"] for run in runs),
        whole=runs[0]["items"] == items,
    )


def _requests(run: Mapping[str, Any]) -> int:
    return sum(count for side in ("source", "destination") for count in run[side]["requests"].values())


def seconds_text(seconds: float) -> str:
    """Return seconds with as many digits as say something."""
    digits = 0 if seconds >= 100 else 1 if seconds >= 10 else 2
    return f"{seconds:.{digits}f} s"
