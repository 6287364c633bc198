from __future__ import annotations

import json
from collections import Counter

import pytest

from airflow_imagesync.domain.manifest import Manifest
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.engine.selection import Selected, select_platforms
from airflow_imagesync.errors import ContentError, DigestMismatch, UnsupportedContent
from devtools import images
from devtools.images import BuiltManifest
from tests.support.clients import client_for
from tests.support.faults import corrupt
from tests.support.world import World, kinds

AMD64, ARM64 = images.image(platform="linux/amd64"), images.image(platform="linux/arm64")
ARM_V6, ARM_V7 = images.image(platform="linux/arm/v6"), images.image(platform="linux/arm/v7")
WINDOWS = images.image(platform="windows/amd64")
TEXT = images.artifact("application/x.sbom", [images.Blob(b"text", media_type="text/plain")])


def select(world: World, built: BuiltManifest, *platforms: str) -> Selected:
    """Push to the source, and select through its front."""
    world.push(built, "v1")
    client, path = client_for(world.source), f"{world.prefix}/app"
    root = client.get_manifest(path, built.digest)
    world.source.forget()
    return select_platforms(client, path, root, [Platform.parse(one) for one in platforms])


def children(manifest: Manifest) -> list[str]:
    return [child.digest for child in manifest.children]


def test_without_a_filter_everything_stays_and_nothing_is_fetched(world: World) -> None:
    index = images.index(attestations=True)
    assert select(world, index).root.body == index.body
    assert world.source.requests == []


def test_a_filter_that_leaves_everything_changes_no_byte(world: World) -> None:
    index = images.index(attestations=True)
    assert select(world, index, "linux/amd64", "linux/arm64").root.body == index.body


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["linux/amd64"], [AMD64]),
        (["linux/arm64"], [ARM64]),
        (["linux/arm64/v8"], [ARM64]),
        (["linux/arm"], [ARM_V6, ARM_V7]),
        (["linux/arm/v7"], [ARM_V7]),
        (["windows/amd64", "linux/amd64"], [AMD64, WINDOWS]),
        (["linux/s390x", "linux/amd64"], [AMD64]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value[0], str) else "",
)
def test_children_that_match_stay_in_the_sources_order(
    world: World, wanted: list[str], expected: list[BuiltManifest]
) -> None:
    index = images.index([AMD64, ARM_V6, ARM_V7, ARM64, WINDOWS])
    selected = select(world, index, *wanted)
    assert children(selected.root) == [one.digest for one in expected]
    assert world.source.requests == []


def test_an_attestation_goes_with_the_image_it_is_about(world: World) -> None:
    index = images.index([AMD64, ARM64], attestations=True)
    selected = select(world, index, "linux/arm64")
    assert children(selected.root) == [ARM64.digest, images.attestation(ARM64).digest]


def test_an_attestation_of_something_that_is_not_in_the_index_stays(world: World) -> None:
    attestation = images.attestation(WINDOWS)
    assert children(select(world, images.index([AMD64, ARM64, attestation]), "linux/amd64").root) == [
        AMD64.digest,
        attestation.digest,
    ]


def test_artifacts_without_a_platform_stay(world: World) -> None:
    index = images.index([AMD64, ARM64, TEXT])
    assert children(select(world, index, "linux/amd64").root) == [AMD64.digest, TEXT.digest]


def test_an_index_of_artifacts_alone_stays_whole(world: World) -> None:
    index = images.index([TEXT])
    assert select(world, index, "linux/amd64").root.body == index.body


def without_platform(*built: BuiltManifest) -> BuiltManifest:
    """An index that does not say for which platforms its images are."""
    index = images.index(built)
    document = index.json
    for entry in document["manifests"]:
        entry.pop("platform", None)
    return BuiltManifest(index.media_type, json.dumps(document).encode(), children=index.children)


