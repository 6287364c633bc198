"""The command ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import table
from benchmarks.measure import MeasurementError
from benchmarks.results import Outcome
from benchmarks.stage import Stage
from benchmarks.tools import ImageSync, find_skopeo
from benchmarks.workloads import WORKLOADS, Bench
from devtools import install


def main(argv: Sequence[str] | None = None) -> int:
    """Run workloads, print what came of them, and return the exit code.

    0 also when a time is missed, which may be the machine's fault; 1 when a run failed or an exact goal was missed; 2
    when there is nothing to run with.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the command line's time, memory and requests between two registries on loopback, "
        "beside skopeo where it is installed.",
    )
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME", help=f"of: {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each tool runs (3 times, or once what is slow)"
    )
    parser.add_argument("--disk", action="store_true", help="keep the registries on disk, not in shared memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    arguments = parser.parse_args(argv)
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        parser.error(f"there is no folder for {arguments.json}")
    try:
        install.ensure("registry")
    except install.MissingProgramError as error:
        _say(str(error))
        return 2
    # Whoever ends us, the registries end too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return _run(arguments.only or list(WORKLOADS), arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(names: Sequence[str], arguments: argparse.Namespace) -> int:
    started, load = time.monotonic(), os.getloadavg()[0]
    with Stage(on_disk=arguments.disk) as stage:
        bench = Bench(stage, ImageSync(), find_skopeo(), arguments.rounds, _say)
        outcomes = [_outcome(name, bench) for name in names]
        idle = bench.idle
    machine = table.machine_line(stage.storages, load)
    table.show(outcomes, idle, machine)
    print(f"All of it took {time.monotonic() - started:.0f} s.")
    if arguments.json is not None:
        document = {"machine": machine, "idle": asdict(idle), "workloads": [one.as_dict() for one in outcomes]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    mistakes = any(goal.exact and not goal.reached for outcome in outcomes for goal in outcome.goals)
    return 1 if mistakes or any(outcome.problem for outcome in outcomes) else 0


def _outcome(name: str, bench: Bench) -> Outcome:
    _say(f"{name}:")
    try:
        return WORKLOADS[name](bench)
    except MeasurementError as error:
        _say(f"  {error}")
        return Outcome(name, name, "", problem=str(error))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
