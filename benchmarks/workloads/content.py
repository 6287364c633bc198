"""What workloads put into registries, and what they have in common when they copy and judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.results import Outcome, Run, exact_goal, ratio_goal
from benchmarks.stage import Placed, check_content, push_all
from benchmarks.tools.tool import Job, Peer
from benchmarks.workloads.bench import Bench, Turn
from devtools import images
from devtools.distribution import DistributionRegistry

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
#: Added to each request by workloads that are "far", in seconds.
DELAY = 0.05
#: Room for registries whose content is small, and for what their file systems round up.
SMALL = 256 * MIB


@contextmanager
def same_twice(
    bench: Bench, repositories: int, tags: int
) -> Iterator[tuple[DistributionRegistry, DistributionRegistry]]:
    """Run two registries with the same content: in each repository so many tags of different images."""
    layers = [bench.layer(2 * KIB, "unchanged")]
    placed = [
        Placed(name, tag, images.image(layers, annotations={"org.opencontainers.image.version": tag}))
        for name in names(repositories)
        for tag in tags_of(tags)
    ]
    with bench.stage.registry(SMALL) as source:
        push_all(source, placed)
        with bench.stage.registry(SMALL, copy_of=source) as destination:
            yield source, destination


def copy(
    bench: Bench,
    outcome: Outcome,
    placed: Sequence[Placed],
    turns: Iterator[Turn],
    *,
    delay: float = 0.0,
    parts: Mapping[str, int] | None = None,
    by_tag: bool = False,
) -> None:
    """Have the tools copy images, each time into a new registry, and see that they arrived.

    ``parts`` says, by tool, how many of the images it gets where that is not all. ``by_tag`` names every tag in the
    job, in place of whole repositories.
    """
    sizes = blob_sizes(placed)
    space = sum(sizes.values()) + SMALL
    with bench.stage.registry(space) as source:
        push_all(source, placed)

        def run(turn: Turn) -> Run:
            wanted = placed[: (parts or {}).get(turn.tool.name)]
            whole = len(wanted) == len(placed) and not by_tag
            listed = tuple(dict.fromkeys(one.repository for one in wanted))
            job = Job(listed, None if whole else tuple(one.tag for one in wanted))
            with bench.stage.registry(space) as destination:
                done = bench.run(turn, job, source, [destination], items=len(wanted), sizes=sizes, delay=delay)
                check_content(destination, wanted)
            return done

        bench.do_all(outcome, turns, run)
    copied = min(run.totals["copied"] for run in outcome.of(bench.ours.name))
    outcome.goals.append(exact_goal("images copied", copied, len(placed)))


def compare(bench: Bench, outcome: Outcome, what: str, value: Callable[[Run], float], limits: dict[str, float]) -> None:
    """Add the goals that ours takes at most so much of a value as a peer, for each of ``limits`` that ran."""
    for peer, at_most in limits.items():
        ours, theirs = outcome.beside(bench.ours.name, peer)
        if theirs:
            outcome.goals.append(ratio_goal(f"{what}, by that of {peer}", ours, theirs, value, at_most))


def wall(run: Run) -> float:
    """Return the seconds that a run took."""
    return run.cost.wall


def cpu(run: Run) -> float:
    """Return the seconds of CPU that a run took."""
    return run.cost.cpu


def note_proxies(bench: Bench, outcome: Outcome, delay: float) -> None:
    """Say how far the proxies were from being what limits the speed."""
    for run in outcome.of(bench.ours.name):
        each = run.proxy_cpu / run.requests
        busy = run.proxy_cpu / 2 / run.cost.wall
        outcome.notes.append(
            f"the proxies took {each * 1000:.2f} ms of CPU per request of {run.tool}, beside the "
            f"{delay * 1000:.0f} ms that they add, and were {busy:.0%} busy"
        )


def note_parts(outcome: Outcome, peers: Sequence[Peer]) -> None:
    """Say which peers did only part of a workload."""
    items = max(run.items for run in outcome.runs)
    for peer in peers:
        runs = outcome.of(peer.name)
        if runs and runs[0].items < items:
            count = f"{runs[0].items:,} of the {items:,} {outcome.unit}s"
            outcome.notes.append(f"{peer.name} did {count}; its time counts in proportion")


def blob_sizes(placed: Sequence[Placed]) -> dict[str, int]:
    """Return the sizes of all blobs of images, by digest."""
    return {blob.digest: blob.size for one in placed for blob in one.manifest.all_blobs()}


def place(name: str, number: int, manifest: images.BuiltManifest) -> Placed:
    """Return an image under a numbered tag of a repository."""
    return Placed(f"bench/{name}", tag(number), manifest)


def names(count: int) -> tuple[str, ...]:
    """Return so many names of repositories."""
    return tuple(f"bench/app-{number}" for number in range(count))


def tags_of(count: int) -> tuple[str, ...]:
    """Return so many tags."""
    return tuple(tag(number) for number in range(count))


def tag(number: int) -> str:
    """Return a tag."""
    return f"v{number:04}"


def pace(delay: float) -> str:
    """Return in words what is added to each request."""
    return f"+{delay * 1000:.0f} ms a request"


def size_text(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "kB")):
        if count >= unit:
            return f"{count / unit:.0f} {name}"
    return f"{count} B"
