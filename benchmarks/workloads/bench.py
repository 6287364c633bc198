"""What all workloads share: the stage, the tools, their turns, and the run of one of them."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, MeasurementError, Meter, measure, traffic
from benchmarks.results import Outcome, Run
from benchmarks.stage import Distance, Stage
from benchmarks.tools.imagesync import ImageSync
from benchmarks.tools.tool import Command, Job, Peer, Tool, line, script
from devtools import images
from devtools.distribution import DistributionRegistry

#: The peer that goals are set against; the others run less often.
MAIN_PEER = "skopeo"
#: The part of the machine that other processes may have before that is worth a word.
_NOTABLE = 0.1


@dataclass(frozen=True)
class Turn:
    """A tool that is next; ``beside`` is the peer that one of our runs is to be compared with."""

    tool: Tool
    beside: str | None = None


@dataclass
class Bench:
    """Runs tools on a stage.

    Without ``peers`` there is nothing to compare with; ``rounds`` None means that each workload has its own number.
    """

    stage: Stage
    peers: Sequence[Peer] = ()
    rounds: int | None = None
    say: Callable[[str], None] = print
    ours: ImageSync = field(default_factory=ImageSync)
    #: Makes the content differ from that of any earlier benchmark, which a tool may remember.
    seed: str = field(default_factory=lambda: secrets.token_hex(4))
    _idle: Cost | None = None

    @property
    def idle(self) -> Cost:
        """What our process costs when it has imported everything and does nothing."""
        if self._idle is None:
            self._idle = self.cost_of_starting(self.ours)
        return self._idle

    def cost_of_starting(self, tool: Any) -> Cost:
        """Return what a tool costs that has an ``idle`` command."""
        folder = self.stage.folder()
        return measure(tool.idle(), folder, environment=tool.environment(folder)).cost

    def pairs(self, peers: Sequence[Peer], rounds: int, others: int) -> Iterator[Turn]:
        """Yield ours and a peer in turn, for each peer; in every second round the peer comes first.

        So often as ``rounds`` says for the main peer, and ``others`` for the others.
        """
        ours = self.ours
        if not peers:
            yield from [Turn(ours)] * (self.rounds or rounds)
        for number in range(max(self.rounds or rounds, others)):
            for peer in peers:
                if number < (self.rounds or (rounds if peer.name == MAIN_PEER else others)):
                    pair = [Turn(ours, peer.name), Turn(peer)]
                    yield from pair if number % 2 == 0 else reversed(pair)

    def row(self, peers: Sequence[Peer]) -> Iterator[Turn]:
        """Yield ours and then all peers: for what takes so long that it is not done again for each peer."""
        for _ in range(self.rounds or 1):
            yield Turn(self.ours)
            yield from map(Turn, peers)

    def do_all(self, outcome: Outcome, turns: Iterator[Turn], run: Callable[[Turn], Run]) -> None:
        """Let the tools run in turn; a peer that fails is left out from then on."""
        failed: set[str] = set()
        for turn in turns:
            if turn.tool.name in failed or turn.beside in failed:
                continue
            try:
                outcome.runs.append(run(turn))
            except MeasurementError as error:
                if isinstance(turn.tool, ImageSync):
                    raise
                failed.add(turn.tool.name)
                outcome.problems.append(str(error))
                self.say(f"  {error}")
        elsewhere = max(run.elsewhere for run in outcome.runs)
        if elsewhere > _NOTABLE:
            outcome.notes.append(f"other processes had up to {elsewhere:.0%} of the machine, so the times say little")

    def layer(self, size: int, name: object) -> images.Blob:
        """Return a layer that no other benchmark has."""
        return images.layer(size, f"{self.seed}-{name}")

    def run(
        self,
        turn: Turn,
        jobs: Job | Sequence[Job],
        source: DistributionRegistry,
        destinations: Sequence[DistributionRegistry],
        *,
        items: int,
        sizes: Mapping[str, int] | None = None,
        delay: float = 0.0,
    ) -> Run:
        """Run a tool once, or for several jobs in processes one after the other, and return what that cost.

        ``sizes`` has those of the blobs that may be sent, by digest. Raises MeasurementError when it fails.
        """
        tool = turn.tool
        folder = self.stage.folder()
        registries = [source, *destinations]
        seen = [len(registry.requests_log()) for registry in registries]
        meter = Meter(registry.pid for registry in registries)
        with Distance(registries, delay) as distance:
            command, outputs = _command(tool, jobs, distance.hosts[0], distance.hosts[1:], folder)
            done = measure(command, folder, environment=tool.environment(folder))
        registry_cpu, elsewhere = meter.read(done.cost.cpu + distance.cpu)
        logs = [registry.requests_log()[start:] for registry, start in zip(registries, seen, strict=True)]
        if done.exit_code != 0:
            told = done.errors.strip().splitlines()
            raise MeasurementError(f"{tool.name} ended with {done.exit_code}: {' '.join(told[-3:])}")
        destination_traffic = traffic(one for log in logs[1:] for one in log)
        result = Run(
            tool.name,
            items,
            done.cost,
            traffic(logs[0]),
            destination_traffic,
            uploaded=sum((sizes or {})[digest] for digest in destination_traffic.uploads),
            totals=_totals(outputs) if isinstance(tool, ImageSync) else {},
            registry_cpu=registry_cpu,
            proxy_cpu=distance.cpu,
            elsewhere=elsewhere,
            beside=turn.beside,
        )
        self.say(f"  {tool.name}: {result.cost.wall:.2f} s, {result.cost.cpu:.2f} s of CPU")
        return result


def _command(
    tool: Tool, jobs: Job | Sequence[Job], source: str, destinations: Sequence[str], folder: Path
) -> tuple[Command, list[Path]]:
    """Return the command for the jobs, and the files that will have what it printed for each."""
    if isinstance(jobs, Job):
        return tool.command(jobs, source, destinations, folder), [folder / "command.out"]
    lines, outputs = [], []
    for number, job in enumerate(jobs):
        own = folder / str(number)
        own.mkdir()
        outputs.append(own / "output")
        lines.append(f"{line(tool.command(job, source, destinations, own))} > {line([outputs[-1]])}")
    return script(folder, lines), outputs


def _totals(outputs: Sequence[Path]) -> dict[str, Any]:
    """Return the sums of the totals of our reports."""
    totals: Counter[str] = Counter()
    for output in outputs:
        for name, value in json.loads(output.read_bytes())["totals"].items():
            totals[name] += value
    return dict(totals)
