from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_imagesync.domain.rules import ByDigest
from airflow_imagesync.engine.sync import SyncEngine
from devtools import images
from devtools.images import Blob, BuiltManifest
from tests.support.faults import answer, cut_answer, cut_upload, lose_answer
from tests.support.front import Action, Exchange, pass_through
from tests.support.skopeo import Skopeo
from tests.support.world import World, kinds

NESTED = images.index([images.index([images.image()]), images.image(platform="linux/arm64")])
TEXT = Blob(b"some text", media_type="text/plain")


def without_platforms_of(*blobs: Blob) -> BuiltManifest:
    """An index of blobs, as BuildKit writes its caches."""
    holder = images.image(list(blobs))
    index = images.index([holder])
    document = index.json
    document["manifests"] = [blob.descriptor() for blob in holder.blobs]
    return BuiltManifest(index.media_type, images._json(document), blobs=holder.blobs)


# Whole images


@pytest.mark.parametrize(
    "built",
    [
        images.image(),
        images.image(docker=True),
        images.index(attestations=True),
        images.index(docker=True),
        NESTED,
        images.image([]),
        images.image([Blob(b"")]),
        images.image([images.layer(5000), images.layer(5000)]),
        images.artifact("application/vnd.example.sbom", [TEXT]),
        images.artifact("application/vnd.example.sig", [TEXT], subject=images.image()),
        images.index([images.artifact("application/x", [TEXT]), images.image()]),
        images.index([images.image()] * 2),
        images.index([]),
    ],
    ids=[
        "oci",
        "docker",
        "index-with-attestations",
        "docker-list",
        "nested-index",
        "no-layers",
        "empty-layer",
        "a-layer-twice",
        "artifact",
        "artifact-about-another",
        "index-with-an-artifact",
        "a-child-twice",
        "empty-index",
    ],
)
def test_an_image_arrives_byte_for_byte_with_all_it_needs(world: World, skopeo: Skopeo, built: BuiltManifest) -> None:
    world.push(built, "v1")
    result = world.one(world.rule("v1"))
    assert (result.error, result.state) == (None, "copied")
    assert (result.source_digest, result.digest) == (built.digest, built.digest)
    assert skopeo.raw(world.reference("v1")) == built.body
    for manifest in built.all_manifests():
        assert world.client().get_manifest(f"{world.prefix}/app", manifest.digest).body == manifest.body
    blobs = list(built.all_blobs())
    assert all(world.client().has_blob(f"{world.prefix}/app", blob.digest) for blob in blobs)
    assert result.bytes_copied == sum(blob.size for blob in blobs)
    assert (result.bytes_mounted, result.bytes_skipped) == (0, 0)


@pytest.mark.parametrize(
    "built", [images.image(), images.index(attestations=True), NESTED], ids=["image", "index", "nested"]
)
def test_what_arrived_can_be_pulled(world: World, skopeo: Skopeo, tmp_path: Path, built: BuiltManifest) -> None:
    world.push(built, "v1")
    world.run(world.rule("v1"))
    if built is not NESTED:  # skopeo 1.9 copies no index within an index
        skopeo.pull(world.reference("v1"), tmp_path / "pulled")
    assert skopeo.digest(world.reference("v1")) == built.digest


def test_an_index_of_blobs_arrives(world: World) -> None:
    built = without_platforms_of(images.layer(3000))
    world.push(built, "cache")
    result = world.one(world.rule("cache"))
    assert (result.error, result.digest) == (None, built.digest)
    assert all(world.client().has_blob(f"{world.prefix}/app", blob.digest) for blob in built.blobs)


def test_a_manifest_without_a_media_type_arrives_as_it_was(world: World) -> None:
    built = images.image()
    document = {key: value for key, value in built.json.items() if key != "mediaType"}
    bare = BuiltManifest(built.media_type, images._json(document), blobs=built.blobs)
    world.push(bare, "v1")
    assert world.one(world.rule("v1")).digest == bare.digest


# The order of things


