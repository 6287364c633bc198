"""Everything at once: a run still ends, every image has its result, and no tag names something incomplete."""

from __future__ import annotations

import random
import threading

import pytest

from airflow_imagesync.domain.timeouts import Timeouts
from devtools import images
from devtools.images import BuiltManifest
from tests.support import faults
from tests.support.front import Action, Exchange, pass_through
from tests.support.world import World

FAULTS: list[Action] = [
    faults.answer(503),
    faults.answer(429, {"Retry-After": "0"}),
    faults.answer(500, early=True),
    faults.close_at_once(),
    faults.close_at_once(reset=True),
    faults.lose_answer(),
    faults.lose_answer(502),
    faults.cut_upload(20_000),
    faults.cut_answer(20_000),
    faults.cut_answer(20_000, stall=True),
    faults.corrupt(10_000),
    faults.wait(0.02),
    faults.answer(404),
    faults.answer(400, body=b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'),
]


def unreliable(seed: int, share: float) -> Action:
    """Do something wrong to a share of the requests."""
    source = random.Random(seed)
    lock = threading.Lock()

    def act(exchange: Exchange) -> None:
        with lock:
            fault = source.choice(FAULTS) if source.random() < share else pass_through
        fault(exchange)

    return act


def everything(world: World) -> dict[str, BuiltManifest]:
    """Push images that share layers, children and digests; return them by repository and tag."""
    shared = [images.layer(60_000, f"shared {number}") for number in range(3)]
    common = images.image([shared[0]])
    found: dict[str, BuiltManifest] = {}
    for number in range(3):
        own = images.image([*shared, images.layer(30_000, number)], "linux/arm64")
        index = images.index([common, own], attestations=True)
        for tag, built in (("index", index), ("again", index), ("single", own), ("nested", images.index([index]))):
            world.push(built, tag, name=f"app{number}")
            found[f"app{number}:{tag}"] = built
    return found


def assert_complete(world: World, name: str, digest: str) -> None:
    client, path = world.client(), f"{world.prefix}/{name}"
    manifest = client.get_manifest(path, digest)
    for blob in manifest.blobs:
        assert client.has_blob(path, blob.digest)
    for child in manifest.children:
        assert_complete(world, name, child.digest)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_goes_wrong_nothing_hangs_is_lost_or_incomplete(world: World, seed: int) -> None:
    pushed = everything(world)
    world.timeouts = Timeouts(connect=2, read=0.3, write=0.5, commit=0.5)
    world.source.on(None, "/(manifests|blobs)/", unreliable(seed, share=0.15))
    world.destination.on(None, "/(manifests|blobs)/", unreliable(seed + 1000, share=0.15))
    world.concurrency = 8
    report = world.run(*(world.rule(name=f"app{number}") for number in range(3)))
    assert len(report.images) == len(pushed)
    world.forget()
    for one in report.images:
        name, _, tag = one.source.partition(f"{world.prefix}/")[2].partition(":")
        stands = world.digest(tag, name)
        if one.state != "failed":
            assert one.digest == stands == pushed[f"{name}:{tag}"].digest
        assert (one.error is None) is (one.state != "failed")
        assert stands in (None, pushed[f"{name}:{tag}"].digest)
        if stands is not None:
            assert_complete(world, name, stands)
    # And once the weather is better, the rest arrives.
    report = world.run(*(world.rule(name=f"app{number}") for number in range(3)))
    assert report.failed == ()
