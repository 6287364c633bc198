from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.rules import AllTags, Destination, Rule, SyncConfig
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.sync import SyncEngine
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.clients import SHORT, client_for, login_for, quick
from tests.support.faults import answer, cut_answer, stall_upload, wait
from tests.support.front import Action, Front
from tests.support.skopeo import Skopeo
from tests.support.world import World, kinds

MIB = 1 << 20


def between(
    source: Any, destination: Any, name: str, *logins: Login, timeouts: Timeouts = SHORT, retries: int = 2
) -> SyncReport:
    """Copy all tags of a repository to one of the same name."""
    rule = Rule(0, Repository(source.host, name), AllTags(), (Destination(Repository(destination.host, name)),))
    config = SyncConfig(rules=(rule,), logins=logins, concurrency=8, retries=retries)
    with SyncEngine(config, retry=quick(), timeouts=timeouts) as engine:
        return engine.run()


# Being told to stop


def stopped(world: World, *, after: Callable[[], bool]) -> tuple[SyncReport, float]:
    """Run all tags of the source and cancel once `after` is true; return the report, and the seconds it still took."""
    world.timeouts = Timeouts()  # the real ones, up to ten minutes
    told = 0.0

    with world.engine(world.rule()) as engine:

        def watch() -> None:
            nonlocal told
            deadline = time.monotonic() + 20
            while not after() and time.monotonic() < deadline:
                time.sleep(0.01)
            told = time.monotonic()
            engine.cancel()

        thread = threading.Thread(target=watch)
        thread.start()
        report = engine.run()
        thread.join()
    return report, time.monotonic() - told


@pytest.mark.parametrize(
    ("side", "method", "pattern", "action"),
    [
        ("source", "GET", "/tags/list", wait()),
        ("destination", "HEAD", "/manifests/", wait()),
        ("source", "GET", "/manifests/", wait()),
        ("destination", "HEAD", "/blobs/", wait()),
        ("destination", "POST", "/uploads/", wait()),
        ("source", "GET", "/blobs/", wait()),
        ("source", "GET", "/blobs/", cut_answer(5000, stall=True)),
        ("destination", "PUT", "/uploads/", stall_upload(5000)),
        ("destination", "PUT", "/uploads/", wait()),
        ("destination", "PUT", "/manifests/sha", wait()),
        ("destination", "PUT", "/manifests/v", wait()),
        ("destination", "POST", "/uploads/", answer(429, {"Retry-After": "55"})),
        ("destination", "POST", "/uploads/", answer(503)),
    ],
    ids=[
        "tag-list",
        "destination-head",
        "source-manifest",
        "blob-head",
        "upload-start",
        "blob",
        "blob-in-the-middle",
        "upload-in-the-middle",
        "upload-answer",
        "child-manifest",
        "tag",
        "rate-limited",
        "failing",
    ],
)
def test_a_run_ends_within_seconds_whatever_it_waits_for(
    world: World, side: str, method: str, pattern: str, action: Action
) -> None:
    for number in range(6):
        child = images.image([images.layer(6 * MIB if number == 0 else 20_000, number)])
        world.push(images.index([child]), f"v{number}")
    front: Front = getattr(world, side)
    front.on(method, pattern, action)
    report, seconds = stopped(world, after=lambda: bool(front.seen(method, pattern)))
    assert seconds < 5
    assert report.totals["copied"] + report.totals["same"] == 0
    assert {one.error for one in report.images} == {"the run was stopped before this was finished"}
    assert all(one.temporary for one in report.images)
    front.forget()
    assert all(world.digest(f"v{number}") is None for number in range(6))


def test_a_run_that_waits_for_a_source_to_compare_with_ends_within_seconds(world: World) -> None:
    world.push(images.image([images.layer(20_000, "new")]), "v1")
    old = world.push(images.image([images.layer(20_000, "old")]), "v1", front=world.destination)
    world.source.on("HEAD", "/manifests/", wait())
    report, seconds = stopped(world, after=lambda: bool(world.source.seen("HEAD", "/manifests/")))
    assert seconds < 5
    assert [one.error for one in report.images] == ["the run was stopped before this was finished"]
    assert world.digest("v1") == old.digest


