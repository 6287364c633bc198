from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_imagesync.domain.manifest import (
    ACCEPT,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_CHILDREN,
    MAX_MANIFEST_SIZE,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA1_SIGNED,
    parse_manifest,
    replace_children,
)
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.errors import ContentError, UnsupportedContent
from devtools import images

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": OTHER, "size": 3}
IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def index_of(*children: dict[str, Any]) -> bytes:
    return body({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)})


# Reading


@pytest.mark.parametrize(
    ("built", "media_type"),
    [
        (images.image(), OCI_MANIFEST),
        (images.image(docker=True), DOCKER_MANIFEST),
        (images.index(), OCI_INDEX),
        (images.index(docker=True), DOCKER_LIST),
    ],
    ids=["oci", "docker", "index", "list"],
)
def test_a_manifest_is_kept_as_the_bytes_that_came(built: images.BuiltManifest, media_type: str) -> None:
    manifest = parse_manifest(built.body, content_type=media_type)
    assert (manifest.body, manifest.digest, manifest.size) == (built.body, built.digest, len(built.body))
    assert manifest.media_type == media_type
    assert manifest.is_index is bool(built.children)


def test_an_image_has_its_configuration_and_layers_each_once() -> None:
    manifest = parse_manifest(body({**IMAGE, "layers": [LAYER, LAYER, CONFIG]}))
    assert [blob.digest for blob in manifest.blobs] == [DIGEST, OTHER]
    assert manifest.config is not None
    assert manifest.config.digest == DIGEST


def test_layers_of_any_type_are_read() -> None:
    manifest = parse_manifest(body({**IMAGE, "layers": [{**LAYER, "mediaType": "text/vnd.anything; x=1"}]}))
    assert manifest.blobs[1].media_type == "text/vnd.anything; x=1"


def test_layers_that_live_elsewhere_are_left_out() -> None:
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": "sha256:" + "c" * 64,
        "size": 9,
        "urls": ["https://mcr.microsoft.com/v2/windows/blobs/x"],
    }
    manifest = parse_manifest(body({**IMAGE, "layers": [foreign, LAYER, {**LAYER, "urls": ["https://x"]}]}))
    assert [blob.digest for blob in manifest.blobs] == [DIGEST, OTHER]


def test_an_index_has_its_children_with_platforms_and_what_they_attest() -> None:
    manifest = parse_manifest(images.index(attestations=True).body)
    image, other, attestation, _ = manifest.children
    assert image.platform == Platform("linux", "amd64")
    assert other.platform == Platform("linux", "arm64")
    assert attestation.attests == image.digest
    assert image.attests is None


def test_entries_of_an_index_that_are_no_manifests_are_blobs() -> None:
    # BuildKit's registry cache is an index of layers and one configuration.
    cache = {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": DIGEST, "size": 5}
    manifest = parse_manifest(
        index_of({"mediaType": OCI_MANIFEST, "digest": OTHER, "size": 1}, LAYER | {"size": 7}, cache)
    )
    assert [child.is_manifest for child in manifest.children] == [True, False, False]
    assert [blob.digest for blob in manifest.blobs] == [OTHER, DIGEST]


def test_an_artifact_manifest_has_blobs_and_no_configuration() -> None:
    manifest = parse_manifest(body({"mediaType": OCI_ARTIFACT, "artifactType": "x/y", "blobs": [LAYER]}))
    assert (manifest.config, [blob.digest for blob in manifest.blobs]) == (None, [OTHER])
    assert parse_manifest(body({"mediaType": OCI_ARTIFACT, "artifactType": "x/y"})).blobs == ()


@pytest.mark.parametrize("empty", [[], None], ids=["list", "null"])
def test_no_layers_and_no_children_are_normal(empty: Any) -> None:
    assert len(parse_manifest(body({**IMAGE, "layers": empty})).blobs) == 1
    assert parse_manifest(body({"mediaType": OCI_INDEX, "manifests": empty})).children == ()


# Media types


@pytest.mark.parametrize(
    ("own", "header", "expected"),
    [
        (OCI_MANIFEST, OCI_MANIFEST, OCI_MANIFEST),
        (OCI_MANIFEST, f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST),
        (OCI_MANIFEST, None, OCI_MANIFEST),
        (OCI_MANIFEST, "application/json", OCI_MANIFEST),
        (None, OCI_MANIFEST, OCI_MANIFEST),
        (None, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (None, "application/octet-stream", OCI_MANIFEST),
        (None, None, OCI_MANIFEST),
    ],
)
def test_the_media_type_is_the_documents_own_or_the_headers(own: str | None, header: str | None, expected: str) -> None:
    document = {key: value for key, value in {**IMAGE, "mediaType": own}.items() if value is not None}
    assert parse_manifest(body(document), content_type=header).media_type == expected


def test_an_index_without_any_media_type_is_an_oci_index() -> None:
    assert parse_manifest(body({"schemaVersion": 2, "manifests": []})).media_type == OCI_INDEX


def test_every_type_is_asked_for() -> None:
    assert {OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, SCHEMA1_SIGNED} <= set(ACCEPT.split(", "))


# What is refused


@pytest.mark.parametrize("header", [SCHEMA1, SCHEMA1_SIGNED, OCI_MANIFEST, None])
def test_a_schema_1_manifest_is_refused_by_name(header: str | None) -> None:
    document = {"schemaVersion": 1, "name": "library/x", "tag": "v1", "fsLayers": [], "history": []}
    with pytest.raises(UnsupportedContent, match=r"is a Docker schema 1 manifest.*rebuild or re-push"):
        parse_manifest(body(document), content_type=header)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<html>", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        ([], "is not a JSON object"),
        ({}, "has no list of layers"),
        ({**IMAGE, "manifests": []}, "an index and an image at once"),
        ({"mediaType": OCI_INDEX, "manifests": [], "config": CONFIG}, "an index and an image at once"),
        ({"mediaType": OCI_INDEX, "layers": [LAYER]}, "has no list of manifests"),
        ({"mediaType": OCI_INDEX, "manifests": {}}, "has no list of manifests"),
        ({**IMAGE, "layers": {"0": LAYER}}, "has no list of layers"),
        ({**IMAGE, "layers": [7]}, r"layers\[0\] is not a descriptor object"),
        ({**IMAGE, "layers": [LAYER, {**LAYER, "digest": None}]}, r"layers\[1\] has no digest"),
        ({**IMAGE, "layers": [{**LAYER, "digest": "../../other/blobs/x"}]}, "is not a digest"),
        ({**IMAGE, "layers": [{**LAYER, "digest": DIGEST.upper()}]}, "is not a digest"),
        ({**IMAGE, "layers": [{**LAYER, "digest": "md5:" + "a" * 32}]}, "is not a digest"),
        ({**IMAGE, "layers": [{**LAYER, "size": -1}]}, "no valid size: -1"),
        ({**IMAGE, "layers": [{**LAYER, "size": "3"}]}, "no valid size: '3'"),
        ({**IMAGE, "layers": [{**LAYER, "size": 3.0}]}, "no valid size: 3.0"),
        ({**IMAGE, "layers": [{**LAYER, "size": True}]}, "no valid size: True"),
        ({**IMAGE, "layers": [{**LAYER, "size": 2**63}]}, "no valid size: 9223372036854775808"),
        ({**IMAGE, "layers": [{**LAYER, "mediaType": None}]}, "has no media type"),
        ({key: value for key, value in IMAGE.items() if key != "config"}, "has no config"),
        ({**IMAGE, "config": "x"}, "config is not a descriptor object"),
        ({**IMAGE, "layers": [LAYER] * (MAX_CHILDREN + 1)}, "has 1001 layers; at most 1000"),
        (b" " * (MAX_MANIFEST_SIZE + 1), "has 4194305 bytes; registries take at most 4194304"),
    ],
)
def test_a_document_that_the_specification_does_not_allow_is_refused(document: Any, words: str) -> None:
    with pytest.raises(ContentError, match=words):
        parse_manifest(document if isinstance(document, bytes) else body(document))


