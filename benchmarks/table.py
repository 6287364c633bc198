"""The tables that a benchmark ends with."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_imagesync import __version__
from benchmarks.measure import Cost, Traffic
from benchmarks.results import Goal, Outcome, Run, median
from benchmarks.stage import has_room_in_memory
from devtools import install

_MIB = 1 << 20
#: Wide enough for every row where the output is no terminal.
_WIDTH = 190


def show(outcomes: Sequence[Outcome], idle: Cost, console: Console | None = None) -> None:
    """Print all tables, and on what they were measured."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=_WIDTH)
    console.print(_runs_table(outcomes, idle))
    console.print(_goals_table(outcomes))
    for outcome in outcomes:
        if outcome.problem is not None:
            console.print(Text(f"{outcome.name}: {outcome.problem}", style="red"))
        for note in outcome.notes:
            console.print(Text(f"{outcome.name}: {note}."))
    console.print(Text(f"Our idle process: {idle.peak / _MIB:.1f} MiB after {idle.cpu:.2f} s of CPU for its imports."))
    console.print(Text(machine()))


def machine() -> str:
    """Return a line on this machine and the programs that ran."""
    cores = len(os.sched_getaffinity(0))
    storage = "in shared memory" if has_room_in_memory(0) else "in the temporary directory"
    versions = [
        f"airflow-imagesync {__version__}",
        f"Python {platform.python_version()}",
        _version("registry"),
        _version("skopeo"),
    ]
    return f"{cores} cores ({_processor()}), {'; '.join(versions)}; registries {storage}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _version(name: str) -> str:
    program = install.find(name)
    if program is None:
        return f"{install.REGISTRY_IMAGE} in Docker" if name == "registry" else f"no {name}"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    # "skopeo version 1.9.3", "registry github.com/distribution/distribution/v3 3.0.0"
    words = done.stdout.split()
    return f"{name} {words[-1]}" if words else name


def _runs_table(outcomes: Iterable[Outcome], idle: Cost) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Runs, medians (least to most)", title_justify="left")
    for head in ("Workload", "By"):
        table.add_column(head, overflow="fold")
    for head in ("Wall s", "CPU s", "Peak MiB", "Above idle"):
        table.add_column(head, justify="right")
    for head in ("Source was asked", "Destination was asked"):
        table.add_column(head, overflow="fold")
    for head in ("Requests each", "Uploaded MiB"):
        table.add_column(head, justify="right")
    for outcome in outcomes:
        tools = list(dict.fromkeys(run.tool for run in outcome.runs))
        for position, tool in enumerate(tools):
            table.add_row(
                Text(outcome.title if position == 0 else ""),
                *_cells(outcome, outcome.of(tool), idle, ours=position == tools.index(outcome.runs[0].tool)),
                end_section=position == len(tools) - 1,
            )
    return table


def _cells(outcome: Outcome, runs: Sequence[Run], idle: Cost, *, ours: bool) -> list[Text]:
    last = runs[-1]
    peak = max(run.cost.peak for run in runs)
    return [
        Text(text)
        for text in (
            last.tool
            if last.items == max(run.items for run in outcome.runs)
            else f"{last.tool}, {last.items:,} of them",
            _spread([run.cost.wall for run in runs]),
            _spread([run.cost.cpu for run in runs]),
            f"{peak / _MIB:.1f}",
            f"{(peak - idle.peak) / _MIB:.1f}" if ours else "",
            _requests(last.source),
            _requests(last.destination),
            f"{median(runs, lambda run: run.requests / run.items):.1f} per {outcome.unit}",
            f"{last.uploaded / _MIB:,.1f}",
        )
    ]


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return f"{middle:.2f} ({ordered[0]:.2f}-{ordered[-1]:.2f})" if len(ordered) > 1 else f"{middle:.2f}"


def _requests(traffic: Traffic) -> str:
    counts = sorted(traffic.requests.items(), key=lambda item: -item[1])
    return f"{traffic.total:,}: " + ", ".join(f"{method} {count:,}" for method, count in counts)


def _goals_table(outcomes: Iterable[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="What is to be reached", title_justify="left")
    for head in ("Workload", "What", "Measured", "Wanted", "Reached"):
        table.add_column(head, overflow="fold")
    for outcome in outcomes:
        for position, goal in enumerate(outcome.goals):
            table.add_row(
                Text(outcome.name if position == 0 else ""),
                Text(goal.what),
                Text(goal.measured),
                Text(goal.wanted),
                _verdict(goal),
                end_section=position == len(outcome.goals) - 1,
            )
    return table


def _verdict(goal: Goal) -> Text:
    return Text("yes", style="green") if goal.reached else Text("NO", style="bold red")
