"""Draws a result file as an SVG: ``python -m benchmarks.chart RESULT.json CHART.svg``.

By hand: a plotting library would be the heaviest thing that is installed for development, for some bars.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.figures import Comparison, Figure, comparisons, seconds_text
from benchmarks.tools.imagesync import NAME

# All in pixels.
_COLUMNS = 2
_PANEL = 460
_GAP = 40
_MARGIN = 24
_WIDTH = _COLUMNS * _PANEL + (_COLUMNS - 1) * _GAP + 2 * _MARGIN
_HEAD = 78
_TITLE = 26
_ROW = 20
_BAR = 12
_BELOW = 22
_LABELS = 132
_BARS = 180
_FOOT_LINE = 16
#: Characters of the small print that fit into a line.
_FOOT_CHARACTERS = 150

_HEADLINE = "Wall time, and requests to registries"
_TIMES = "\u00d7"
_STYLE = """
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .paper { fill: #ffffff } .bar { fill: #b1bac4 } .ours { fill: #0969da }
  .head { font-size: 18px; font-weight: 600 } .title { font-size: 13px; font-weight: 600 }
  .mute { fill: #59636e } .strong { font-weight: 600 } .rule { stroke: #d1d9e0 } .foot { font-size: 11px }
  .end { text-anchor: end }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .mute { fill: #9198a1 } .rule { stroke: #3d444d }
    .paper { fill: #0d1117 } .bar { fill: #59636e } .ours { fill: #4493f8 }
  }
"""


def draw(document: Mapping[str, Any]) -> str:
    """Return the chart of a result file: a panel for each workload that compares, a bar for each program."""
    parts: list[str] = []
    top = _HEAD
    compared = comparisons(document)
    for row in (compared[first : first + _COLUMNS] for first in range(0, len(compared), _COLUMNS)):
        for column, comparison in enumerate(row):
            parts += _panel(comparison, _MARGIN + column * (_PANEL + _GAP), top)
        top += _TITLE + max(len(one.figures) for one in row) * _ROW + _BELOW
    foot = textwrap.wrap(document["machine"], _FOOT_CHARACTERS)
    parts.append(f'<line class="rule" x1="{_MARGIN}" y1="{top}" x2="{_WIDTH - _MARGIN}" y2="{top}"/>')
    for number, line in enumerate(foot, 1):
        parts.append(_text(_MARGIN, top + 6 + number * _FOOT_LINE, line, "mute foot"))
    height = top + 6 + len(foot) * _FOOT_LINE + _MARGIN - 6
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_HEADLINE}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
            *_head(),
            *parts,
            "</svg>\n",
        ]
    )


def _head() -> Iterator[str]:
    yield _text(_MARGIN, 36, _HEADLINE, "head")
    explained = (
        f"Shorter is better; {_TIMES} is the time by that of {NAME}, starts of the programs included. "
        "* In proportion, from part of the items."
    )
    yield _text(_MARGIN, 57, explained, "mute")


def _panel(comparison: Comparison, left: int, top: int) -> Iterator[str]:
    right = left + _PANEL
    yield _text(left, top + 12, comparison.title, "title")
    yield _text(right, top + 12, f"requests / {comparison.unit}", "mute foot end")
    longest = max(one.seconds for one in comparison.figures)
    for number, figure in enumerate(comparison.figures):
        yield from _bar(figure, comparison.figures[0], longest, left, top + _TITLE + number * _ROW)


def _bar(figure: Figure, ours: Figure, longest: float, left: int, top: int) -> Iterator[str]:
    mine = figure.tool == ours.tool
    baseline = top + _BAR - 1
    start = left + _LABELS
    width = max(1.0, figure.seconds / longest * _BARS)
    yield _text(left, baseline, figure.tool, "strong" if mine else "")
    place = f'x="{start}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"'
    yield f'<rect class="{"ours" if mine else "bar"}" {place}/>'
    times = "" if mine else f"  {_times(figure.seconds / ours.seconds)}"
    told = f"{seconds_text(figure.seconds)}{'' if figure.whole else '*'}{times}"
    yield _text(start + width + 6, baseline, told, "strong" if mine else "")
    yield _text(left + _PANEL, baseline, f"{figure.requests:.1f}", "end strong" if mine else "end mute")


def _times(ratio: float) -> str:
    return f"{ratio:.1f}{_TIMES}" if ratio < 9.95 else f"{ratio:.0f}{_TIMES}"


def _text(x: float, y: float, text: str, classes: str = "") -> str:
    named = f' class="{classes}"' if classes else ""
    return f'<text x="{x:g}" y="{y:g}"{named} xml:space="preserve">{escape(text)}</text>'


def main(argv: Sequence[str] | None = None) -> int:
    """Read a result file and write its chart; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description="Draw what was measured.")
    parser.add_argument("result", type=Path, metavar="RESULT.json", help="what `python -m benchmarks --json` wrote")
    parser.add_argument("chart", type=Path, metavar="CHART.svg", help="the file to write")
    arguments = parser.parse_args(argv)
    arguments.chart.write_text(draw(json.loads(arguments.result.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
