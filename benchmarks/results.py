"""What was measured, as values: runs, goals, and the outcome of each workload."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.measure import Cost, Traffic


@dataclass(frozen=True)
class Run:
    """One run of one tool over ``items`` images.

    ``destination`` is what all destinations were asked, ``uploaded`` the size of all blobs that they took. ``totals``
    are those of our own report. ``registry_cpu`` and ``proxy_cpu`` are what the registries, and the proxies that added
    latency, took, in seconds. ``elsewhere`` is the part of the machine's CPU time that other processes had meanwhile.
    ``beside`` is the peer that ran just before or after one of our runs, where there was one.
    """

    tool: str
    items: int
    cost: Cost
    source: Traffic
    destination: Traffic
    uploaded: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    registry_cpu: float = 0.0
    proxy_cpu: float = 0.0
    elsewhere: float = 0.0
    beside: str | None = None

    @property
    def requests(self) -> int:
        """The number of requests to all registries."""
        return self.source.total + self.destination.total

    @property
    def lists(self) -> int:
        """The number of requests for lists of tags."""
        return self.source.lists + self.destination.lists

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON; of the uploads their number."""
        fields = asdict(self)
        for side in ("source", "destination"):
            fields[side]["uploads"] = len(fields[side]["uploads"])
        return fields


@dataclass(frozen=True)
class Goal:
    """Something to reach. ``exact`` ones do not depend on the machine: missing one is a mistake."""

    what: str
    measured: str
    wanted: str
    reached: bool
    exact: bool = False


@dataclass
class Outcome:
    """What came of one workload; ``unit`` is what its items are, ``problems`` what went wrong."""

    name: str
    title: str
    unit: str
    runs: list[Run] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def tools(self) -> list[str]:
        """The tools that ran, in order."""
        return list(dict.fromkeys(run.tool for run in self.runs))

    def of(self, tool: str) -> list[Run]:
        """Return the runs of one tool, in order."""
        return [run for run in self.runs if run.tool == tool]

    def beside(self, tool: str, peer: str) -> tuple[list[Run], list[Run]]:
        """Return the runs of a tool that are to be compared with those of a peer, and these."""
        runs = self.of(tool)
        return [run for run in runs if run.beside == peer] or runs, self.of(peer)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {**asdict(self), "runs": [run.as_dict() for run in self.runs]}


def median(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    """Return the median of a value over runs."""
    return statistics.median(value(run) for run in runs)


def ratio(ours: Sequence[Run], peer: Sequence[Run], value: Callable[[Run], float]) -> float:
    """Return the median, over the rounds, of what ours takes per item by what the peer takes.

    Round by round, because what else the machine does changes from one to the next.
    """
    pairs = zip(ours, peer, strict=False)
    return statistics.median((value(one) / one.items) / (value(other) / other.items) for one, other in pairs)


def ratio_goal(
    what: str, ours: Sequence[Run], peer: Sequence[Run], value: Callable[[Run], float], at_most: float
) -> Goal:
    """Return the goal that the ratio of ``value``, in seconds, is ``at_most`` so much."""
    found = ratio(ours, peer, value)
    items = ours[0].items
    there = median(peer, lambda run: value(run) / run.items * items)
    scaled = "" if peer[0].items == items else f", {median(peer, value):.1f} s for {peer[0].items:,} of them"
    measured = f"{found:.3f} ({median(ours, value):.2f} s to {there:.2f} s{scaled})"
    return Goal(what, measured, f"at most {at_most:.3g}", reached=found <= at_most)


def exact_goal(what: str, measured: int, wanted: int) -> Goal:
    """Return the goal that a count is what it must be."""
    return Goal(what, f"{measured:,}", f"{wanted:,}", reached=measured == wanted, exact=True)


def share_goal(what: str, measured: int, of: int, at_most: float) -> Goal:
    """Return the goal that a count is ``at_most`` so many times another one; no machine makes it more."""
    share = f"{measured / of:.3f} ({measured:,} of {of:,})"
    return Goal(what, share, f"at most {at_most:.3g}", reached=measured <= at_most * of, exact=True)


def memory_goal(what: str, measured: int, at_most: int) -> Goal:
    """Return the goal that so many bytes of memory are ``at_most`` so many."""
    mib = 1 << 20
    return Goal(what, f"{measured / mib:.1f} MiB", f"at most {at_most / mib:.0f} MiB", reached=measured <= at_most)