def test_a_type_that_is_no_manifest_is_refused() -> None:
    with pytest.raises(UnsupportedContent, match=r"has the media type .application/vnd.cncf.helm.config.v1\+json."):
        parse_manifest(body({**IMAGE, "mediaType": "application/vnd.cncf.helm.config.v1+json"}))


@pytest.mark.parametrize(
    "platform",
    [None, [], {}, {"os": 7}, {"os": "", "architecture": ""}],
    ids=["null", "list", "empty", "number", "blank"],
)
def test_a_platform_that_says_nothing_is_none(platform: Any) -> None:
    child = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1, "platform": platform}
    assert parse_manifest(index_of(child)).children[0].platform is None


# Rewriting


def test_an_index_that_does_not_change_keeps_its_bytes() -> None:
    index = parse_manifest(images.index().body)
    assert replace_children(index, {}) is index


def test_children_are_dropped_in_order_and_the_rest_stays() -> None:
    built = images.index(
        [images.image(platform=name) for name in ("linux/amd64", "linux/arm64", "linux/s390x")],
        annotations={"org.example": "caf\u00e9 \ud800"},
    )
    index = parse_manifest(built.body, content_type=OCI_INDEX)
    smaller = replace_children(index, {1: None})
    document = json.loads(smaller.body)
    assert document == {**built.json, "manifests": [built.json["manifests"][0], built.json["manifests"][2]]}
    assert list(document) == list(built.json)
    assert smaller.media_type == OCI_INDEX


def test_a_child_is_exchanged_with_all_else_that_is_said_of_it() -> None:
    inner = images.index()
    index = parse_manifest(images.index([images.image(), inner]).body)
    replaced = parse_manifest(images.index([images.image()]).body)
    (kept, changed) = json.loads(replace_children(index, {1: replaced}).body)["manifests"]
    assert kept == json.loads(index.body)["manifests"][0]
    assert changed == {**inner.descriptor(), "digest": replaced.digest, "size": replaced.size}


def test_a_rewritten_index_has_the_same_digest_in_every_release() -> None:
    # What is at a destination must not change because this package does.
    children = [
        {"mediaType": OCI_MANIFEST, "size": 1, "digest": DIGEST, "platform": {"os": "linux", "architecture": "amd64"}},
        {"mediaType": OCI_MANIFEST, "size": 2, "digest": OTHER, "platform": {"architecture": "arm64", "os": "linux"}},
    ]
    index = parse_manifest(index_of(*children))
    assert replace_children(index, {0: None}).body == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"' + OTHER.encode() + b'",'
        b'"platform":{"architecture":"arm64","os":"linux"}}]}'
    )
