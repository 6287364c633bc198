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
from typing import Any

from benchmarks import chart, readme, table
from benchmarks.machine import machine_line
from benchmarks.measure import MeasurementError
from benchmarks.results import Outcome
from benchmarks.stage import Stage
from benchmarks.tools import PEERS, find_peers
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.bench import Bench
from devtools import install

_RESULTS = Path(__file__).with_name("results")


def main(argv: Sequence[str] | None = None) -> int:
    """Run workloads, print what came of them, and return the exit code.

    0 also when a time is missed, which may be the machine's fault; 1 when a run failed or an exact goal was missed; 2
    when there is nothing to run with.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the command line's time, memory and requests between registries on loopback, "
        "beside the programs on PATH that do the same.",
    )
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME", help=f"of: {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, metavar="NAME", help=f"of: {', '.join(PEERS)} (all that are on PATH)"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each tool runs (1 to 3 times, by workload and tool)"
    )
    parser.add_argument("--disk", action="store_true", help="keep the registries on disk, not in shared memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a chart of it to a file")
    parser.add_argument(
        "--publish", action="store_true", help="write what the README shows: both files, and the README's table"
    )
    arguments = parser.parse_args(argv)
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    for file in (arguments.json, arguments.svg):
        if file is not None and not file.parent.is_dir():
            parser.error(f"there is no folder for {file}")
    if arguments.publish and arguments.only:
        parser.error("--publish is for all workloads, so it goes without --only")
    missing = [name for name in arguments.peers or () if not find_peers([name])]
    if missing:
        _say(f"{', '.join(missing)}: not found on PATH.")
        return 2
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
    peers = find_peers(arguments.peers)
    with Stage(on_disk=arguments.disk) as stage:
        bench = Bench(stage, peers, arguments.rounds, _say)
        outcomes = [_outcome(name, bench) for name in names]
        idle = bench.idle
    machine = machine_line(stage.storages, load, peers)
    table.show(outcomes, idle, machine, peers)
    print(f"All of it took {time.monotonic() - started:.0f} s.")
    document = {
        "machine": machine,
        "idle": asdict(idle),
        "peers": [{"name": peer.name, "version": peer.version(), "how": peer.how} for peer in peers],
        "workloads": [outcome.as_dict() for outcome in outcomes],
    }
    _write(document, arguments)
    mistakes = any(goal.exact and not goal.reached for outcome in outcomes for goal in outcome.goals)
    return 1 if mistakes or any(outcome.problems for outcome in outcomes) else 0


def _write(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    jsons, charts = [arguments.json], [arguments.svg]
    if arguments.publish:
        jsons.append(_RESULTS / "benchmark.json")
        charts.append(_RESULTS / "benchmark.svg")
        readme.update(document)
    for file in filter(None, jsons):
        file.write_text(json.dumps(document, indent=1) + "\n")
    for file in filter(None, charts):
        file.write_text(chart.draw(document))


def _outcome(name: str, bench: Bench) -> Outcome:
    _say(f"{name}:")
    try:
        return WORKLOADS[name](bench)
    except MeasurementError as error:
        _say(f"  {error}")
        return Outcome(name, name, "", problems=[str(error)])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
