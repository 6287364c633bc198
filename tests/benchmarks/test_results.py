from __future__ import annotations

import pytest

from benchmarks.measure import Cost, Traffic
from benchmarks.results import Outcome, Run, exact_goal, memory_goal, ratio, ratio_goal, share_goal


def run(wall: float, items: int = 10, tool: str = "any", beside: str | None = None) -> Run:
    return Run(tool, items, Cost(wall, wall, 0), Traffic({}, ("sha256:a", "sha256:b")), Traffic({}), beside=beside)


def wall(one: Run) -> float:
    return one.cost.wall


def test_ratios_are_of_the_same_round_and_per_item():
    ours, peer = [run(1.0), run(4.0), run(1.0)], [run(2.0), run(8.0), run(4.0)]
    assert ratio(ours, peer, wall) == 0.5
    assert ratio(ours, [run(0.4, items=2)], wall) == 0.5


def test_a_peer_is_compared_with_the_runs_beside_it():
    outcome = Outcome("name", "title", "tag")
    outcome.runs = [run(1.0, tool="ours", beside="one"), run(9.0, tool="one"), run(2.0, tool="ours", beside="two")]
    outcome.runs.append(run(8.0, tool="two"))
    ours, peer = outcome.beside("ours", "two")
    assert ([wall(one) for one in ours], [wall(one) for one in peer]) == ([2.0], [8.0])


def test_a_run_beside_nobody_is_compared_with_all():
    outcome = Outcome("name", "title", "tag", [run(1.0, tool="ours"), run(2.0, tool="one"), run(4.0, tool="two")])
    assert [ratio(*outcome.beside("ours", peer), wall) for peer in ("one", "two")] == [0.5, 0.25]


@pytest.mark.parametrize(("seconds", "reached"), [(0.9, True), (1.1, False)])
def test_a_goal_is_judged_by_its_ratio(seconds: float, reached: bool):
    goal = ratio_goal("time", [run(seconds)], [run(2.0)], wall, 0.5)
    assert (goal.reached, goal.exact, goal.wanted) == (reached, False, "at most 0.5")


@pytest.mark.parametrize(("count", "reached"), [(99, False), (100, True), (101, False)])
def test_an_exact_goal_is_missed_by_one(count: int, reached: bool):
    assert exact_goal("requests", count, 100).reached is reached


@pytest.mark.parametrize(("count", "reached"), [(1_020, True), (1_021, False)])
def test_a_share_may_be_that_much(count: int, reached: bool):
    goal = share_goal("bytes", count, 1_000, 1.02)
    assert (goal.reached, goal.exact) == (reached, True)


def test_memory_is_told_in_mib():
    goal = memory_goal("memory", 3 << 19, 1 << 20)
    assert (goal.measured, goal.wanted, goal.reached) == ("1.5 MiB", "at most 1 MiB", False)


def test_outcomes_are_plain_json_with_the_number_of_uploads():
    (one,) = Outcome("name", "title", "tag", runs=[run(1.0)]).as_dict()["runs"]
    assert one["cost"] == {"wall": 1.0, "cpu": 1.0, "peak": 0}
    assert one["source"]["uploads"] == 2
