"""Manifests and indexes: reading them, and what they refer to.

OCI image spec 1.1 (manifest.md, image-index.md, descriptor.md) and Docker's "Image Manifest Version 2,
Schema 2". A manifest is always kept as the bytes that came, because its digest is the digest of those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.digest import check_digest, digest_of
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import quoted
from airflow_imagesync.errors import ContentError, InvalidReference, UnsupportedContent

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})
MANIFEST_TYPES = INDEX_TYPES | IMAGE_TYPES
SCHEMA1_TYPES = frozenset({SCHEMA1, SCHEMA1_SIGNED})
#: Configurations that name the platform an image runs on.
IMAGE_CONFIG_TYPES = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
#: Every type a registry may answer with, in one header: without the OCI types distribution answers 404 for
#: an OCI image, and without the list types it silently sends one child instead of the list.
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT, SCHEMA1_SIGNED, SCHEMA1))

#: Larger manifests are refused: 4 MiB is what distribution accepts (distribution spec, "Pushing Manifests").
MAX_MANIFEST_SIZE = 4 * 1024 * 1024
#: How deep indexes may be nested, and how many children one may have.
MAX_DEPTH = 8
MAX_CHILDREN = 1000
#: More can't be the length of a body.
_MAX_SIZE = 2**63 - 1

ATTESTATION_OF = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What refers to content: media type, digest, size in bytes, and for an index's children the platform.

    ``attests`` is the digest of the image that an attestation child belongs to, or None.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    attests: str | None = None
    foreign: bool = False

    @property
    def is_manifest(self) -> bool:
        """Whether this refers to a manifest or index, and not to a blob (BuildKit's caches are indexes of blobs)."""
        return self.media_type in MANIFEST_TYPES or self.media_type in SCHEMA1_TYPES

    @classmethod
    def parse(cls, document: object, where: str) -> Descriptor:
        """Return the descriptor that a manifest's JSON holds; `where` names its place in the message.

        Raises ContentError.
        """
        if not isinstance(document, Mapping):
            raise ContentError(f"{where} is not a descriptor object")
        media_type, digest, size = document.get("mediaType"), document.get("digest"), document.get("size")
        if not isinstance(digest, str):
            raise ContentError(f"{where} has no digest")
        try:
            check_digest(digest)
        except InvalidReference as error:
            raise ContentError(f"{where}: {error}") from error
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
            raise ContentError(f"{where} has no valid size: {_shown(size)}")
        if not isinstance(media_type, str):
            raise ContentError(f"{where} has no media type")
        platform = document.get("platform")
        annotations = document.get("annotations")
        attests = annotations.get(ATTESTATION_OF) if isinstance(annotations, Mapping) else None
        urls = document.get("urls")
        return cls(
            media_type,
            digest,
            size,
            platform=Platform.of_descriptor(platform) if isinstance(platform, Mapping) else None,
            attests=attests if isinstance(attests, str) else None,
            foreign=bool(urls) and ("foreign" in media_type or "nondistributable" in media_type),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index: its bytes and what they refer to.

    ``children`` are an index's entries in its order; ``blobs`` an image's config and layers, or those entries of
    an index that are no manifests, each digest once, without those that are fetched from foreign URLs. ``config`` is
    the image's configuration, None for an index and for the OCI artifact manifest.
    """

    media_type: str
    digest: str
    body: bytes
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None

    @property
    def is_index(self) -> bool:
        """Whether this is an OCI index or a Docker manifest list."""
        return self.media_type in INDEX_TYPES

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.body)


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else f"a {type(value).__name__}"


def load_document(body: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object that `body` holds; raise ContentError when it holds none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{where} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContentError(f"{where} is not a JSON object")
    return document


def _media_type(document: Mapping[str, Any], content_type: str | None, where: str) -> str:
    """Return the media type of a manifest; the body's own and the header's must agree where both are known."""
    header = (content_type or "").partition(";")[0].strip().lower()
    own = document.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise ContentError(f"{where} has a mediaType that is not text")
    if document.get("schemaVersion") == 1 or header in SCHEMA1_TYPES or own in SCHEMA1_TYPES:
        raise UnsupportedContent(
            f"{where} is a Docker schema 1 manifest, which current registries no longer take; "
            "rebuild or re-push the image with a current tool"
        )
    if own and header in MANIFEST_TYPES and own != header:
        raise ContentError(f"{where} says it is {quoted(own)} but was served as {header}")
    if own or header in MANIFEST_TYPES:
        return own or header
    # Old OCI manifests have no mediaType, and some registries serve them as plain JSON.
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def parse_manifest(body: bytes, *, content_type: str | None = None, digest: str | None = None) -> Manifest:
    """Return the manifest that `body` is.

    `content_type` is the header it was served with. `digest` is the digest it was verified against; None
    to compute the sha256 of it. Raises UnsupportedContent for a schema 1 manifest and for media types that are not
    manifests, ContentError for a document that the specification does not allow.
    """
    digest = digest or digest_of(body)
    where = f"manifest {digest}"
    if len(body) > MAX_MANIFEST_SIZE:
        raise ContentError(f"{where} has {len(body)} bytes; registries take at most {MAX_MANIFEST_SIZE}")
    document = load_document(body, where)
    media_type = _media_type(document, content_type, where)
    if "manifests" in document and ("layers" in document or "config" in document):
        # One document must not be read as an index by one program and as an image by another (CVE-2021-41190).
        raise ContentError(f"{where} is an index and an image at once")
    if media_type in INDEX_TYPES:
        children = _descriptors(document, "manifests", where)
        blobs = {child.digest: child for child in children if not child.is_manifest}
        return Manifest(media_type, digest, body, children=children, blobs=tuple(blobs.values()))
    if media_type in IMAGE_TYPES:
        key = "blobs" if media_type == OCI_ARTIFACT else "layers"
        layers = _descriptors(document, key, where)
        config = Descriptor.parse(document["config"], f"{where}: config") if "config" in document else None
        if config is None and media_type != OCI_ARTIFACT:
            raise ContentError(f"{where} has no config")
        parts = (config, *layers) if config is not None else layers
        blobs = {part.digest: part for part in parts if not part.foreign}
        return Manifest(media_type, digest, body, blobs=tuple(blobs.values()), config=config)
    raise UnsupportedContent(f"{where} has the media type {quoted(media_type)}, which is no known manifest or index")


def _descriptors(document: Mapping[str, Any], key: str, where: str) -> tuple[Descriptor, ...]:
    entries = document.get(key, [] if key == "blobs" else None)
    if entries is None and key in document:
        entries = []  # Go writes an empty list as null
    if not isinstance(entries, list):
        raise ContentError(f"{where} has no list of {key}")
    if len(entries) > MAX_CHILDREN:
        raise ContentError(f"{where} has {len(entries)} {key}; at most {MAX_CHILDREN} are read")
    return tuple(Descriptor.parse(entry, f"{where}: {key}[{i}]") for i, entry in enumerate(entries))


def replace_children(index: Manifest, replacements: Mapping[int, Manifest | None]) -> Manifest:
    """Return `index` with the children at the positions in `replacements` dropped (None) or exchanged.

    Order and everything else of the document stay; the result is compact JSON with the keys in the
    source's order, so that the same filter gives the same digest in every release. An index that would
    not change is returned as it is, byte for byte.
    """
    if not replacements:
        return index
    document = json.loads(index.body)
    entries: list[dict[str, Any]] = []
    for position, entry in enumerate(document["manifests"]):
        new = replacements.get(position, index)
        if new is not None:
            entries.append(entry if new is index else {**entry, "digest": new.digest, "size": new.size})
    document["manifests"] = entries
    body = json.dumps(document, separators=(",", ":")).encode()
    return parse_manifest(body, content_type=index.media_type)