def test_a_run_that_waits_for_a_limit_ends_within_seconds(world: World) -> None:
    world.push(images.image(), *(f"v{number}" for number in range(30)))
    world.source.on("GET", "/manifests/", wait())
    world.logins = {"source": {"max_concurrent": 1}}
    world.concurrency = 8
    _, seconds = stopped(world, after=lambda: bool(world.source.seen("GET", "/manifests/")))
    assert seconds < 5
    assert len(world.source.seen("GET", "/manifests/")) == 1


def test_a_run_that_is_stopped_and_repeated_copies_only_what_is_missing(world: World) -> None:
    layers = [images.layer(300_000, number) for number in range(8)]
    for number, layer in enumerate(layers):
        world.push(images.image([layer]), f"v{number}")
    last = layers[7]
    world.source.on("GET", last.digest, cut_answer(100_000, stall=True))
    report, _ = stopped(
        world, after=lambda: [one.status for one in world.destination.seen("PUT", "/manifests/v")] == [201] * 7
    )
    assert [one.state for one in report.images] == ["copied"] * 7 + ["failed"]
    assert world.digest("v7") is None
    world.forget()
    report = world.run(world.rule())
    assert [one.state for one in report.images] == ["same"] * 7 + ["copied"]
    assert kinds(world.source) == Counter(
        {"GET tags": 1, "HEAD manifest": 7, "GET manifest": 1, "GET blob": kinds(world.source)["GET blob"]}
    )
    assert kinds(world.source)["GET blob"] in (1, 2)  # the configuration may have arrived before
    assert report.totals["bytes_copied"] <= last.size + 1000


def test_an_engine_that_was_told_to_stop_does_nothing_more(world: World) -> None:
    world.push(images.image(), "v1")
    with world.engine(world.rule("v1")) as engine:
        plan = engine.plan()
        engine.cancel()
        world.forget()
        (result,) = engine.copy(plan, engine.config.rules)
    assert result.state == "failed"
    assert not world.destination.seen("PUT")


def test_an_error_in_between_ends_the_threads(world: World) -> None:
    world.push(images.image([images.layer(MIB)]), "v1")
    world.timeouts = Timeouts()
    world.source.on("GET", "/blobs/", wait())
    begun = time.monotonic()

    def interrupted() -> None:
        with world.engine(world.rule("v1")) as engine:
            threading.Thread(target=engine.run, daemon=True).start()
            while not world.source.seen("GET", "/blobs/"):
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 5
    assert not [one for one in threading.enumerate() if one.name.startswith("imagesync_")]


# What a run is worth


def test_a_second_run_has_nothing_to_do(world: World) -> None:
    world.push(images.index(), "v1", "v2")
    assert world.run(world.rule()).totals["copied"] == 2
    world.forget()
    report = world.run(world.rule())
    assert report.totals["same"] == 2
    assert kinds(world.source) == Counter({"GET tags": 1, "HEAD manifest": 2})
    assert kinds(world.destination) == Counter({"HEAD manifest": 2})


def test_results_stand_in_the_order_of_rules_tags_and_destinations(world: World) -> None:
    world.push(images.image(), "b", "a")
    world.push(images.image(), "v1", name="other")
    rules = [world.rule("b", "a", "missing", to=["y", "x"]), world.rule(name="none"), world.rule("v1", name="other")]
    report = world.run(*rules)
    found = [
        (one.rule, one.source.partition(world.prefix + "/")[2], one.destination.partition(world.prefix + "/")[2])
        for one in report.images
    ]
    assert found == [
        (0, "app:b", "y:b"),
        (0, "app:b", "x:b"),
        (0, "app:a", "y:a"),
        (0, "app:a", "x:a"),
        (0, "app:missing", "y:missing"),
        (0, "app:missing", "x:missing"),
        (1, "none", "none"),
        (2, "other:v1", "other:v1"),
    ]
    assert [one.state for one in report.images] == ["copied"] * 4 + ["failed"] * 3 + ["copied"]


