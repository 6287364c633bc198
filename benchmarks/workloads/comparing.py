"""Workloads in which there is nothing to copy, so that only questions are asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.results import Goal, Outcome, Run, exact_goal, memory_goal
from benchmarks.tools import PEERS
from benchmarks.tools.imagesync import ImageSync
from benchmarks.tools.tool import Job
from benchmarks.workloads.bench import MAIN_PEER, Bench, Turn
from benchmarks.workloads.content import (
    DELAY,
    KIB,
    MIB,
    SMALL,
    compare,
    names,
    note_parts,
    note_proxies,
    pace,
    same_twice,
    tags_of,
    wall,
)
from devtools import images
from devtools.distribution import DistributionRegistry

#: What planning may need altogether, interpreter and imports included.
_PLAN_MEMORY = 150 * MIB
#: How much more CPU a tag may take in a large plan than in a small one before that is no noise.
_PLAN_NOISE = 1.25


def unchanged(bench: Bench, *, repositories: int = 4, tags: int = 250) -> Outcome:
    """Tags that are the same on both sides."""
    items = repositories * tags
    outcome = Outcome("unchanged", f"{items:,} unchanged tags in {repositories} repositories", "tag")
    with same_twice(bench, repositories, tags) as (source, destination):
        job = Job(names(repositories))
        turns = bench.pairs(bench.peers, 3, 2)
        bench.do_all(outcome, turns, lambda turn: bench.run(turn, job, source, [destination], items=items))
    compare(bench, outcome, "wall time", wall, {**dict.fromkeys(PEERS, 1.0), MAIN_PEER: 0.42})
    _add_request_goals(bench, outcome, each=2, lists=2 * repositories)
    return outcome


def unchanged_far(
    bench: Bench, *, repositories: int = 4, tags: int = 250, part: int = 50, delay: float = DELAY
) -> Outcome:
    """The same with every request delayed; peers that go one by one do ``part`` of the tags, all would take minutes."""
    items = repositories * tags
    outcome = Outcome("unchanged-far", f"{items:,} unchanged tags, {pace(delay)}", "tag")
    slow = {peer.name for peer in bench.peers if peer.one_by_one}
    with same_twice(bench, repositories, tags) as (source, destination):

        def run(turn: Turn) -> Run:
            if turn.tool.name in slow:
                job, count = Job(names(1), tags_of(part)), part
            else:
                job, count = Job(names(repositories)), items
            return bench.run(turn, job, source, [destination], items=count, delay=delay)

        bench.do_all(outcome, bench.row(bench.peers), run)
    compare(bench, outcome, "wall time", wall, {MAIN_PEER: 0.1})
    note_parts(outcome, bench.peers)
    note_proxies(bench, outcome, delay)
    return outcome


def trusted(bench: Bench, *, repositories: int = 4, tags: int = 250) -> Outcome:
    """Unchanged tags whose records are believed; a first run, not counted, fills the records."""
    items = repositories * tags
    outcome = Outcome("trusted", f"{items:,} unchanged tags, records trusted", "tag")
    job = Job(names(repositories))
    with same_twice(bench, repositories, tags) as (source, destination):
        filled = bench.stage.folder()
        bench.run(Turn(_with_records(filled)), job, source, [destination], items=items)

        def run(turn: Turn) -> Run:
            if isinstance(turn.tool, ImageSync):
                # Each run begins with the same records: after some runs everything would be checked again.
                own = bench.stage.folder()
                shutil.copytree(filled, own, dirs_exist_ok=True)
                turn = replace(turn, tool=_with_records(own))
            return bench.run(turn, job, source, [destination], items=items)

        peers = [peer for peer in bench.peers if peer.name == MAIN_PEER]
        bench.do_all(outcome, bench.pairs(peers, 3, 0), run)
    compare(bench, outcome, "wall time", wall, {MAIN_PEER: 0.3})
    _add_request_goals(bench, outcome, each=1, lists=2 * repositories)
    outcome.notes.append(f"only {MAIN_PEER} runs beside it: no other peer has records, and all do what they do above")
    return outcome


def rules(bench: Bench, *, count: int = 1000) -> Outcome:
    """Many rules, each with one tag of a repository of its own; only peers that take all of them at once."""
    outcome = Outcome("rules", f"{count:,} rules with an unchanged tag each", "tag")
    with same_twice(bench, count, 1) as (source, destination):
        job = Job(names(count), tags_of(1))
        turns = bench.pairs([peer for peer in bench.peers if peer.takes_lists], 1, 1)
        bench.do_all(outcome, turns, lambda turn: bench.run(turn, job, source, [destination], items=count))
    _add_request_goals(bench, outcome, each=2, lists=0)
    return outcome


def plan(bench: Bench, *, rules: int = 100, fewer: int = 10, tags: int = 100) -> Outcome:
    """Planning alone, of many tags and of fewer: a tag must cost the same in both. No peer has that."""
    outcome = Outcome("plan", f"a plan of {rules * tags:,} tags in {rules} rules", "tag")
    planner = ImageSync(verb="plan")
    with _many_tags_twice(bench, rules, tags) as (source, destination):

        def run(turn: Turn, count: int) -> Run:
            return bench.run(turn, Job(names(count)), source, [destination], items=count * tags)

        small = run(Turn(planner), fewer)
        bench.do_all(outcome, iter([Turn(planner)]), lambda turn: run(turn, rules))
    (large,) = outcome.runs
    outcome.goals += [
        memory_goal("memory of the whole process", large.cost.peak, _PLAN_MEMORY),
        exact_goal("requests: 2 per tag, beside lists", large.requests - large.lists, 2 * large.items),
        exact_goal(f"the same of {small.items:,} tags", small.requests - small.lists, 2 * small.items),
        exact_goal(f"lists: {rules // fewer} times as many", large.lists, small.lists * rules // fewer),
        exact_goal("tags found the same", large.totals["same"], large.items),
        _steady_cpu_goal(small, large, bench.idle.cpu),
    ]
    return outcome


def _steady_cpu_goal(small: Run, large: Run, idle: float) -> Goal:
    each = [(run.cost.cpu - idle) / run.items for run in (small, large)]
    found = each[1] / each[0]
    measured = f"{found:.2f} ({each[0] * 1000:.2f} ms to {each[1] * 1000:.2f} ms)"
    what = f"CPU per tag, by that of {small.items:,} tags"
    return Goal(what, measured, f"at most {_PLAN_NOISE}", reached=found <= _PLAN_NOISE)


def _with_records(folder: Path) -> ImageSync:
    return ImageSync(records=folder / "records.db", trust=True)


def _add_request_goals(bench: Bench, outcome: Outcome, *, each: int, lists: int) -> None:
    """Add the goals that each tag costs so many requests and is the same, and that no more lists are asked for."""
    ours = outcome.of(bench.ours.name)
    items, most = ours[0].items, max(run.lists for run in ours)
    outcome.goals += [
        exact_goal(
            f"requests: {each} per tag, beside lists", max(run.requests - run.lists for run in ours), each * items
        ),
        Goal("lists of tags", f"{most:,}", f"at most {lists:,}", reached=most <= lists, exact=True),
        exact_goal("tags found the same", min(run.totals["same"] for run in ours), items),
    ]


@contextmanager
def _many_tags_twice(
    bench: Bench, repositories: int, tags: int
) -> Iterator[tuple[DistributionRegistry, DistributionRegistry]]:
    """Run two registries with the same content: repositories with an image each, under so many tags."""
    with bench.stage.registry(SMALL) as source:
        for name in names(repositories):
            image = images.image([bench.layer(2 * KIB, "plan")], annotations={"org.opencontainers.image.title": name})
            images.push_many_tags(source.url, name, image, tags_of(tags))
        with bench.stage.registry(SMALL, copy_of=source) as destination:
            yield source, destination
