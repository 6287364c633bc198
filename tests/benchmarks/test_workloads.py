"""The workloads on small sizes: what they count must be right; how fast it went is nothing for a test."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import table, workloads
from benchmarks.machine import machine_line
from benchmarks.measure import MeasurementError
from benchmarks.results import Outcome, Run
from benchmarks.tools.imagesync import NAME
from benchmarks.tools.skopeo import Skopeo
from benchmarks.workloads.bench import Bench, Turn

KIB = 1 << 10


def exact_goals_reached(outcome: Outcome) -> bool:
    assert any(goal.exact for goal in outcome.goals)
    return all(goal.reached for goal in outcome.goals if goal.exact)


def test_shared_layers_are_counted_once(compared: Bench):
    outcome = workloads.shared(compared, repositories=3, base_layers=2, layer_size=64 * KIB)
    assert outcome.problems == []
    assert outcome.tools == [NAME, *(peer.name for peer in compared.peers)]
    assert exact_goals_reached(outcome), outcome.goals
    shown = io.StringIO()
    machine = machine_line(compared.stage.storages, 0, compared.peers)
    table.show([outcome], compared.idle, machine, compared.peers, Console(file=shown))
    assert "3 repositories on the same 128 kB" in shown.getvalue()
    assert "blobs mounted" in shown.getvalue()
    assert "skopeo: sync --all --preserve-digests" in shown.getvalue()


def test_unchanged_tags_cost_two_requests_each(compared: Bench):
    outcome = workloads.unchanged(compared, repositories=2, tags=5)
    assert outcome.problems == []
    goal = next(goal for goal in outcome.goals if goal.what.startswith("requests"))
    assert (goal.measured, goal.wanted) == ("20", "20")
    assert outcome.of("skopeo")[0].requests > 22
    assert all(outcome.of(peer.name)[0].requests >= 20 for peer in compared.peers)


def test_each_peer_is_compared_with_a_run_of_its_own(compared: Bench):
    outcome = workloads.unchanged(compared, repositories=1, tags=2)
    assert [run.beside for run in outcome.of(NAME)] == [peer.name for peer in compared.peers]
    limits = {goal.what.rpartition(" ")[2]: goal.wanted for goal in outcome.goals if "wall" in goal.what}
    assert limits == {peer.name: "at most 0.42" if peer.name == "skopeo" else "at most 1" for peer in compared.peers}


def test_a_far_peer_that_goes_one_by_one_does_part(compared: Bench):
    outcome = workloads.unchanged_far(compared, repositories=2, tags=3, part=2, delay=0.001)
    assert outcome.problems == []
    (skopeo,) = outcome.of("skopeo")
    assert (skopeo.items, outcome.of(NAME)[0].items) == (2, 6)
    assert any(note.startswith("skopeo did 2 of the 6 tags") for note in outcome.notes)


def test_several_destinations_are_summed_up(compared: Bench):
    outcome = workloads.fan_out(compared, destinations=2, count=1, layers=2, layer_size=64 * KIB)
    assert outcome.problems == []
    sent = {run.uploaded for run in outcome.runs}
    assert len(sent) == 1
    read = {run.source.blob_bytes for run in outcome.of("skopeo")}
    assert read == sent  # it reads once for each destination
    assert [goal.wanted for goal in outcome.goals] == ["2", "at most 1.02", "at most 1.02"]


def test_jobs_of_several_processes_are_summed_up(compared: Bench):
    outcome = workloads.processes(compared, repositories=3, base_layers=1, layer_size=64 * KIB)
    assert outcome.problems == []
    (run,) = outcome.of(NAME)
    assert (run.totals["copied"], run.items) == (3, 3)
    assert exact_goals_reached(outcome), outcome.goals


def test_trusted_records_are_those_of_a_run_before(compared: Bench):
    outcome = workloads.trusted(compared, repositories=1, tags=4)
    assert outcome.problems == []
    assert set(outcome.tools) == {NAME, "skopeo"}
    assert exact_goals_reached(outcome), outcome.goals


def test_rules_are_for_peers_that_take_all_at_once(compared: Bench):
    outcome = workloads.rules(compared, count=4)
    assert set(outcome.tools) == {NAME, *(peer.name for peer in compared.peers if peer.takes_lists)}
    assert exact_goals_reached(outcome), outcome.goals


def test_a_plan_costs_each_tag_the_same(bench: Bench):
    outcome = workloads.plan(bench, rules=4, fewer=2, tags=3)
    assert [run.items for run in outcome.runs] == [12]
    assert exact_goals_reached(outcome), outcome.goals


def test_the_reference_does_the_whole_job(bench: Bench):
    outcome = workloads.cpu_per_byte(bench, layer_size=700 * KIB)
    ours, reference = outcome.runs
    assert reference.tool == "http.client"
    assert reference.uploaded == ours.uploaded
    assert outcome.goals[-1].what == "CPU net of the start, by that of http.client"


def test_without_a_peer_nothing_is_compared(bench: Bench):
    outcome = workloads.unchanged(bench, repositories=1, tags=2)
    assert outcome.tools == [NAME]
    assert not any("wall" in goal.what for goal in outcome.goals)


def test_a_peer_that_fails_leaves_our_results(bench: Bench):
    bench.peers = [Skopeo(Path("/bin/false"))]
    bench.rounds = 2
    outcome = workloads.unchanged(bench, repositories=1, tags=2)
    (problem,) = outcome.problems
    assert problem.startswith("skopeo ended with 1")
    assert outcome.tools == [NAME]


def test_ours_failing_ends_the_workload(bench: Bench):
    def run(turn: Turn) -> Run:
        raise MeasurementError(turn.tool.name)

    with pytest.raises(MeasurementError, match=NAME):
        bench.do_all(Outcome("name", "title", "tag"), bench.row([]), run)


def test_the_order_of_a_pair_changes_with_the_round(bench: Bench):
    bench.rounds = None
    skopeo = Skopeo(Path("skopeo"))
    assert [turn.tool.name for turn in bench.pairs([skopeo], 2, 1)] == [NAME, "skopeo", "skopeo", NAME]