def test_blobs_go_before_manifests_and_the_tag_goes_last(world: World) -> None:
    world.push(NESTED, "v1")
    world.run(world.rule("v1"))
    puts = [one.path.rpartition("/")[2] for one in world.destination.seen("PUT", "/manifests/")]
    inner, other = NESTED.children
    assert puts[-1] == "v1"
    assert set(puts[:-1]) == {inner.digest, other.digest, inner.children[0].digest}
    assert puts.index(inner.children[0].digest) < puts.index(inner.digest)
    order = [str(one) for one in world.destination.requests if one.method == "PUT"]
    for manifest in NESTED.all_manifests():
        put = next(place for place, one in enumerate(order) if one.endswith((manifest.digest, "/v1")))
        uploads = [place for place, one in enumerate(order) if "/uploads/" in one]
        assert not manifest.blobs or min(uploads) < put
    assert max(place for place, one in enumerate(order) if "/uploads/" in one) < order.index(order[-1])


def test_a_cold_copy_takes_no_more_requests_than_it_must(world: World) -> None:
    index = images.index()
    world.push(index, "v1")
    with world.engine(world.rule("v1")) as engine:
        plan = engine.plan()
        world.forget()
        engine.copy(plan, engine.config.rules)
    blobs = len(list(index.all_blobs()))
    assert kinds(world.source) == Counter({"GET manifest": 3, "GET blob": blobs})
    found = kinds(world.destination)
    assert found == Counter(
        {
            "HEAD manifest": 3,
            "HEAD blob": blobs,
            "POST upload": blobs,
            "PUT upload": blobs,
            "PUT manifest": 3,
        }
    )


def test_one_digest_under_many_tags_is_descended_into_once(world: World) -> None:
    tags = [f"v{number}" for number in range(20)]
    index = world.push(images.index(), *tags)
    report = world.run(world.rule())
    assert report.totals["copied"] == 20
    assert {one.digest for one in report.images} == {index.digest}
    found = kinds(world.destination)
    blobs = list(index.all_blobs())
    assert (found["PUT upload"], found["PUT manifest"]) == (len(blobs), 2 + 20)
    assert sum(one.bytes_copied for one in report.images) == sum(blob.size for blob in blobs)
    assert {world.digest(tag) for tag in tags} == {index.digest}


def test_layers_that_images_share_are_sent_once(world: World) -> None:
    shared = [images.layer(20_000, f"shared {number}") for number in range(3)]
    for number in range(10):
        world.push(images.image([*shared, images.layer(2000, number)]), f"v{number}")
    report = world.run(world.rule())
    assert report.totals["copied"] == 10
    unique = {blob.digest: blob.size for blob in shared}
    copied = sum(one.bytes_copied for one in report.images)
    configs_and_own = copied - sum(unique.values())
    assert kinds(world.destination)["PUT upload"] == 3 + 20
    assert copied + sum(one.bytes_skipped for one in report.images) == sum(
        blob.size for number in range(10) for blob in images.image([*shared, images.layer(2000, number)]).blobs
    )
    assert configs_and_own > 0


def test_layers_that_repositories_share_are_sent_once_and_mounted(world: World) -> None:
    shared = images.layer(20_000, "shared")
    for number in range(6):
        world.push(images.image([shared, images.layer(2000, number)]), "v1", name=f"app{number}")
    report = world.run(*(world.rule("v1", name=f"app{number}") for number in range(6)))
    assert report.totals["copied"] == 6
    assert report.totals["bytes_mounted"] == 5 * shared.size
    sent = [one.target for one in world.destination.seen("PUT", "/uploads/") if shared.digest in one.target]
    assert len(sent) == 1


# What need not be done


def test_a_manifest_that_the_destination_has_is_not_descended_into(world: World) -> None:
    index = images.index()
    world.push(index, "v1")
    world.push(index, "other", front=world.destination)
    result = world.one(world.rule("v1"))
    assert (result.state, result.bytes_copied) == ("copied", 0)
    found = kinds(world.destination)
    assert (found["HEAD blob"], found["POST upload"], found["PUT manifest"]) == (0, 0, 1)
    assert world.digest("v1") == index.digest


def test_a_child_that_the_destination_has_is_not_descended_into(world: World) -> None:
    index = images.index()
    world.push(index, "v1")
    world.push(index.children[0], front=world.destination)
    result = world.one(world.rule("v1"))
    assert result.bytes_copied == sum(blob.size for blob in index.children[1].blobs)
    assert kinds(world.source)["GET manifest"] == 1 + 1


