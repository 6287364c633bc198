"""Keeps the README's figures to what was measured: ``python -m benchmarks.readme RESULT.json`` writes them anew."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Comparison, Figure, comparisons, seconds_text
from benchmarks.tools.imagesync import NAME

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"
#: The workloads whose bytes tell more than their time.
_ABOUT_BYTES = ("shared", "processes", "fan-out")
_MIB = 1 << 20


def measured(document: Mapping[str, Any]) -> str:
    """Return the README's lines on a result file: a table of times, one of bytes, and what ours alone came to."""
    found = comparisons(document)
    tools = [NAME, *(peer["name"] for peer in document["peers"])]
    about_bytes = [one for one in found if one.name in _ABOUT_BYTES]
    parts = [_table("seconds, requests for each", tools, found, _time)]
    if about_bytes:
        parts.append(_table("MiB read, MiB sent", tools, about_bytes, _bytes))
    parts.append("\n".join(_alone(document)))
    parts.append(f"Measured on {document['machine']}")
    return "\n\n".join(part for part in parts if part) + "\n"


def update(document: Mapping[str, Any], readme: Path = README) -> None:
    """Replace what stands between the two marks in the README.

    Raises ValueError when it lacks them.
    """
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} lacks the lines {BEGIN.strip()} and {END.strip()}")
    readme.write_text(f"{before}{BEGIN}{measured(document)}{END}{after}")


def _table(head: str, tools: Sequence[str], compared: Sequence[Comparison], cell: Callable[[Figure], str]) -> str:
    lines = [f"| {' | '.join([head, *tools])} |", f"| --- |{' --- |' * len(tools)}"]
    for one in compared:
        cells = {figure.tool: cell(figure) for figure in one.figures}
        shown = [one.title, *(cells.get(tool, "") for tool in tools)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _time(figure: Figure) -> str:
    return f"{seconds_text(figure.seconds)}{'' if figure.whole else '*'}, {figure.requests:.1f}"


def _bytes(figure: Figure) -> str:
    return f"{figure.read / _MIB:,.0f}, {figure.sent / _MIB:,.0f}"


def _alone(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each workload that has no peer, of what its goals that depend on the machine came to."""
    compared = {one.name for one in comparisons(document)}
    for workload in document["workloads"]:
        told = [f"{goal['what']}: {goal['measured']}" for goal in workload["goals"] if not goal["exact"]]
        if workload["name"] not in compared and told:
            yield f"- {workload['title']}: {'; '.join(told)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Read a result file and bring the README up to it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description="Write the README's figures.")
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="what `python -m benchmarks --json` wrote")
    update(json.loads(parser.parse_args(argv).result.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
