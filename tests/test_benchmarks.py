"""The benchmarks on small sizes: what they count must be right; how fast it went is nothing for a test."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import table, workloads
from benchmarks.measure import Cost, MeasurementError, Meter, Traffic, measure, traffic
from benchmarks.results import Outcome, Run, ratio, ratio_goal
from benchmarks.stage import Stage
from benchmarks.tools import ImageSync, Job, Skopeo
from devtools import install
from devtools.distribution import LoggedRequest

KIB, MIB = 1 << 10, 1 << 20
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def bench() -> workloads.Bench:
    """Ours and the peer, one round each."""
    with Stage() as stage:
        yield workloads.Bench(stage, ImageSync(), Skopeo(install.ensure("skopeo")), rounds=1)


def test_shared_layers_are_counted_once(bench: workloads.Bench):
    outcome = workloads.shared(bench, repositories=3, base_layers=2, layer_size=64 * KIB)
    assert outcome.problem is None
    assert [run.tool for run in outcome.runs] == ["airflow-imagesync", "skopeo"]
    assert all(goal.reached for goal in outcome.goals if goal.exact), outcome.goals
    shown = io.StringIO()
    table.show([outcome], bench.idle, table.machine_line(bench.stage.storages, 0), Console(file=shown))
    assert "3 repositories on the same 128 kB" in shown.getvalue()
    assert "blobs mounted" in shown.getvalue()


def test_unchanged_tags_cost_two_requests_each(bench: workloads.Bench):
    outcome = workloads.unchanged(bench, repositories=2, tags=5)
    (goal,) = (goal for goal in outcome.goals if goal.what.startswith("requests"))
    assert (goal.measured, goal.wanted) == ("22", "22")
    assert outcome.of("skopeo")[0].requests > 22


def test_without_a_peer_nothing_is_compared(bench: workloads.Bench):
    bench.peer = None
    outcome = workloads.unchanged(bench, repositories=1, tags=2)
    assert {run.tool for run in outcome.runs} == {"airflow-imagesync"}
    assert not any("wall" in goal.what for goal in outcome.goals)


def test_a_peer_that_fails_leaves_our_results(bench: workloads.Bench):
    bench.peer = Skopeo(Path("/bin/false"))
    bench.peer.name = "broken"
    outcome = workloads.unchanged(bench, repositories=1, tags=2)
    assert outcome.problem is not None
    assert outcome.problem.startswith("broken ended with 1")
    assert [run.tool for run in outcome.runs] == ["airflow-imagesync"]


def test_memory_is_that_of_the_command_alone(tmp_path: Path):
    ballast = b"x" * (100 * MIB)  # which the small command must not be charged with
    small = measure([sys.executable, "-S", "-c", "pass"], tmp_path)
    large = measure([sys.executable, "-S", "-c", f"len(b'x' * {len(ballast)})"], tmp_path)
    assert small.cost.peak < 50 * MIB
    assert large.cost.peak > 100 * MIB


def test_cpu_time_is_counted(tmp_path: Path):
    done = measure([sys.executable, "-S", "-c", "import time\nwhile time.process_time() < 0.3: pass"], tmp_path)
    assert 0.3 <= done.cost.cpu <= done.cost.wall + 0.1


def test_processes_and_others_are_told_apart():
    meter = Meter([os.getpid()])
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    processes, elsewhere = meter.read(0)
    assert processes >= 0.2
    assert 0 <= elsewhere < 1


def test_output_and_exit_code_come_through(tmp_path: Path):
    done = measure(["sh", "-c", "echo out; echo err >&2; exit 3"], tmp_path)
    assert (done.output, done.errors, done.exit_code) == ("out\n", "err\n", 3)


def test_what_hangs_is_ended(tmp_path: Path):
    with pytest.raises(MeasurementError, match="sleep was ended after 0 s"):
        measure(["sleep", "60"], tmp_path, timeout=0.2)


def test_what_is_missing_is_said(tmp_path: Path):
    with pytest.raises(MeasurementError, match="no-such-program could not be started"):
        measure(["no-such-program"], tmp_path)


def test_uploads_and_mounts_are_told_apart():
    def line(method: str, path: str, status: int, size: int = 0) -> LoggedRequest:
        return LoggedRequest(method, path, status, size, "test")

    found = traffic(
        [
            line("HEAD", f"/v2/a/blobs/{DIGEST}", 404),
            line("POST", "/v2/a/blobs/uploads/", 202),
            line("PUT", f"/v2/a/blobs/uploads/1?_state=x&digest={DIGEST.replace(':', '%3A')}", 201),
            line("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a", 201),
            line("POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a", 202),
            line("GET", f"/v2/a/blobs/{DIGEST}", 200, 1234),
            line("PUT", "/v2/a/manifests/v1", 201),
        ]
    )
    assert found == Traffic({"HEAD": 1, "POST": 3, "PUT": 2, "GET": 1}, (DIGEST,), 1, 1234)


def _run(wall: float, items: int = 10) -> Run:
    return Run("any", items, Cost(wall, wall, 0), Traffic({}), Traffic({}))


def test_ratios_are_of_the_same_round_and_per_item():
    ours, peer = [_run(1.0), _run(4.0), _run(1.0)], [_run(2.0), _run(8.0), _run(4.0)]
    assert ratio(ours, peer, lambda run: run.cost.wall) == 0.5
    assert ratio(ours, [_run(0.4, items=2)], lambda run: run.cost.wall) == 0.5


@pytest.mark.parametrize(("wall", "reached"), [(0.9, True), (1.1, False)])
def test_a_goal_is_judged_by_its_ratio(wall: float, reached: bool):
    goal = ratio_goal("time", [_run(wall)], [_run(2.0)], lambda run: run.cost.wall, 0.5, "half")
    assert goal.reached is reached


def test_tools_are_told_the_same(tmp_path: Path):
    job = Job(("bench/one", "bench/two"), ("v1",))
    ours = ImageSync().command(job, "a:1", "b:2", tmp_path)
    theirs = Skopeo(Path("skopeo")).command(job, "a:1", "b:2", tmp_path)
    assert "a:1/bench/one:v1" in Path(ours[4]).read_text()
    assert theirs[-1] == "b:2/bench"
    assert '"bench/two"' in Path(theirs[-2]).read_text()


def test_outcomes_are_plain_json():
    outcome = Outcome("name", "title", "tag", runs=[_run(1.0)])
    assert outcome.as_dict()["runs"][0]["cost"] == {"wall": 1.0, "cpu": 1.0, "peak": 0}