def test_a_child_without_a_platform_is_judged_by_its_configuration(world: World) -> None:
    selected = select(world, without_platform(AMD64, ARM64), "linux/arm64")
    assert children(selected.root) == [ARM64.digest]
    assert kinds(world.source) == Counter({"GET manifest": 2, "GET blob": 2})


def test_an_index_within_an_index_is_filtered_too(world: World) -> None:
    inner = images.index([AMD64, ARM64])
    selected = select(world, images.index([inner, WINDOWS]), "linux/amd64")
    (child,) = children(selected.root)
    assert child != inner.digest
    assert children(selected.rewritten[child]) == [AMD64.digest]


def test_an_index_within_an_index_that_has_nothing_is_dropped(world: World) -> None:
    selected = select(world, images.index([images.index([ARM64]), AMD64]), "linux/amd64")
    assert children(selected.root) == [AMD64.digest]
    assert selected.rewritten == {}


def test_the_same_child_twice_stays_twice(world: World) -> None:
    selected = select(world, images.index([AMD64, ARM64, AMD64]), "linux/amd64")
    assert children(selected.root) == [AMD64.digest] * 2


def test_all_that_is_said_of_the_index_stays(world: World) -> None:
    index = images.index([AMD64, ARM64], annotations={"org.example": "x"})
    document = json.loads(select(world, index, "linux/amd64").root.body)
    assert document == {**index.json, "manifests": index.json["manifests"][:1]}


# Single images


def test_a_single_image_is_checked_by_its_configuration(world: World) -> None:
    assert select(world, ARM_V7, "linux/arm").root.body == ARM_V7.body
    assert kinds(world.source) == Counter({"GET blob": 1})
    with pytest.raises(UnsupportedContent, match="its platforms: linux/arm/v7"):
        select(world, ARM_V7, "linux/amd64")


def test_an_artifact_has_no_platform_to_check(world: World) -> None:
    assert select(world, TEXT, "linux/amd64").root.body == TEXT.body
    assert world.source.requests == []


def test_a_configuration_without_a_platform_passes(world: World) -> None:
    config = images.Blob(b"{}", media_type=images.OCI_CONFIG)
    assert select(world, images.image([], config=config), "linux/amd64")


# What is refused


@pytest.mark.parametrize(
    ("built", "platforms"),
    [
        (AMD64, "linux/amd64"),
        (images.index([AMD64, ARM64]), "linux/amd64, linux/arm64"),
        (images.index([AMD64, ARM64], attestations=True), "linux/amd64, linux/arm64"),
        (images.index([AMD64, TEXT]), "linux/amd64"),
        (images.index([images.index([AMD64])]), "linux/amd64"),
    ],
    ids=["single", "index", "with-attestations", "with-an-artifact", "nested"],
)
def test_nothing_that_matches_is_a_failure_that_names_what_there_is(
    world: World, built: BuiltManifest, platforms: str
) -> None:
    with pytest.raises(UnsupportedContent) as caught:
        select(world, built, "windows/arm64", "plan9/386")
    assert str(caught.value) == (
        f"{world.source.host}/{world.prefix}/app@{built.digest} has nothing for windows/arm64, plan9/386; "
        f"its platforms: {platforms}"
    )


def test_indexes_nested_deeper_than_anybody_does_are_refused(world: World) -> None:
    deep = AMD64
    for _ in range(9):
        deep = images.index([deep])
    with pytest.raises(ContentError, match="nested deeper than 8 indexes"):
        select(world, deep, "linux/amd64")


def test_a_configuration_is_verified_before_it_is_believed(world: World) -> None:
    world.push(AMD64, "v1")
    client, path = client_for(world.source), f"{world.prefix}/app"
    root = client.get_manifest(path, "v1")
    world.source.on("GET", "/blobs/", corrupt(at=5))
    with pytest.raises(DigestMismatch):
        select_platforms(client, path, root, [Platform.parse("linux/amd64")])
