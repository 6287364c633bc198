from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.measure import Cost, Traffic
from benchmarks.results import Goal, Outcome, Run
from benchmarks.stage import Stage
from benchmarks.tools import find_peers
from benchmarks.workloads.bench import Bench
from devtools import install


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Ours, one round, without peers."""
    with Stage() as stage:
        yield Bench(stage, rounds=1)


@pytest.fixture
def compared(bench: Bench) -> Bench:
    """Ours and every peer that is here, one round each; skopeo is always here."""
    install.ensure("skopeo")
    bench.peers = find_peers()
    return bench


def run(tool: str = "any", wall: float = 1.0, items: int = 10, requests: int = 0, **fields: Any) -> Run:
    return Run(tool, items, Cost(wall, wall, 0), Traffic({"HEAD": requests}), Traffic({}), **fields)


@pytest.fixture
def document() -> dict[str, Any]:
    """What a run would have written: one workload with two peers, of which one did half, and one of ours alone."""
    unchanged = Outcome("unchanged", "10 tags & more", "tag")
    unchanged.runs = [
        run("airflow-imagesync", 2.0, requests=20),
        run("airflow-imagesync", 4.0, requests=20),
        run("airflow-imagesync", 3.0, requests=20),
        run("skopeo", 45.0, 5, requests=20),
        run("crane", 1.5, requests=30),
    ]
    shared = Outcome("shared", "2 repositories", "image")
    shared.runs = [
        run("airflow-imagesync", uploaded=2 << 20),
        Run("crane", 10, Cost(1.0, 1.0, 0), Traffic({}, blob_bytes=3 << 20), Traffic({}), uploaded=4 << 20),
    ]
    alone = Outcome("memory", "1 layer", "image", [run("airflow-imagesync")])
    alone.goals = [Goal("memory", "3.0 MiB", "at most 64 MiB", reached=True), Goal("exact", "1", "1", True, exact=True)]
    peers = [{"name": name, "version": "1.0", "how": "somehow"} for name in ("skopeo", "crane")]
    workloads = [one.as_dict() for one in (unchanged, shared, alone)]
    return {"machine": "2 cores; <versions>.", "idle": {}, "peers": peers, "workloads": workloads}