def test_a_repository_copied_within_one_registry_moves_no_byte(world: World, skopeo: Skopeo) -> None:
    index = images.index(attestations=True)
    world.push(index, "v1", name="from", front=world.destination)
    result = world.one(world.rule("v1", source=world.destination, name="from", to="to"))
    assert (result.state, result.bytes_copied) == ("copied", 0)
    assert result.bytes_mounted == sum(blob.size for blob in index.all_blobs())
    assert set(kinds(world.destination)) == {
        "HEAD manifest",
        "GET manifest",
        "HEAD blob",
        "POST upload",
        "PUT manifest",
    }
    assert skopeo.digest(world.reference("v1", name="to")) == index.digest


def test_progress_counts_up_to_what_was_done(world: World) -> None:
    world.push(images.image([images.layer(400_000)]), "new")
    for front in (world.source, world.destination):
        world.push(images.image(), "same", front=front)
    progress = Progress()
    with world.engine(world.rule("new", "same", "missing"), progress=progress) as engine:
        report = engine.run()
    snapshot = progress.snapshot()
    assert (snapshot.to_plan, snapshot.planned, snapshot.images, snapshot.done) == (3, 3, 3, 3)
    assert (snapshot.copied, snapshot.same, snapshot.failed) == (1, 1, 1)
    assert snapshot.bytes_moved == snapshot.bytes_expected == report.totals["bytes_copied"]


# Logins


def test_a_run_between_registries_that_ask_for_logins(
    htpasswd_registry: DistributionRegistry,
    token_registry: DistributionRegistry,
    token_server: TokenServer,
    repository_prefix: str,
    skopeo: Skopeo,
) -> None:
    index = images.index(attestations=True)
    images.push(htpasswd_registry.url, repository_prefix, index, ["v1", "v2"], auth=(USER, PASSWORD))
    logins = [login_for(one, username=USER, password=PASSWORD) for one in (htpasswd_registry, token_registry)]
    report = between(htpasswd_registry, token_registry, repository_prefix, *logins)
    assert report.totals["copied"] == 2, report.failed
    reference = f"{token_registry.host}/{repository_prefix}:v2"
    assert skopeo.digest(reference, "--creds", f"{USER}:{PASSWORD}") == index.digest
    # And the other way round, to another name.
    assert between(token_registry, htpasswd_registry, repository_prefix, *logins).totals["same"] == 2


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_a_wrong_password_is_sent_once_for_a_hundred_tags(
    world: World,
    htpasswd_registry: DistributionRegistry,
    token_registry: DistributionRegistry,
    token_server: TokenServer,
    side: str,
    kind: str,
) -> None:
    locked = htpasswd_registry if kind == "basic" else token_registry
    tags = [f"v{number}" for number in range(100)]
    before = len(token_server.requests)
    with Front(locked.host) as front:
        rule = world.rule(*tags)
        if side == "source":
            rule = Rule(0, Repository(front.host, "secret"), rule.select, rule.destinations)
        else:
            world.push(images.image(), *tags)
            rule = Rule(0, rule.source, rule.select, (Destination(Repository(front.host, "secret")),))
        logins = (
            login_for(front, username=USER, password="wrong"),
            login_for(world.source),
            login_for(world.destination),
        )
        with SyncEngine(SyncConfig(rules=(rule,), logins=logins), retry=quick(), timeouts=SHORT) as engine:
            report = engine.run()
        assert report.totals["failed"] == 100
        assert all("check the username and password" in (one.error or "") for one in report.images)
        shown = [one for one in front.seen() if "Authorization" in one.headers]
        assert len(shown) == (1 if kind == "basic" else 0)
        assert len(token_server.requests) - before == (0 if kind == "basic" else 1)


# What a user got wrong


