from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_imagesync.domain.digest import digest_of, is_digest
from airflow_imagesync.domain.manifest import (
    DOCKER_LIST,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Manifest,
    load_document,
    parse_manifest,
    replace_children,
)
from airflow_imagesync.domain.platform import Platform, wanted
from airflow_imagesync.errors import ContentError
from tests.fuzz.strategies import DIGEST, fuzz, header, json_bodies, objects, values

TYPES = st.sampled_from([*sorted(MANIFEST_TYPES), SCHEMA1, "application/json", "text/html", ""])
digests = st.sampled_from([DIGEST, "sha512:" + "0" * 128, "sha256:../../x", DIGEST.upper()])
platforms = objects(
    {"os": st.sampled_from(["linux", "Windows", ""]), "architecture": st.sampled_from(["amd64", "arm64"])}
)
descriptors = objects(
    {
        "mediaType": TYPES,
        "digest": digests,
        "size": st.integers(0, 10**6),
        "platform": platforms,
        "annotations": st.just({"vnd.docker.reference.digest": DIGEST}),
        "urls": st.just(["https://evil.example/"]),
    }
)
good = st.fixed_dictionaries(
    {"mediaType": st.sampled_from(sorted(MANIFEST_TYPES)), "digest": st.just(DIGEST), "size": st.integers(0, 10**6)},
    optional={"platform": platforms, "annotations": st.just({"x": "y"})},
)
lists = st.lists(st.one_of(good, descriptors), max_size=4)
manifests = objects(
    {
        "schemaVersion": st.sampled_from([1, 2]),
        "mediaType": TYPES,
        "config": st.one_of(good, descriptors),
        "layers": lists,
        "manifests": lists,
        "blobs": lists,
        "subject": descriptors,
    }
)
images = st.fixed_dictionaries({"config": good, "layers": st.lists(good, max_size=4)}, optional={"mediaType": TYPES})
indexes = st.fixed_dictionaries(
    {"mediaType": st.sampled_from([OCI_INDEX, DOCKER_LIST]), "manifests": st.lists(good, max_size=5)}
)


def safe(error: ContentError) -> None:
    assert len(str(error)) < 1000
    assert str(error).isprintable()


def sound(manifest: Manifest) -> None:
    """What must hold for anything that is read as a manifest."""
    assert manifest.media_type in MANIFEST_TYPES
    for one in (*manifest.children, *manifest.blobs):
        assert is_digest(one.digest)
        assert 0 <= one.size < 2**63
    document = json.loads(manifest.body)
    assert not ("manifests" in document and ("layers" in document or "config" in document))
    assert manifest.is_index == (manifest.media_type in (OCI_INDEX, DOCKER_LIST))


@fuzz(250)
@given(json_bodies(st.one_of(manifests, images, indexes, values)), st.one_of(st.none(), TYPES, header("a/b", ";")))
@example(b'{"mediaType": [], "layers": []}', None)
@example(b'{"schemaVersion": 2, "mediaType": {"a": 1}}', OCI_MANIFEST)
def test_any_body_is_a_manifest_or_a_content_error(body: bytes, content_type: str | None) -> None:
    try:
        manifest = parse_manifest(body, content_type=content_type)
    except ContentError as error:
        safe(error)
    else:
        assert manifest.body == body
        assert manifest.digest == digest_of(body)
        sound(manifest)


@fuzz(80)
@given(indexes, st.data())
def test_an_index_keeps_what_is_not_dropped_or_exchanged(document: dict[str, Any], data: st.DataObject) -> None:
    index = parse_manifest(json.dumps(document, indent=1).encode())
    image = (
        parse_manifest(json.dumps({"config": document["manifests"][0], "layers": []}).encode())
        if (document["manifests"])
        else None
    )
    positions = st.integers(0, max(0, len(index.children) - 1))
    changes = data.draw(st.dictionaries(positions, st.sampled_from([None, image]))) if index.children else {}
    changed = replace_children(index, changes)
    sound(changed)
    assert (changed is index) == (not changes)
    expected = [
        (changes[position].digest if position in changes else child.digest)  # type: ignore[union-attr]
        for position, child in enumerate(index.children)
        if changes.get(position, index) is not None
    ]
    assert [one.digest for one in changed.children] == expected
    assert replace_children(index, changes).body == changed.body


@fuzz(100)
@given(json_bodies(st.one_of(platforms, values)))
@example(b'{"os": "\\ud800", "architecture": 7}')
def test_any_configuration_has_a_platform_or_none(body: bytes) -> None:
    try:
        platform = Platform.of_descriptor(load_document(body, "the configuration"))
    except ContentError as error:
        safe(error)
        return
    if platform is not None:
        wanted([Platform("linux", "amd64"), Platform.parse("linux/arm64/v8")], platform)
        assert isinstance(str(platform), str)


def test_the_oci_artifact_manifest_is_among_what_is_tried() -> None:
    assert OCI_ARTIFACT in MANIFEST_TYPES
