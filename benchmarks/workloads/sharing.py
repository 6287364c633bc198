"""Workloads in which several images, processes or destinations need the same blobs, which should move once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.results import Outcome, Run, exact_goal, share_goal
from benchmarks.stage import Placed, check_content, push_all
from benchmarks.tools.imagesync import ImageSync
from benchmarks.tools.tool import Job
from benchmarks.workloads.bench import Bench, Turn
from benchmarks.workloads.content import KIB, MIB, SMALL, blob_sizes, copy, place, size_text
from devtools import images

#: How many times the unique bytes may be moved: configs and manifests are small beside the rest.
_ONCE = 1.02


def shared(bench: Bench, *, repositories: int = 20, base_layers: int = 4, layer_size: int = 8 * MIB) -> Outcome:
    """Repositories whose images have the same large base."""
    placed = _on_one_base(bench, repositories, base_layers, layer_size)
    outcome = Outcome(
        "shared", f"{repositories} repositories on the same {size_text(base_layers * layer_size)}", "image"
    )
    copy(bench, outcome, placed, bench.pairs(bench.peers, 1, 1))
    sizes = blob_sizes(placed)
    unique = sum(sizes.values())
    base_size = sum(blob.size for blob in placed[0].manifest.blobs[1 : 1 + base_layers])
    for run in outcome.of(bench.ours.name)[-1:]:
        outcome.goals += [
            exact_goal("bytes uploaded, by our report", run.totals["bytes_copied"], unique),
            exact_goal("bytes uploaded, by the access log", run.uploaded, unique),
            exact_goal("bytes read at the source, by the access log", run.source.blob_bytes, unique),
            exact_goal("blobs uploaded", len(run.destination.uploads), len(sizes)),
            exact_goal("blobs mounted", run.destination.mounts, (repositories - 1) * base_layers),
            exact_goal("bytes mounted, by our report", run.totals["bytes_mounted"], (repositories - 1) * base_size),
        ]
    return outcome


def processes(bench: Bench, *, repositories: int = 20, base_layers: int = 4, layer_size: int = 8 * MIB) -> Outcome:
    """The same, each repository by a process of its own, one after the other; ours share a file of records."""
    placed = _on_one_base(bench, repositories, base_layers, layer_size)
    title = f"{repositories} processes in turn, on the same {size_text(base_layers * layer_size)}"
    outcome = Outcome("processes", title, "image")
    sizes = blob_sizes(placed)
    space = sum(sizes.values()) + repositories * base_layers * layer_size + SMALL
    jobs = [Job((one.repository,)) for one in placed]
    with bench.stage.registry(space) as source:
        push_all(source, placed)

        def run(turn: Turn) -> Run:
            if isinstance(turn.tool, ImageSync):
                turn = replace(turn, tool=ImageSync(records=bench.stage.folder() / "records.db"))
            with bench.stage.registry(space) as destination:
                done = bench.run(turn, jobs, source, [destination], items=len(placed), sizes=sizes)
                check_content(destination, placed)
            return done

        bench.do_all(outcome, bench.row(bench.peers), run)
    _add_once_goals(bench, outcome, sizes, destinations=1)
    return outcome


def fan_out(
    bench: Bench, *, destinations: int = 3, count: int = 4, layers: int = 4, layer_size: int = 16 * MIB
) -> Outcome:
    """Images that go to several registries at once."""
    title = f"{count} images of {layers} layers of {size_text(layer_size)}, to {destinations} registries"
    outcome = Outcome("fan-out", title, "image")
    placed = [
        place(
            "wide", number, images.image([bench.layer(layer_size, f"wide-{number}.{part}") for part in range(layers)])
        )
        for number in range(count)
    ]
    sizes = blob_sizes(placed)
    space = sum(sizes.values()) + SMALL
    with bench.stage.registry(space) as source:
        push_all(source, placed)

        def run(turn: Turn) -> Run:
            with ExitStack() as stack:
                there = [stack.enter_context(bench.stage.registry(space)) for _ in range(destinations)]
                items = count * destinations
                done = bench.run(turn, Job(("bench/wide",)), source, there, items=items, sizes=sizes)
                for registry in there:
                    check_content(registry, placed)
            return done

        bench.do_all(outcome, bench.pairs(bench.peers, 1, 1), run)
    _add_once_goals(bench, outcome, sizes, destinations=destinations)
    return outcome


def _add_once_goals(bench: Bench, outcome: Outcome, sizes: dict[str, int], *, destinations: int) -> None:
    """Add the goals that each byte is read once, and sent once to each destination, by the access logs."""
    unique = sum(sizes.values())
    ours = outcome.of(bench.ours.name)
    read, sent = max(run.source.blob_bytes for run in ours), max(run.uploaded for run in ours)
    outcome.goals += [
        exact_goal("images copied", min(run.totals["copied"] for run in ours), ours[0].items),
        share_goal("bytes read at the source, by the unique ones", read, unique, _ONCE),
        share_goal("bytes uploaded, by the unique ones", sent, unique * destinations, _ONCE),
    ]


def _on_one_base(bench: Bench, repositories: int, base_layers: int, layer_size: int) -> Sequence[Placed]:
    base = [bench.layer(layer_size, f"base-{number}") for number in range(base_layers)]
    return [
        place(f"on-base-{number}", 0, images.image([*base, bench.layer(20 * KIB, f"top-{number}")]))
        for number in range(repositories)
    ]
