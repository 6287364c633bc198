from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import requests

from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.skopeo import Skopeo

MiB = 1 << 20


@pytest.mark.parametrize("size", [0, 20_000, MiB, MiB + 1, 5 * MiB])
def test_a_layer_is_a_gzipped_tar_of_about_the_size_asked_for(size: int):
    layer = images.layer(size, "seed")
    assert abs(layer.size - size) < max(1600, size / 100)
    assert layer.digest == f"sha256:{hashlib.sha256(layer.data).hexdigest()}"
    unpacked = gzip.decompress(layer.data)
    assert layer.diff_id == f"sha256:{hashlib.sha256(unpacked).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        assert archive.getnames() == ["data-seed"]


def test_layers_differ_by_seed_and_size_only():
    assert images.layer(5000, 1).digest == images.layer(5000, 1).digest
    assert len({images.layer(size, seed).digest for size in (5000, 6000) for seed in range(3)}) == 6


CASES = {
    "image": images.image(),
    "docker-image": images.image(docker=True),
    "image-without-layers": images.image([]),
    "index": images.index([images.image(platform=name) for name in ("linux/amd64", "linux/arm/v7", "linux/arm64/v8")]),
    "index-with-attestations": images.index(attestations=True),
    "docker-list": images.index(docker=True),
    "nested-index": images.index([images.index(), images.image(platform="linux/s390x")]),
    "artifact": images.artifact("application/vnd.example.sbom", [images.Blob(b"{}", media_type="application/json")]),
    "artifact-with-subject": images.artifact("application/vnd.example.signature", [], images.image()),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_pushed_is_read_by_skopeo_byte_for_byte(
    name: str, source_registry: DistributionRegistry, repository_prefix: str, skopeo: Skopeo
):
    built = CASES[name]
    assert images.push(source_registry.url, repository_prefix, built, ["v1", "v2"]) == built.digest
    for tag in ("v1", "v2"):
        assert skopeo.raw(f"{source_registry.host}/{repository_prefix}:{tag}") == built.body


@pytest.mark.parametrize("name", ["image", "docker-image", "index", "index-with-attestations", "docker-list"])
def test_what_is_pushed_can_be_pulled(
    name: str, source_registry: DistributionRegistry, repository_prefix: str, skopeo: Skopeo, tmp_path: Path
):
    built = CASES[name]
    images.push(source_registry.url, repository_prefix, built, ["v1"])
    skopeo.pull(f"{source_registry.host}/{repository_prefix}:v1", tmp_path / "pulled")
    pulled = {path.name for path in (tmp_path / "pulled").iterdir()}
    assert {blob.digest.removeprefix("sha256:") for blob in built.all_blobs()} <= pulled


def test_platforms_are_described_in_the_index():
    described = CASES["index"].json["manifests"]
    assert [entry["platform"] for entry in described] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]


def test_attestations_name_the_image_they_belong_to():
    *pictures, first, second = CASES["index-with-attestations"].json["manifests"]
    for described, picture in zip((first, second), pictures, strict=True):
        assert described["platform"] == {"architecture": "unknown", "os": "unknown"}
        assert described["annotations"] == {
            "vnd.docker.reference.digest": picture["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        }


def test_a_manifest_without_tags_is_pushed_by_digest(
    source_registry: DistributionRegistry, repository_prefix: str, skopeo: Skopeo
):
    built = images.image()
    images.push(source_registry.url, repository_prefix, built)
    assert skopeo.raw(f"{source_registry.host}/{repository_prefix}@{built.digest}") == built.body
    listed = requests.get(f"{source_registry.url}/v2/{repository_prefix}/tags/list").json()
    assert not listed.get("tags")


def test_many_tags(source_registry: DistributionRegistry, repository_prefix: str):
    tags = images.push_many_tags(source_registry.url, repository_prefix, images.image())
    listed = requests.get(f"{source_registry.url}/v2/{repository_prefix}/tags/list").json()
    assert len(tags) == 250
    assert sorted(listed["tags"]) == tags


def test_a_login_is_used(htpasswd_registry: DistributionRegistry, repository_prefix: str):
    built = images.image()
    images.push(htpasswd_registry.url, repository_prefix, built, ["v1"], auth=(USER, PASSWORD))
    with pytest.raises(requests.HTTPError, match="401"):
        images.push(htpasswd_registry.url, repository_prefix, built, ["v1"])


def test_certificates_are_verified(tls_registry: DistributionRegistry, ca_file: Path, repository_prefix: str):
    images.push(tls_registry.url, repository_prefix, images.image(), ["v1"], verify=str(ca_file))
    with pytest.raises(requests.exceptions.SSLError):
        images.push(tls_registry.url, repository_prefix, images.image(), ["v1"])


def test_a_large_layer_is_pushed_piece_by_piece(source_registry: DistributionRegistry, repository_prefix: str):
    layer = images.layer(40 * MiB)
    largest = max(len(piece) for piece in layer.pieces())
    assert largest <= 2 * MiB
    images.push(source_registry.url, repository_prefix, images.image([layer]), ["v1"])
    stored = requests.head(f"{source_registry.url}/v2/{repository_prefix}/blobs/{layer.digest}")
    assert int(stored.headers["Content-Length"]) == layer.size
