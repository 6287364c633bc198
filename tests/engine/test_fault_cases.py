"""Faults that need more than one answer to one request: restarts, full storage, tags that move or must not."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator

import pytest

from airflow_imagesync.domain.report import ResultState
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import faults
from tests.support.fault_table import IMAGE, LAYER, OTHER, Step
from tests.support.front import Action, Exchange, Front
from tests.support.tree import whole_tree
from tests.support.world import World

NEWER = images.index([images.image([images.layer(20_000, "newer")])])


def step_pattern(world: World, step: Step) -> str:
    return f"/{world.prefix}/app{step.target}"


def arrived(world: World, name: str = "app") -> str | None:
    return whole_tree(world.upstream(world.destination).url, f"{world.prefix}/{name}", "v1")


# A registry restarted while a copy runs


@pytest.fixture(scope="module")
def restartable() -> Iterator[tuple[DistributionRegistry, DistributionRegistry, Front, Front]]:
    with (
        DistributionRegistry(in_shared_memory=True) as one,
        DistributionRegistry(in_shared_memory=True) as two,
        Front(one.host) as source,
        Front(two.host) as destination,
    ):
        yield one, two, source, destination


@pytest.mark.parametrize(
    "step", [Step.SOURCE_GET, Step.BLOB_GET, Step.BLOB_HEAD, Step.POST, Step.PUT, Step.CHILD_PUT, Step.TAG_PUT]
)
def test_a_registry_may_be_restarted_in_the_middle(
    restartable: tuple[DistributionRegistry, DistributionRegistry, Front, Front], repository_prefix: str, step: Step
) -> None:
    first, second, source, destination = restartable
    world = World(source, destination, prefix=repository_prefix)
    world.forget()
    # It takes as long as it takes: here until after many a try.
    world.retries = 8
    world.retry = RetryPolicy(first_wait=0.05, max_wait=0.5, cancelled=threading.Event())
    world.push(IMAGE, "v1")
    registry, front = (first, source) if step.at_source else (second, destination)
    interrupted = {Step.BLOB_GET: faults.cut_answer(LAYER.size // 2), Step.PUT: faults.cut_upload(LAYER.size // 2)}
    back = threading.Event()

    def restart(exchange: Exchange) -> None:
        threading.Thread(target=lambda: (registry.restart(), back.set())).start()
        interrupted.get(step, faults.close_at_once())(exchange)

    front.on(step.method, step_pattern(world, step), restart, times=1)
    result = world.one(world.rule("v1"))
    assert back.wait(10)
    assert result.error is None
    assert arrived(world) == result.digest == IMAGE.digest


# A destination that can't store what it gets


@pytest.fixture
def small_registry() -> Iterator[DistributionRegistry]:
    with DistributionRegistry(in_shared_memory=True) as registry:
        registry.limit_files(30_000)
        yield registry


def test_an_image_that_the_storage_has_no_room_for_fails_alone_and_says_so(
    world: World, small_registry: DistributionRegistry
) -> None:
    world.push(images.image([images.layer(100_000, "large")]), "v1")
    world.push(OTHER, "v1", name="fine")
    with Front(small_registry.host) as small:
        world.destination = small
        large, fine = world.run(world.rule("v1"), world.rule("v1", name="fine")).images
        assert large.error is not None
        assert re.search("PUT .* answered 500 UNKNOWN: .*file too large", large.error)
        assert fine.error is None
        assert arrived(world) is None
        assert arrived(world, "fine") == OTHER.digest
        assert len(small.seen("PUT", f"digest={LAYER.digest}")) <= world.retries + 1


# Tags that move


@pytest.mark.parametrize("step", [Step.TAGS, Step.SOURCE_HEAD, Step.SOURCE_GET, Step.BLOB_GET])
def test_of_a_source_tag_that_moves_one_or_the_other_image_arrives_whole(world: World, step: Step) -> None:
    world.push(IMAGE, "v1")

    def move(exchange: Exchange) -> None:
        world.push(NEWER, "v1")
        exchange.pass_on(exchange.forward())

    world.source.on(step.method, step_pattern(world, step), move, times=1)
    with world.engine(world.rule()) as engine:
        (result,) = engine.copy(engine.plan(), engine.config.rules)
    assert result.error is None
    assert arrived(world) == result.digest == result.source_digest
    # What it names when it is copied is copied, in whatever order that was planned.
    assert result.digest == (IMAGE if step is Step.BLOB_GET else NEWER).digest


def test_an_image_that_is_deleted_at_the_source_while_it_is_copied_fails_and_leaves_no_tag(world: World) -> None:
    world.push(IMAGE, "v1")

    def delete(exchange: Exchange) -> None:
        assert exchange.tell("DELETE", exchange.request.path) == 202
        exchange.pass_on(exchange.forward())

    world.source.on("GET", step_pattern(world, Step.BLOB_GET), delete, times=1)
    result = world.one(world.rule("v1"))
    assert result.error is not None
    assert re.search("GET .*/blobs/.* answered 404 BLOB_UNKNOWN", result.error)
    assert arrived(world) is None


@pytest.mark.parametrize("step", [Step.HEAD, Step.BLOB_HEAD, Step.CHILD_PUT, Step.TAG_PUT])
def test_a_destination_tag_that_somebody_else_moves_names_what_we_copied_last(world: World, step: Step) -> None:
    world.push(IMAGE, "v1")

    def move(exchange: Exchange) -> None:
        world.push(NEWER, "v1", front=world.destination)
        exchange.pass_on(exchange.forward())

    world.destination.on(step.method, step_pattern(world, step), move, times=1)
    result = world.one(world.rule("v1"))
    assert result.error is None
    assert arrived(world) == result.digest == IMAGE.digest


# Tags that must not move


def denied(status: int, code: str, message: str, detail: object = None) -> Action:
    return faults.errors(status, code, message, detail)


#: What registries answer to a manifest for a tag that is immutable.
IMMUTABLE: dict[str, Action] = {
    "ECR": denied(
        400,
        "TAG_INVALID",
        "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten "
        "because the repository is immutable.",
    ),
    "ECR's API": faults.answer(
        400, {"Content-Type": "application/json"}, json.dumps({"__type": "ImageTagAlreadyExistsException"}).encode()
    ),
    "Harbor": denied(412, "PRECONDITION", "Failed to process request due to 'app:v1' configured as immutable."),
    "Docker Hub": denied(403, "DENIED", "requested access to the resource is denied: the tag is immutable"),
    "Artifactory": denied(403, "DENIED", "Not enough permissions to overwrite artifact 'docker/app/v1/manifest.json'"),
    "Artifactory's 400": denied(
        400, "MANIFEST_INVALID", "manifest invalid", {"description": "Failed with: HTTP 403 Forbidden"}
    ),
    "zot": faults.answer(405),
    "Google": denied(409, "FAILED_PRECONDITION", "cannot update tag v1. The repository has enabled tag immutability"),
    "Google's 400": denied(400, "FAILED_PRECONDITION", "failed_precondition"),
    "Nexus": denied(400, "BLOB_UPLOAD_INVALID", "component cannot be updated"),
}


@pytest.mark.parametrize("form", IMMUTABLE)
def test_a_tag_that_must_not_change_is_a_conflict_and_stays(world: World, form: str) -> None:
    world.push(IMAGE, "v1")
    world.push(NEWER, "v1", front=world.destination)
    world.destination.on("PUT", step_pattern(world, Step.TAG_PUT), IMMUTABLE[form])
    result = world.one(world.rule("v1"))
    assert result.state is ResultState.FAILED
    assert result.error is not None
    assert re.search(r"exists with another digest and the registry does not let it be changed .*lift its", result.error)
    assert not result.temporary
    assert arrived(world) == NEWER.digest
    assert len(world.destination.seen("PUT", "/manifests/v1")) <= world.retries + 1


@pytest.mark.parametrize("form", IMMUTABLE)
def test_a_tag_that_must_not_change_and_is_right_by_now_is_fine(world: World, form: str) -> None:
    world.push(IMAGE, "v1")

    def refuse(exchange: Exchange) -> None:
        world.push(IMAGE, "v1", front=world.destination)  # by somebody else, just before
        IMMUTABLE[form](exchange)

    world.destination.on("PUT", step_pattern(world, Step.TAG_PUT), refuse)
    assert world.one(world.rule("v1")).error is None
    assert arrived(world) == IMAGE.digest


# A manifest that is changed on its way to its tag: the registry can't know


def test_a_tag_whose_manifest_was_changed_on_its_way_is_mended(world: World) -> None:
    world.push(IMAGE, "v1")
    changed = faults.corrupt_upload(IMAGE.body.index(b'"index"') + 1)
    world.destination.on("PUT", step_pattern(world, Step.TAG_PUT), changed, times=1)
    assert world.one(world.rule("v1")).error is None
    assert arrived(world) == IMAGE.digest


def test_a_tag_whose_manifest_is_always_changed_on_its_way_fails_and_says_so(world: World) -> None:
    world.push(IMAGE, "v1")
    changed = faults.corrupt_upload(IMAGE.body.index(b'"index"') + 1)
    world.destination.on("PUT", step_pattern(world, Step.TAG_PUT), changed)
    result = world.one(world.rule("v1"))
    assert result.error is not None
    assert re.search(f"stored sha256:[0-9a-f]+ where {IMAGE.digest} was sent", result.error)
    assert len(world.destination.seen("PUT", "/manifests/v1")) == 2


# Too many requests


@pytest.mark.parametrize("step", [Step.SOURCE_GET, Step.PUT])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_the_wait_that_a_registry_asks_for_is_kept(world: World, step: Step, as_date: bool) -> None:
    world.push(IMAGE, "v1")
    front = world.source if step.at_source else world.destination
    # A date has whole seconds: of two at least one is left.
    front.on(step.method, step_pattern(world, step), faults.too_many(2 if as_date else 1, as_date=as_date), times=1)
    assert world.one(world.rule("v1")).error is None
    refused, again = front.seen(step.method, step_pattern(world, step))[:2]
    assert (refused.status, again.status) == (429, 200 if step.at_source else 201)
    assert again.at - refused.at >= 1


def test_a_registry_with_a_low_rate_gets_all_in_the_end(world: World) -> None:
    world.push(IMAGE, "v1")
    world.destination.on(None, "", faults.limit_rate(40, retry_after=0))
    world.retries = 8
    world.retry = RetryPolicy(first_wait=0.05, max_wait=0.2, cancelled=threading.Event())
    assert world.one(world.rule("v1")).error is None
    assert arrived(world) == IMAGE.digest


def test_a_wait_of_an_hour_is_not_sat_out(world: World) -> None:
    world.push(IMAGE, "v1")
    world.source.on("GET", step_pattern(world, Step.SOURCE_GET), faults.too_many(3600))
    begun = time.monotonic()
    result = world.one(world.rule("v1"))
    assert time.monotonic() - begun < 30
    assert result.error is not None
    assert "answered 429 TOOMANYREQUESTS: too many requests; it asks to wait 3600 s" in result.error
    assert result.temporary
    assert len(world.source.seen("GET", "/manifests/")) == 1
