"""Workloads in which images are copied to a destination that has nothing: small ones, large ones, and a huge one."""

from __future__ import annotations

from benchmarks.results import Goal, Outcome, Run, memory_goal, ratio
from benchmarks.stage import Placed
from benchmarks.tools.reference import Reference
from benchmarks.workloads.bench import MAIN_PEER, Bench, Turn
from benchmarks.workloads.content import (
    DELAY,
    GIB,
    KIB,
    MIB,
    compare,
    copy,
    cpu,
    note_parts,
    note_proxies,
    pace,
    place,
    size_text,
    wall,
)
from devtools import images

#: What a run may need above a process that has imported everything and does nothing.
_MEMORY_LIMIT = 64 * MIB
#: How much more CPU a byte may take than by http.client and hashlib alone.
_CPU_LIMIT = 1.3


def small(bench: Bench, *, count: int = 200, layer_size: int = 20 * KIB) -> Outcome:
    """Images of four small layers, of which they share three."""
    title = f"{count} images of 4 layers of {size_text(layer_size)}, 3 shared"
    outcome = Outcome("small", title, "image")
    copy(bench, outcome, _small_images(bench, count, layer_size), bench.pairs(bench.peers, 3, 1))
    compare(bench, outcome, "wall time", wall, {MAIN_PEER: 0.28})
    return outcome


def small_far(
    bench: Bench, *, count: int = 100, part: int = 50, layer_size: int = 20 * KIB, delay: float = DELAY
) -> Outcome:
    """Fewer of the small images, with every request delayed.

    The main peer, which takes them one after the other, does ``part`` of them; others that do so are left out, since
    all would take a minute.
    """
    outcome = Outcome("small-far", f"{count} of the small images, {pace(delay)}", "image")
    placed = _small_images(bench, count, layer_size)
    peers = [peer for peer in bench.peers if peer.name == MAIN_PEER or not peer.in_turn]
    copy(bench, outcome, placed, bench.row(peers), delay=delay, parts={MAIN_PEER: part})
    compare(bench, outcome, "wall time", wall, {MAIN_PEER: 1 / 12})
    note_parts(outcome, bench.peers)
    note_proxies(bench, outcome, delay)
    return outcome


def large(bench: Bench, *, count: int = 4, layer_size: int = 64 * MIB) -> Outcome:
    """Images of four large layers each."""
    outcome = Outcome("large", f"{count} images of 4 layers of {size_text(layer_size)}", "image")
    placed = [
        place("large", number, images.image([bench.layer(layer_size, f"{number}.{part}") for part in range(4)]))
        for number in range(count)
    ]
    copy(bench, outcome, placed, bench.pairs(bench.peers, 3, 1))
    compare(bench, outcome, "wall time", wall, {MAIN_PEER: 1.0})
    compare(bench, outcome, "client CPU", cpu, {MAIN_PEER: 0.5})
    _add_memory_goal(bench, outcome)
    return outcome


def memory(bench: Bench, *, layer_size: int = 2 * GIB) -> Outcome:
    """One huge layer, for the memory that it takes; ours alone."""
    outcome = Outcome("memory", f"1 layer of {size_text(layer_size)}", "image")
    copy(bench, outcome, [place("huge", 0, images.image([bench.layer(layer_size, "huge")]))], bench.row([]))
    _add_memory_goal(bench, outcome)
    return outcome


def cpu_per_byte(bench: Bench, *, layer_size: int = GIB) -> Outcome:
    """One large layer, for the CPU time of a byte, beside the plainest copy that Python has."""
    outcome = Outcome("bytes", f"CPU time of 1 layer of {size_text(layer_size)}", "image")
    reference = Reference()
    starts = {tool.name: bench.cost_of_starting(tool).cpu for tool in (bench.ours, reference)}
    turns = [Turn(bench.ours, reference.name), Turn(reference)]
    rounds = bench.rounds or 2
    placed = [place("bytes", 0, images.image([bench.layer(layer_size, "bytes")]))]
    copy(bench, outcome, placed, iter(turns * rounds), by_tag=True)

    def net(run: Run) -> float:
        return run.cost.cpu - starts[run.tool]

    ours, theirs = outcome.beside(bench.ours.name, reference.name)
    if theirs:
        found = ratio(ours, theirs, net)
        measured = f"{found:.2f} ({net(ours[0]):.2f} s to {net(theirs[0]):.2f} s in the first round)"
        what = f"CPU net of the start, by that of {reference.name}"
        outcome.goals.append(Goal(what, measured, f"at most {_CPU_LIMIT}", reached=found <= _CPU_LIMIT))
    return outcome


def _add_memory_goal(bench: Bench, outcome: Outcome) -> None:
    above = max(run.cost.peak for run in outcome.of(bench.ours.name)) - bench.idle.peak
    outcome.goals.append(memory_goal("memory above the idle process", above, _MEMORY_LIMIT))


def _small_images(bench: Bench, count: int, layer_size: int) -> list[Placed]:
    common = [bench.layer(layer_size, f"common-{part}") for part in range(3)]
    return [
        place("small", number, images.image([*common, bench.layer(layer_size, f"own-{number}")]))
        for number in range(count)
    ]