def test_what_is_wrong_with_a_registry_is_told_in_a_sentence(
    world: World, tls_registry: DistributionRegistry, ca_file: Path
) -> None:
    world.push(images.image(), "v1")
    here = login_for(world.source)

    def failure(destination: str, **login: Any) -> str:
        rule = Rule(0, world.at(world.source, "app"), AllTags(), (Destination(Repository(destination, world.prefix)),))
        logins = (here, Login(key=destination, registry=destination, **login))
        config = SyncConfig(rules=(rule,), logins=logins, retries=0)
        with SyncEngine(config, retry=quick(), timeouts=SHORT) as engine:
            (image,) = engine.run().images
        return image.error or image.state

    tls, plain = tls_registry.host, world.destination.host
    where = f"{world.prefix}/manifests/v1"
    assert failure(tls).startswith(f"HEAD https://{tls}/v2/{where}: the certificate is not trusted (")
    assert failure(tls).endswith(
        "give the file with its authority as ca_file, or set tls_verify: false for this registry"
    )
    assert "take out insecure: true (for a self-signed certificate set tls_verify: false)" in failure(
        tls, insecure=True
    )
    assert failure(plain) == (
        f"HEAD https://{plain}/v2/{where}: the registry answered plain HTTP on this port; "
        "set insecure: true for it if that is meant"
    )
    assert failure("127.0.0.1:1", insecure=True) == (
        f"HEAD http://127.0.0.1:1/v2/{where}: the connection was refused; check that the registry runs on this port"
    )
    assert failure("registry.invalid") == (
        f"HEAD https://registry.invalid/v2/{where}: the host name is unknown; check the registry's name and the DNS"
    )
    assert failure(tls, ca_file=str(ca_file)) == "copied"
    assert failure(tls, tls_verify=False) == "same"


def test_two_logins_of_one_registry_share_the_stricter_limit(world: World) -> None:
    world.push(images.image(), *(f"v{number}" for number in range(20)), name="a/b")
    host = world.source.host
    logins = (
        Login(key=host, registry=host, insecure=True, max_concurrent=8),
        Login(key=f"{host}/x", registry=host, namespace=f"{world.prefix}/a", insecure=True, max_concurrent=2),
        login_for(world.destination),
    )
    rules = [world.rule(name="a/b"), world.rule(name="none", allow_empty=True)]
    config = SyncConfig(rules=tuple(rules), logins=logins, concurrency=8)
    with SyncEngine(config, retry=quick(), timeouts=SHORT) as engine:
        engine.plan()
    assert world.source.most <= 2


# Memory

_COPY = """
import json, resource, sys, threading
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, Destination, Rule, SyncConfig
from airflow_imagesync.engine.sync import SyncEngine

source, destination, name = sys.argv[1:]
rule = Rule(0, Repository(source, name), AllTags(), (Destination(Repository(destination, name)),))
logins = tuple(Login(key=host, registry=host, insecure=True) for host in (source, destination))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = peak()
with SyncEngine(SyncConfig(rules=(rule,), logins=logins)) as engine:
    report = engine.run()
print(json.dumps({"grown": peak() - start, **report.totals}))
"""


@pytest.mark.slow
def test_a_large_layer_goes_through_in_little_memory(repository_prefix: str) -> None:
    with (
        DistributionRegistry(in_shared_memory=True) as source,
        DistributionRegistry(in_shared_memory=True) as destination,
    ):
        layer = images.layer(300 * MIB, "large")
        images.push(source.url, repository_prefix, images.image([layer]), ["v1"])
        done = subprocess.run(
            [sys.executable, "-c", _COPY, source.host, destination.host, repository_prefix],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["copied"], found["bytes_copied"] > layer.size) == (1, True)
        assert found["grown"] < 64 * MIB
        assert client_for(destination).has_blob(repository_prefix, layer.digest)


def test_a_plan_holds_little_for_each_image(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(images.image(), "v1", front=front)
    (row,) = world.plan(world.rule("v1")).images
    held = sys.getsizeof(row) + sum(sys.getsizeof(getattr(row, name)) for name in row.__slots__)
    assert held < 1024
