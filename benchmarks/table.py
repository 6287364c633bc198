"""The tables that a benchmark ends with."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from benchmarks.measure import Cost, Traffic
from benchmarks.results import Goal, Outcome, Run
from benchmarks.tools.imagesync import NAME
from benchmarks.tools.tool import Peer

_MIB = 1 << 20
#: Enough for every row, where the output is no terminal.
_WIDTH = 150


def show(
    outcomes: Sequence[Outcome],
    idle: Cost,
    machine: str,
    peers: Iterable[Peer] = (),
    console: Console | None = None,
) -> None:
    """Print all tables; ``machine`` is the line that says on what they were measured."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=_WIDTH)
    console.print(_costs_table(outcomes, idle))
    console.print(_requests_table(outcomes))
    console.print(_goals_table(outcomes))
    for outcome in outcomes:
        for problem in outcome.problems:
            console.print(Text(f"{outcome.name}: {problem}", style="red"))
        for note in outcome.notes:
            console.print(Text(f"{outcome.name}: {note}."))
    for peer in peers:
        console.print(Text(f"{peer.name}: {peer.how}."))
    console.print(Text(f"Our idle process: {_mib(idle.peak)} MiB, and {idle.cpu:.2f} s of CPU for its imports."))
    console.print(Text(machine))


def _costs_table(outcomes: Iterable[Outcome], idle: Cost) -> Table:
    def cells(_: Outcome, runs: Sequence[Run]) -> tuple[str, ...]:
        peak = max(run.cost.peak for run in runs)
        return (
            _spread(run.cost.wall for run in runs),
            _spread(run.cost.cpu for run in runs),
            _spread(run.registry_cpu for run in runs),
            _mib(peak),
            _mib(peak - idle.peak) if runs[0].tool == NAME else "",
            _mib(runs[-1].uploaded),
        )

    heads = ("Wall s", "Client CPU s", "Registries' CPU s", "Peak MiB", "Above idle", "Uploaded MiB")
    return _table("Cost: median (least to most); the most memory of all rounds", heads, "right", outcomes, cells)


def _requests_table(outcomes: Iterable[Outcome]) -> Table:
    def cells(outcome: Outcome, runs: Sequence[Run]) -> tuple[str, ...]:
        last = runs[-1]
        each = f"{last.requests / last.items:.1f} per {outcome.unit}"
        return each, _requests(last.source), _requests(last.destination)

    heads = ("Together", "Source", "Destination")
    return _table("Requests, by the registries' access logs", heads, "left", outcomes, cells)


def _table(
    title: str,
    heads: Iterable[str],
    justify: JustifyMethod,
    outcomes: Iterable[Outcome],
    cells: Callable[[Outcome, Sequence[Run]], tuple[str, ...]],
) -> Table:
    """Return a table with a row for each tool of each workload."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for head in ("Workload", "By"):
        table.add_column(head, overflow="fold")
    for head in heads:
        table.add_column(head, justify=justify, overflow="fold")
    for outcome in outcomes:
        rows = list(_by_tool(outcome))
        for position, (tool, runs) in enumerate(rows):
            texts = (outcome.title if position == 0 else "", tool, *cells(outcome, runs))
            table.add_row(*map(Text, texts), end_section=position == len(rows) - 1)
    return table


def _by_tool(outcome: Outcome) -> Iterator[tuple[str, list[Run]]]:
    """Yield the tools with what they did, and their runs."""
    most = max((run.items for run in outcome.runs), default=0)
    for tool in outcome.tools:
        runs = outcome.of(tool)
        yield tool if runs[0].items == most else f"{tool}, {runs[0].items:,} of them", runs


def _spread(values: Iterable[float]) -> str:
    ordered = sorted(values)
    middle = statistics.median(ordered)
    return f"{middle:.2f} ({ordered[0]:.2f}-{ordered[-1]:.2f})" if len(ordered) > 1 else f"{middle:.2f}"


def _mib(count: int) -> str:
    return f"{count / _MIB:,.1f}"


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