def test_what_is_the_same_is_left_alone(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(images.index(), "v1", front=front)
    result = world.one(world.rule("v1"))
    assert (result.state, result.bytes_copied, result.bytes_skipped) == ("same", 0, 0)
    assert set(kinds(world.destination)) == {"HEAD manifest"}


def test_force_writes_what_is_the_same_again(world: World) -> None:
    image = images.image()
    for front in (world.source, world.destination):
        world.push(image, "v1", front=front)
    result = world.one(world.rule("v1", force=True))
    assert (result.state, result.digest) == ("copied", image.digest)
    assert result.bytes_skipped == sum(blob.size for blob in image.blobs)
    assert kinds(world.destination)["PUT manifest"] == 1


# Digests, filters, moved tags


@pytest.mark.parametrize("to_tags", [("stable",), None], ids=["with-a-tag", "by-digest-only"])
def test_a_digest_is_copied(world: World, to_tags: tuple[str, ...] | None) -> None:
    index = world.push(images.index())
    result = world.one(world.rule(select=ByDigest(index.digest), to_tags=to_tags))
    assert (result.state, result.digest) == ("copied", index.digest)
    path = f"{world.prefix}/app"
    assert world.client().get_manifest(path, index.digest).body == index.body
    last = world.destination.seen("PUT", "/manifests/")[-1]
    assert last.path.rpartition("/")[2] == (to_tags[0] if to_tags else index.digest)


def test_a_filtered_index_arrives_with_what_the_filter_left(world: World, skopeo: Skopeo, tmp_path: Path) -> None:
    index = world.push(
        images.index([*images.index().children, images.image(platform="linux/s390x")], attestations=True), "v1"
    )
    rule = world.rule("v1", platforms=["linux/arm64"])
    result = world.one(rule)
    assert result.state == "copied"
    assert (result.source_digest, result.digest) == (index.digest, world.digest("v1"))
    assert result.note == "the platform filter changes the digest"
    assert len(world.client().get_manifest(f"{world.prefix}/app", "v1").children) == 2
    skopeo.pull(world.reference("v1"), tmp_path / "pulled")
    assert world.one(rule).state == "same"


def test_a_filtered_index_within_an_index_arrives(world: World) -> None:
    inner = images.index([images.image(), images.image(platform="linux/arm64")])
    world.push(images.index([inner]), "v1")
    result = world.one(world.rule("v1", platforms=["linux/amd64"]))
    assert result.error is None
    (child,) = world.client().get_manifest(f"{world.prefix}/app", "v1").children
    (grandchild,) = world.client().get_manifest(f"{world.prefix}/app", child.digest).children
    assert grandchild.digest == images.image().digest


def test_a_filtered_index_can_not_be_pushed_under_the_sources_digest(world: World) -> None:
    index = world.push(images.index())
    result = world.one(world.rule(select=ByDigest(index.digest), platforms=["linux/amd64"]))
    assert result.state == "failed"
    assert "can't be pushed as" in (result.error or "")
    assert "give the destination a tag" in (result.error or "")


def test_what_a_source_tag_names_when_it_is_copied_is_copied(world: World) -> None:
    world.push(images.image([images.layer(2000, "planned")]), "v1")
    with world.engine(world.rule("v1")) as engine:
        plan = engine.plan()
        moved = world.push(images.image([images.layer(2000, "moved")]), "v1")
        (result,) = engine.copy(plan, engine.config.rules)
    assert (result.source_digest, result.digest, world.digest("v1")) == (moved.digest,) * 3


def test_a_source_tag_that_moved_to_what_the_destination_has_is_the_same(world: World) -> None:
    old = world.push(images.image([images.layer(2000, "old")]), "v1", front=world.destination)
    world.push(images.image([images.layer(2000, "new")]), "v1")
    with world.engine(world.rule("v1")) as engine:
        plan = engine.plan()
        world.push(old, "v1")
        (result,) = engine.copy(plan, engine.config.rules)
    assert (result.state, world.digest("v1")) == ("same", old.digest)


def test_a_plan_that_is_out_of_date_is_not_believed(world: World) -> None:
    old = world.push(images.image([images.layer(2000, "old")]), "v1", front=world.destination)
    world.push(images.image([images.layer(2000, "new")]), "v1")
    with world.engine(world.rule("v1")) as engine:
        plan = engine.plan()
        world.push(old, "v1")
        world.push(images.image([images.layer(2000, "somebody else's")]), "v1", front=world.destination)
        (result,) = engine.copy(plan, engine.config.rules)
    assert (result.state, world.digest("v1")) == ("copied", old.digest)


# Failures


def test_one_bad_image_does_not_stop_the_others(world: World) -> None:
    for number in range(6):
        world.push(images.image([images.layer(3000, number)]), f"v{number}")
    bad = images.image([images.layer(3000, 3)]).blobs[1]
    world.source.on("GET", bad.digest, answer(404, body=b'{"errors": [{"code": "BLOB_UNKNOWN", "message": "gone"}]}'))
    report = world.run(world.rule())
    assert [one.state for one in report.images] == ["copied"] * 3 + ["failed"] + ["copied"] * 2
    failed = report.images[3]
    assert f"GET {world.source.url}/v2/{world.prefix}/app/blobs/{bad.digest} answered 404 BLOB_UNKNOWN" in (
        failed.error or ""
    )
    assert not failed.temporary
    assert [world.digest(f"v{number}") is None for number in range(6)] == [False] * 3 + [True] + [False] * 2


@pytest.mark.parametrize("part", [0, 1], ids=["configuration", "layer"])
def test_no_tag_and_no_manifest_is_written_for_an_image_that_lacks_a_part(world: World, part: int) -> None:
    index = world.push(images.index(), "v1")
    missing = index.children[1].blobs[part]
    world.source.on("GET", missing.digest, answer(404))
    result = world.one(world.rule("v1"))
    assert result.state == "failed"
    written = {one.path.rpartition("/")[2] for one in world.destination.seen("PUT", "/manifests/")}
    assert written <= {index.children[0].digest}
    assert world.digest("v1") is None


def test_a_tag_that_stood_before_stands_when_the_copy_fails(world: World) -> None:
    old = world.push(images.image([images.layer(2000, "old")]), "v1", front=world.destination)
    world.push(images.image([images.layer(2000, "new")]), "v1")
    world.destination.on("PUT", "/manifests/", answer(400))
    result = world.one(world.rule("v1"))
    assert (result.state, result.digest, world.digest("v1")) == ("failed", old.digest, old.digest)


def test_images_that_share_a_part_that_fails_all_fail_and_none_is_lost(world: World) -> None:
    shared = images.layer(3000, "shared")
    for number in range(12):
        world.push(images.image([shared, images.layer(2000, number)]), f"v{number}")
    world.source.on("GET", shared.digest, answer(404, after=0.05))
    report = world.run(world.rule())
    assert report.totals["failed"] == 12
    assert all("answered 404" in (one.error or "") for one in report.images)


def test_tags_of_one_digest_that_fails_all_fail_after_one_try(world: World) -> None:
    image = world.push(images.index(), *(f"v{number}" for number in range(12)))
    bad = image.children[0].blobs[1]
    world.source.on("GET", bad.digest, answer(404, after=0.1))
    report = world.run(world.rule())
    assert report.totals["failed"] == 12
    assert all("answered 404" in (one.error or "") for one in report.images)
    assert len(world.source.seen("GET", bad.digest)) <= 3


def test_followers_try_again_when_the_one_they_waited_for_fails_for_a_reason_of_its_own(world: World) -> None:
    # Both indexes need the same child. The first one's other child is broken.
    common = images.image([images.layer(30_000, "common")])
    broken = images.image([images.layer(3000, "broken")])
    world.push(images.index([common, broken]), "a")
    world.push(images.index([common]), "b")
    world.source.on("GET", broken.blobs[1].digest, answer(404))
    world.source.on("GET", common.digest, lambda exchange: exchange.stall(0.3) or exchange.pass_on(exchange.forward()))
    report = world.run(world.rule("a", "b"))
    assert [one.state for one in report.images] == ["failed", "copied"]
    assert world.digest("a") is None
    assert world.digest("b") == images.index([common]).digest


def test_a_tag_that_is_refused_does_not_spoil_other_tags_of_the_same_digest(world: World) -> None:
    world.push(images.image(), "v1", "v2", "v3")
    world.destination.on("PUT", "/manifests/v1$", answer(400, body=b'{"errors": [{"code": "TAG_INVALID"}]}'))
    report = world.run(world.rule())
    assert [one.state for one in report.images] == ["failed", "copied", "copied"]


def test_an_answer_to_the_tags_put_that_is_lost_is_no_failure(world: World) -> None:
    world.push(images.index(), "v1")
    world.destination.on("PUT", "/manifests/", lose_answer())
    assert world.one(world.rule("v1")).state == "copied"


def test_a_layer_that_breaks_off_is_resumed(world: World) -> None:
    layer = images.layer(2_000_000, "large")
    world.push(images.image([layer]), "v1")
    world.source.on("GET", layer.digest, cut_answer(1_800_000), times=1)
    result = world.one(world.rule("v1"))
    assert result.state == "copied"
    assert sum(one.sent for one in world.source.seen("GET", layer.digest)) <= 1.1 * layer.size + (1 << 20)


def test_a_child_of_another_size_than_its_index_says_is_refused(world: World) -> None:
    inner = images.image()
    index = images.index([inner])
    document = index.json
    document["manifests"][0]["size"] += 1
    world.push(BuiltManifest(index.media_type, images._json(document), children=index.children), "v1")
    result = world.one(world.rule("v1"))
    assert f"has {len(inner.body)} bytes where its index says {len(inner.body) + 1}" in (result.error or "")


def test_indexes_nested_deeper_than_anybody_does_are_refused(world: World) -> None:
    deep = images.image()
    for _ in range(9):
        deep = images.index([deep])
    world.push(deep, "v1")
    assert "nested deeper than 8 indexes" in (world.one(world.rule("v1")).error or "")


def test_a_registry_that_is_read_only_says_so(world: World) -> None:
    world.push(images.image(), "v1")
    body = b'{"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}'
    world.destination.on("POST", "", answer(405, body=body))
    result = world.one(world.rule("v1"))
    assert f"POST {world.destination.url}/v2/{world.prefix}/app/blobs/uploads/ answered 405 UNSUPPORTED" in (
        result.error or ""
    )


# How much at once


@pytest.fixture
def many(world: World) -> Iterator[SyncEngine]:
    for number in range(12):
        world.push(images.image([images.layer(40_000, (number, part)) for part in range(3)]), f"v{number}")
    world.forget()
    world.concurrency = 3
    with world.engine(world.rule()) as engine:
        yield engine


def test_no_more_transfers_are_under_way_than_allowed(world: World, many: SyncEngine) -> None:
    assert many.run().totals["copied"] == 12
    assert world.source.most <= 3
    assert world.destination.most <= 3


@pytest.mark.timeout(60)
@pytest.mark.parametrize("slots", [1, 2])
def test_no_more_requests_are_in_flight_to_a_registry_than_it_allows(world: World, slots: int) -> None:
    for number in range(6):
        world.push(
            images.index([images.image([images.layer(40_000, (number, part)) for part in range(3)])]), f"v{number}"
        )
    world.logins = {"source": {"max_concurrent": slots}, "destination": {"max_concurrent": 3}}
    world.concurrency = 8
    world.forget()
    assert world.run(world.rule()).totals["copied"] == 6
    assert world.source.most <= slots
    assert world.destination.most <= 3


@pytest.mark.timeout(60)
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_one_registry_on_both_sides_with_a_limit_does_not_lock_up(world: World, slots: int) -> None:
    for number in range(6):
        world.push(
            images.image([images.layer(40_000, (number, part)) for part in range(3)]),
            f"v{number}",
            name="from",
            front=world.destination,
        )
    world.destination.on("POST", "mount=", answer(405))
    world.logins = {"destination": {"max_concurrent": slots}}
    world.concurrency = 8
    report = world.run(world.rule(source=world.destination, name="from", to="to"))
    assert report.totals["copied"] == 6
    assert world.destination.most <= max(2, slots)


# Content that the destination loses


def losing(world: World, kind: str, *digests: str) -> Action:
    """Pass on, after the registry behind the front was made to lose what it has."""

    def act(exchange: Exchange) -> None:
        for digest in digests:
            connection = http.client.HTTPConnection(world.destination.upstream or "")
            connection.request("DELETE", f"/v2/{world.prefix}/app/{kind}/{digest}")
            assert connection.getresponse().status == 202
            connection.close()
        pass_through(exchange)

    return act


def unknown(*digests: str) -> bytes:
    errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": digest}} for digest in digests]
    return json.dumps({"errors": errors or [{"code": "MANIFEST_BLOB_UNKNOWN"}]}).encode()


def test_a_layer_that_the_destination_lost_is_sent_again(world: World, skopeo: Skopeo, tmp_path: Path) -> None:
    layers = [images.layer(5000), images.layer(6000)]
    image = world.push(images.image(layers), "v1")
    world.destination.on("PUT", "/manifests/", losing(world, "blobs", layers[0].digest), times=1)
    result = world.one(world.rule("v1"))
    assert (result.state, result.error) == ("copied", None)
    assert world.digest("v1") == image.digest
    skopeo.pull(world.reference("v1"), tmp_path)
    # The layer that was lost twice, all else once.
    assert kinds(world.destination)["PUT upload"] == 3 + 1
    assert result.bytes_copied == sum(blob.size for blob in image.blobs) + layers[0].size
    assert result.bytes_skipped == 0


def test_a_manifest_below_an_index_that_the_destination_lost_is_put_again(world: World) -> None:
    children = [images.image([images.layer(5000)]), images.image([images.layer(6000)], platform="linux/arm64")]
    index = world.push(images.index(children), "v1")
    world.destination.on("PUT", "/manifests/v1", losing(world, "manifests", children[1].digest), times=1)
    result = world.one(world.rule("v1"))
    assert (result.state, result.error) == ("copied", None)
    assert world.digest("v1") == index.digest
    # Nothing is believed the second time; but what is there is not sent again.
    assert kinds(world.destination)["PUT upload"] == 4
    assert kinds(world.destination)["PUT manifest"] == 2 + (world.retries + 1) + 1 + 1


@pytest.mark.parametrize("named", [True, False], ids=["named", "not-named"])
def test_a_registry_that_never_finds_what_it_was_sent_is_given_up(world: World, named: bool) -> None:
    layer = images.layer(5000)
    image = world.push(images.image([layer]), "v1")
    body = unknown(layer.digest) if named else unknown()
    world.destination.on("PUT", "/manifests/", answer(400, body=body))
    result = world.one(world.rule("v1"))
    assert result.state == "failed"
    assert result.temporary
    assert result.error is not None
    assert "answered 400 MANIFEST_BLOB_UNKNOWN" in result.error
    everything = [blob.digest for blob in image.blobs]
    missing = layer.digest if named else ", ".join(everything)
    assert f"it was sent {missing} and does not find it" in result.error
    # As often as one request is tried, twice.
    assert kinds(world.destination)["PUT manifest"] == 2 * (world.retries + 1)
    asked = [one.path.rpartition("/")[2] for one in world.destination.seen("HEAD", "/blobs/")]
    assert Counter(asked) == Counter(everything + ([layer.digest] if named else everything))
    assert kinds(world.destination)["POST upload"] == 2
    assert world.digest("v1") is None


# Broken connections, counted


def test_a_layer_that_breaks_near_its_end_is_not_read_twice(world: World) -> None:
    layer = images.layer(8 * 1024 * 1024, "breaks")
    world.push(images.image([layer]), "v1")
    world.source.on("GET", layer.digest, cut_answer(at=layer.size * 9 // 10), times=1)
    result = world.one(world.rule("v1"))
    assert (result.state, result.error) == ("copied", None)
    reads = world.source.seen("GET", layer.digest)
    assert len(reads) == 2
    assert sum(one.sent for one in reads) - layer.size <= layer.size // 10 + 1024 * 1024
    assert len(world.destination.seen("POST")) == 2


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_layer_is_begun_again_as_often_as_the_retry_limit_says(world: World, retries: int) -> None:
    world.retries = retries
    layer = images.layer(1024 * 1024, "restarts")
    image = world.push(images.image([layer]), "v1")
    world.destination.on("PUT", layer.digest, cut_upload(at=700_000))
    result = world.one(world.rule("v1"))
    assert result.state == "failed"
    assert result.temporary
    # One for the config.
    assert len(world.destination.seen("POST")) == (len(image.blobs) - 1) + 1 + retries
    assert sum(one.sent for one in world.source.seen("GET", layer.digest)) <= (1 + retries) * layer.size
