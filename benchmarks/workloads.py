"""The workloads: what is put into the registries, what the tools do with it, and what is to be reached."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.measure import Cost, MeasurementError, Meter, measure, traffic
from benchmarks.results import Goal, Outcome, Run, exact_goal, ratio_goal
from benchmarks.stage import Distance, Placed, Stage, check_content, push_all
from benchmarks.tools import ImageSync, Job, Tool
from devtools import images
from devtools.distribution import DistributionRegistry

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DELAY = 0.05
#: What a run may need above a process that has imported everything and does nothing.
MEMORY_LIMIT = 64 * MIB
#: Room for registries whose content is small, and for what their file systems round up.
_SMALL = 256 * MIB
#: The part of the machine that other processes may have before that is worth a word.
_NOTABLE = 0.1


@dataclass
class Bench:
    """What all workloads share: the stage, the tools, and how often each of them runs.

    ``peer`` None means that there is nothing to compare with; ``rounds`` None that each workload has its own number.
    """

    stage: Stage
    ours: ImageSync
    peer: Tool | None
    rounds: int | None = None
    say: Callable[[str], None] = print
    #: Makes the content differ from that of any earlier benchmark, which a tool may remember.
    seed: str = field(default_factory=lambda: secrets.token_hex(4))
    _idle: Cost | None = None

    @property
    def idle(self) -> Cost:
        """What our process costs when it has imported everything and does nothing."""
        if self._idle is None:
            folder = self.stage.folder()
            self._idle = measure(self.ours.idle(), folder, environment=self.ours.environment(folder)).cost
        return self._idle

    def turns(self, rounds: int) -> Iterator[Tool]:
        """Yield the tools in turn; in every second round the other one comes first."""
        tools: list[Tool] = [self.ours] if self.peer is None else [self.ours, self.peer]
        for number in range(self.rounds or rounds):
            yield from tools if number % 2 == 0 else reversed(tools)

    def layer(self, size: int, name: object) -> images.Blob:
        """Return a layer that no other benchmark has."""
        return images.layer(size, f"{self.seed}-{name}")

    def run(
        self,
        tool: Tool,
        job: Job,
        source: DistributionRegistry,
        destination: DistributionRegistry,
        *,
        items: int,
        sizes: Mapping[str, int] | None = None,
        delay: float = 0.0,
    ) -> Run:
        """Run a tool once and return what that cost; ``sizes`` has those of the blobs that may be sent, by digest.

        Raises MeasurementError when it fails.
        """
        folder = self.stage.folder()
        seen = [len(registry.requests_log()) for registry in (source, destination)]
        meter = Meter(registry.pid for registry in (source, destination))
        with Distance([source, destination], delay) as distance:
            command = tool.command(job, distance.hosts[0], distance.hosts[1], folder)
            done = measure(command, folder, environment=tool.environment(folder))
        registry_cpu, elsewhere = meter.read(done.cost.cpu + distance.cpu)
        logs = [registry.requests_log()[start:] for registry, start in zip((source, destination), seen, strict=True)]
        if done.exit_code != 0:
            told = done.errors.strip().splitlines()
            raise MeasurementError(f"{tool.name} ended with {done.exit_code}: {' '.join(told[-3:])}")
        source_traffic, destination_traffic = map(traffic, logs)
        run = Run(
            tool.name,
            items,
            done.cost,
            source_traffic,
            destination_traffic,
            uploaded=sum((sizes or {})[digest] for digest in destination_traffic.uploads),
            totals=json.loads(done.output)["totals"] if tool is self.ours else {},
            registry_cpu=registry_cpu,
            proxy_cpu=distance.cpu,
            elsewhere=elsewhere,
        )
        self.say(f"  {tool.name}: {run.cost.wall:.2f} s, {run.cost.cpu:.2f} s of CPU")
        return run


# The workloads, in the order of the tables


def unchanged(bench: Bench, *, repositories: int = 4, tags: int = 250) -> Outcome:
    """Tags that are the same on both sides."""
    items = repositories * tags
    outcome = Outcome("unchanged", f"{items:,} unchanged tags in {repositories} repositories", "tag")
    with _same_twice(bench, repositories, tags) as (source, destination):
        job = Job(_names(repositories))
        _run_all(bench, outcome, 3, lambda tool: bench.run(tool, job, source, destination, items=items))
    _compare(bench, outcome, "wall time", lambda run: run.cost.wall, 0.45, "at most 0.45")
    ours = outcome.of(bench.ours.name)
    outcome.goals.append(
        exact_goal("requests: 2 per tag and the lists", max(run.requests for run in ours), 2 * items + repositories)
    )
    outcome.goals.append(exact_goal("tags found the same", min(run.totals["same"] for run in ours), items))
    return outcome


def unchanged_far(
    bench: Bench, *, repositories: int = 4, tags: int = 250, part: int = 100, delay: float = DELAY
) -> Outcome:
    """The same with every request delayed; the peer does ``part`` of the tags, since it takes minutes for all."""
    items = repositories * tags
    outcome = Outcome("unchanged-far", f"{items:,} unchanged tags, {_pace(delay)}", "tag")
    with _same_twice(bench, repositories, tags) as (source, destination):

        def run(tool: Tool) -> Run:
            whole = tool is bench.ours
            job = Job(_names(repositories)) if whole else Job(_names(1), _tags(part))
            return bench.run(tool, job, source, destination, items=items if whole else part, delay=delay)

        _run_all(bench, outcome, 1, run)
    _compare(bench, outcome, "wall time", lambda run: run.cost.wall, 0.1, "at most a tenth")
    if bench.peer is not None and outcome.of(bench.peer.name):
        outcome.notes.append(f"{bench.peer.name} did {part:,} of the {items:,} tags; its time counts in proportion")
    _note_proxies(bench, outcome, delay)
    return outcome


def small(bench: Bench, *, count: int = 200, layer_size: int = 20 * KIB) -> Outcome:
    """Images of four small layers, of which they share three."""
    title = f"{count} images of 4 layers of {_size(layer_size)}, 3 of them shared"
    outcome = Outcome("small", title, "image")
    _copy(bench, outcome, _small_images(bench, count, layer_size), rounds=3)
    _compare(bench, outcome, "wall time", lambda run: run.cost.wall, 1 / 3, "at most a third")
    return outcome


def small_far(bench: Bench, *, count: int = 100, layer_size: int = 20 * KIB, delay: float = DELAY) -> Outcome:
    """Fewer of the small images, with every request delayed."""
    outcome = Outcome("small-far", f"{count} of the small images, {_pace(delay)}", "image")
    _copy(bench, outcome, _small_images(bench, count, layer_size), rounds=1, delay=delay)
    _compare(bench, outcome, "wall time", lambda run: run.cost.wall, 1 / 8, "at most an eighth")
    _note_proxies(bench, outcome, delay)
    return outcome


def large(bench: Bench, *, count: int = 4, layer_size: int = 64 * MIB) -> Outcome:
    """Images of four large layers each."""
    outcome = Outcome("large", f"{count} images of 4 layers of {_size(layer_size)}", "image")
    placed = [
        _placed("large", number, images.image([bench.layer(layer_size, f"{number}.{part}") for part in range(4)]))
        for number in range(count)
    ]
    _copy(bench, outcome, placed, rounds=3)
    _compare(bench, outcome, "wall time", lambda run: run.cost.wall, 1.0, "no more")
    _compare(bench, outcome, "client CPU", lambda run: run.cost.cpu, 0.5, "at most half")
    _add_memory_goal(bench, outcome)
    return outcome


def memory(bench: Bench, *, layer_size: int = 2 * GIB) -> Outcome:
    """One huge layer, for the memory that it takes."""
    outcome = Outcome("memory", f"1 layer of {_size(layer_size)}", "image")
    _copy(bench, outcome, [_placed("huge", 0, images.image([bench.layer(layer_size, "huge")]))], rounds=1, alone=True)
    _add_memory_goal(bench, outcome)
    return outcome


def shared(bench: Bench, *, repositories: int = 20, base_layers: int = 4, layer_size: int = 8 * MIB) -> Outcome:
    """Repositories whose images have the same large base."""
    base = [bench.layer(layer_size, f"base-{number}") for number in range(base_layers)]
    base_size = sum(blob.size for blob in base)
    outcome = Outcome("shared", f"{repositories} repositories on the same {_size(base_layers * layer_size)}", "image")
    placed = [
        _placed(f"on-base-{number}", 0, images.image([*base, bench.layer(20 * KIB, f"top-{number}")]))
        for number in range(repositories)
    ]
    _copy(bench, outcome, placed, rounds=1)
    unique = {blob.digest: blob.size for one in placed for blob in one.manifest.all_blobs()}
    size = sum(unique.values())
    for run in outcome.of(bench.ours.name):
        outcome.goals += [
            exact_goal("bytes uploaded, by our report", run.totals["bytes_copied"], size),
            exact_goal("bytes uploaded, by the access log", run.uploaded, size),
            exact_goal("bytes read at the source, by the access log", run.source.blob_bytes, size),
            exact_goal("blobs uploaded", len(run.destination.uploads), len(unique)),
            exact_goal("blobs mounted", run.destination.mounts, (repositories - 1) * base_layers),
            exact_goal("bytes mounted, by our report", run.totals["bytes_mounted"], (repositories - 1) * base_size),
        ]
    return outcome


#: Each function takes a Bench, and sizes where others than the usual ones are wanted.
WORKLOADS: dict[str, Callable[[Bench], Outcome]] = {
    "unchanged": unchanged,
    "unchanged-far": unchanged_far,
    "small": small,
    "small-far": small_far,
    "large": large,
    "memory": memory,
    "shared": shared,
}


# What they have in common


@contextmanager
def _same_twice(
    bench: Bench, repositories: int, tags: int
) -> Iterator[tuple[DistributionRegistry, DistributionRegistry]]:
    """Run two registries with the same content: in each repository so many tags of different images."""
    layers = [bench.layer(2 * KIB, "unchanged")]
    placed = [
        Placed(name, tag, images.image(layers, annotations={"org.opencontainers.image.version": tag}))
        for name in _names(repositories)
        for tag in _tags(tags)
    ]
    with bench.stage.registry(_SMALL) as source:
        push_all(source, placed)
        with bench.stage.registry(_SMALL, copy_of=source) as destination:
            yield source, destination


def _copy(
    bench: Bench,
    outcome: Outcome,
    placed: Sequence[Placed],
    *,
    rounds: int,
    delay: float = 0.0,
    alone: bool = False,
) -> None:
    """Have the tools copy images, each time into a new registry, and see that they arrived."""
    sizes = {blob.digest: blob.size for one in placed for blob in one.manifest.all_blobs()}
    space = sum(sizes.values()) + _SMALL
    job = Job(tuple(dict.fromkeys(one.repository for one in placed)))
    with bench.stage.registry(space) as source:
        push_all(source, placed)

        def run(tool: Tool) -> Run:
            with bench.stage.registry(space) as destination:
                done = bench.run(tool, job, source, destination, items=len(placed), sizes=sizes, delay=delay)
                check_content(destination, placed)
            return done

        _run_all(bench, outcome, rounds, run, alone=alone)
    copied = min(run.totals["copied"] for run in outcome.of(bench.ours.name))
    outcome.goals.append(exact_goal("images copied", copied, len(placed)))


def _run_all(bench: Bench, outcome: Outcome, rounds: int, run: Callable[[Tool], Run], *, alone: bool = False) -> None:
    """Let the tools run in turn; a peer that fails is left out from then on."""
    for tool in bench.turns(rounds):
        if tool is bench.ours:
            outcome.runs.append(run(tool))
        elif not alone and outcome.problem is None:
            try:
                outcome.runs.append(run(tool))
            except MeasurementError as error:
                outcome.problem = str(error)
                bench.say(f"  {error}")
    elsewhere = max(run.elsewhere for run in outcome.runs)
    if elsewhere > _NOTABLE:
        outcome.notes.append(f"other processes had up to {elsewhere:.0%} of the machine, so the times say little")


def _compare(
    bench: Bench, outcome: Outcome, what: str, value: Callable[[Run], float], at_most: float, wanted: str
) -> None:
    """Add the goal that ours takes ``at_most`` so much of a value as the peer, where that ran."""
    peer = outcome.of(bench.peer.name) if bench.peer is not None else []
    if peer:
        ours = outcome.of(bench.ours.name)
        outcome.goals.append(ratio_goal(f"{what}, by that of {peer[0].tool}", ours, peer, value, at_most, wanted))


def _add_memory_goal(bench: Bench, outcome: Outcome) -> None:
    above = max(run.cost.peak for run in outcome.of(bench.ours.name)) - bench.idle.peak
    outcome.goals.append(
        Goal("memory above the idle process", f"{above / MIB:.1f} MiB", "at most 64 MiB", above <= MEMORY_LIMIT)
    )


def _note_proxies(bench: Bench, outcome: Outcome, delay: float) -> None:
    """Say how far the proxies were from being what limits the speed."""
    for run in outcome.of(bench.ours.name):
        each = run.proxy_cpu / run.requests
        busy = run.proxy_cpu / 2 / run.cost.wall
        outcome.notes.append(
            f"the proxies took {each * 1000:.2f} ms of CPU per request of {run.tool}, beside the "
            f"{delay * 1000:.0f} ms that they add, and were {busy:.0%} busy"
        )


def _small_images(bench: Bench, count: int, layer_size: int) -> list[Placed]:
    common = [bench.layer(layer_size, f"common-{part}") for part in range(3)]
    return [
        _placed("small", number, images.image([*common, bench.layer(layer_size, f"own-{number}")]))
        for number in range(count)
    ]


def _placed(name: str, number: int, manifest: images.BuiltManifest) -> Placed:
    return Placed(f"bench/{name}", _tag(number), manifest)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"bench/app-{number}" for number in range(count))


def _tags(count: int) -> tuple[str, ...]:
    return tuple(_tag(number) for number in range(count))


def _tag(number: int) -> str:
    return f"v{number:04}"


def _pace(delay: float) -> str:
    return f"{delay * 1000:.0f} ms added to each request"


def _size(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "kB")):
        if count >= unit:
            return f"{count / unit:.0f} {name}"
    return f"{count} B"
