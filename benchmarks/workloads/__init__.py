"""The workloads: what is put into the registries, what the tools do with it, and what is to be reached."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.results import Outcome
from benchmarks.workloads.bench import Bench
from benchmarks.workloads.comparing import plan, rules, trusted, unchanged, unchanged_far
from benchmarks.workloads.copying import cpu_per_byte, large, memory, small, small_far
from benchmarks.workloads.sharing import fan_out, processes, shared

#: In the order of the tables. Each function takes a Bench, and sizes where others than the usual ones are wanted.
WORKLOADS: dict[str, Callable[[Bench], Outcome]] = {
    "unchanged": unchanged,
    "unchanged-far": unchanged_far,
    "trusted": trusted,
    "rules": rules,
    "plan": plan,
    "small": small,
    "small-far": small_far,
    "large": large,
    "memory": memory,
    "bytes": cpu_per_byte,
    "shared": shared,
    "processes": processes,
    "fan-out": fan_out,
}
