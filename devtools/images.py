"""Builds images, the same ones every time, and pushes them.

On purpose without the package's own code, which these images help to judge.
"""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"

_PIECE = 1 << 20
_TAR_BLOCK = 512
_TAR_TRAILER = 2 * _TAR_BLOCK

#: Anything that ``requests`` takes as auth.
Auth = tuple[str, str] | AuthBase | None


class Blob:
    """Content that is known by its digest: bytes, or a function that yields them anew each time.

    The second form keeps a blob of any size out of memory.
    """

    def __init__(
        self,
        content: bytes | Callable[[], Iterable[bytes]],
        *,
        media_type: str = OCI_LAYER,
        diff_id: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._content = content
        self.media_type = media_type
        self.annotations = annotations
        digest = hashlib.sha256()
        size = 0
        for piece in self.pieces():
            digest.update(piece)
            size += len(piece)
        self.digest = f"sha256:{digest.hexdigest()}"
        self.size = size
        #: The digest of the uncompressed content, which an image's config lists for its layers.
        self.diff_id = diff_id or self.digest

    def pieces(self) -> Iterator[bytes]:
        """Yield the content from its start."""
        if isinstance(self._content, bytes):
            yield self._content
        else:
            yield from self._content()

    @property
    def data(self) -> bytes:
        """The whole content."""
        return b"".join(self.pieces())

    def descriptor(self) -> dict[str, Any]:
        """Return what a manifest says of this blob."""
        described: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            described["annotations"] = dict(self.annotations)
        return described


@dataclass(frozen=True)
class BuiltManifest:
    """A manifest as the bytes that will be pushed, with all that it needs in the same repository."""

    media_type: str
    body: bytes
    blobs: tuple[Blob, ...] = ()
    children: tuple[BuiltManifest, ...] = ()
    platform: str | None = None
    #: Annotations that an index gives to its descriptor of this manifest.
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the body."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def descriptor(self) -> dict[str, Any]:
        """Return what an index, or a subject, says of this manifest."""
        described: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.body),
        }
        if self.annotations:
            described["annotations"] = dict(self.annotations)
        if self.platform is not None:
            described["platform"] = _platform_fields(self.platform)
        return described

    def all_manifests(self) -> Iterator[BuiltManifest]:
        """Yield this manifest and everything below it, children before parents."""
        for child in self.children:
            yield from child.all_manifests()
        yield self

    def all_blobs(self) -> Iterator[Blob]:
        """Yield the blobs of all manifests, each digest once."""
        seen = set()
        for manifest in self.all_manifests():
            for blob in manifest.blobs:
                if blob.digest not in seen:
                    seen.add(blob.digest)
                    yield blob


def layer(size: int, seed: object = 0, *, docker: bool = False) -> Blob:
    """Return a real layer: a gzipped tar with one file of random content, about ``size`` bytes in all.

    The same size and seed give the same layer. Large ones cost time but no memory.
    """
    # What tar and gzip add; the rest is incompressible and stored as it is.
    content_size = max(0, size - _TAR_BLOCK - _TAR_TRAILER - 64)

    def uncompressed() -> Iterator[bytes]:
        # One random piece, told apart by a counter, is as good as random data throughout and far cheaper.
        random_piece = random.Random(f"{seed}/{size}").randbytes(min(_PIECE, content_size))
        header = tarfile.TarInfo(f"data-{seed}")
        header.size = content_size
        yield header.tobuf(tarfile.USTAR_FORMAT)
        for number, start in enumerate(range(0, content_size, _PIECE)):
            marked = number.to_bytes(8, "big") + random_piece[8:]
            yield marked[: content_size - start]
        yield bytes(-content_size % _TAR_BLOCK + _TAR_TRAILER)

    def compressed() -> Iterator[bytes]:
        gzip = zlib.compressobj(level=0, wbits=zlib.MAX_WBITS | 16)  # 16: a gzip header, without time or name
        for piece in uncompressed():
            yield gzip.compress(piece)
        yield gzip.flush()

    diff_id = hashlib.sha256()
    for piece in uncompressed():
        diff_id.update(piece)
    content = b"".join(compressed()) if size <= _PIECE else compressed
    return Blob(
        content,
        media_type=DOCKER_LAYER if docker else OCI_LAYER,
        diff_id=f"sha256:{diff_id.hexdigest()}",
    )


def image(
    layers: Sequence[Blob] | None = None,
    platform: str = "linux/amd64",
    *,
    docker: bool = False,
    config: Mapping[str, Any] | Blob | None = None,
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """Return an image for one platform, ``os/architecture[/variant]``.

    Without layers it gets a small one of its own. ``config`` is the whole config as a blob, or fields to add
    to the usual one.
    """
    if layers is None:
        layers = [layer(2000, platform, docker=docker)]
    if not isinstance(config, Blob):
        fields = {
            **_platform_fields(platform),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]},
            "history": [{"created_by": "devtools"} for _ in layers],
            **(config or {}),
        }
        config = Blob(_json(fields), media_type=DOCKER_CONFIG if docker else OCI_CONFIG)
    fields = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    return BuiltManifest(fields["mediaType"], _json(fields), (config, *layers), platform=platform)


def index(
    children: Sequence[BuiltManifest] | None = None,
    *,
    attestations: bool = False,
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """Return an OCI index, or a Docker list, of images, artifacts or further indexes, in the order given.

    Without children it gets an image for amd64 and one for arm64. With ``attestations`` each image for a
    platform has one at the end of the index, as Buildx writes them.
    """
    if children is None:
        children = [image(platform=name, docker=docker) for name in ("linux/amd64", "linux/arm64")]
    children = list(children)
    if attestations:
        children += [attestation(child) for child in list(children) if child.platform is not None]
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST if docker else OCI_INDEX,
        "manifests": [child.descriptor() for child in children],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    return BuiltManifest(fields["mediaType"], _json(fields), children=tuple(children))


def attestation(subject: BuiltManifest) -> BuiltManifest:
    """Return a provenance attestation of an image, as Buildx puts it beside that image in an index."""
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{"name": "image", "digest": {"sha256": subject.digest.removeprefix("sha256:")}}],
    }
    blob = Blob(
        _json(statement),
        media_type=IN_TOTO,
        annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
    )
    return replace(
        image([blob], "unknown/unknown"),
        annotations={
            "vnd.docker.reference.digest": subject.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


def artifact(
    artifact_type: str,
    layers: Sequence[Blob],
    subject: BuiltManifest | None = None,
    *,
    annotations: Mapping[str, str] | None = None,
) -> BuiltManifest:
    """Return an artifact: no platform, the empty config, layers of any type, maybe about another manifest."""
    config = Blob(b"{}", media_type=OCI_EMPTY)
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
    }
    if subject is not None:
        fields["subject"] = subject.descriptor()
    if annotations:
        fields["annotations"] = dict(annotations)
    return BuiltManifest(OCI_MANIFEST, _json(fields), (config, *layers))


class BearerAuth(AuthBase):
    """A token that was got elsewhere."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def push(
    base_url: str,
    repository: str,
    manifest: BuiltManifest,
    tags: Iterable[str] = (),
    *,
    auth: Auth = None,
    verify: bool | str = True,
) -> str:
    """Push a manifest with all it needs, then its tags (none: by digest only), and return its digest."""
    with _session(auth, verify) as session:
        _push_content(session, base_url, repository, manifest)
        references = list(tags) or [manifest.digest]
        for reference in references:
            _put_manifest(session, base_url, repository, manifest, reference)
    return manifest.digest


def push_many_tags(
    base_url: str,
    repository: str,
    manifest: BuiltManifest,
    tags: int | Iterable[str] = 250,
    *,
    auth: Auth = None,
    verify: bool | str = True,
    workers: int = 8,
) -> list[str]:
    """Push one manifest under many tags, named or numbered ones, several at a time; return the tags."""
    names = [f"v{number:04}" for number in range(tags)] if isinstance(tags, int) else list(tags)
    with _session(auth, verify, connections=workers) as session, ThreadPoolExecutor(workers) as pool:
        _push_content(session, base_url, repository, manifest)
        # list() to hear of failures
        list(pool.map(lambda tag: _put_manifest(session, base_url, repository, manifest, tag), names))
    return names


class _StreamedBody:
    """A request body with a known length that is read piece by piece."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    def __len__(self) -> int:
        return self._blob.size

    def __iter__(self) -> Iterator[bytes]:
        return self._blob.pieces()


def _session(auth: Auth, verify: bool | str, connections: int = 1) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.auth = auth
    session.verify = verify
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


def _push_content(session: requests.Session, base_url: str, repository: str, manifest: BuiltManifest) -> None:
    for blob in manifest.all_blobs():
        _push_blob(session, base_url, repository, blob)
    for part in manifest.all_manifests():
        if part is not manifest:
            _put_manifest(session, base_url, repository, part, part.digest)


def _push_blob(session: requests.Session, base_url: str, repository: str, blob: Blob) -> None:
    known = session.head(f"{base_url}/v2/{repository}/blobs/{blob.digest}")
    if known.status_code == requests.codes.ok:
        return
    started = session.post(f"{base_url}/v2/{repository}/blobs/uploads/")
    _check(started, requests.codes.accepted)
    location = urljoin(started.url, started.headers["Location"])
    location += f"{'&' if '?' in location else '?'}digest={blob.digest}"
    done = session.put(
        location,
        data=_StreamedBody(blob) if blob.size else b"",
        headers={"Content-Type": "application/octet-stream"},
    )
    _check(done, requests.codes.created)


def _put_manifest(
    session: requests.Session, base_url: str, repository: str, manifest: BuiltManifest, reference: str
) -> None:
    done = session.put(
        f"{base_url}/v2/{repository}/manifests/{reference}",
        data=manifest.body,
        headers={"Content-Type": manifest.media_type},
    )
    _check(done, requests.codes.created)


def _check(response: requests.Response, expected: int) -> None:
    if response.status_code != expected:
        request = f"{response.request.method} {response.url}"
        raise requests.HTTPError(
            f"{request}: {response.status_code} instead of {expected}: {response.text[:500]}",
            response=response,
        )


def _platform_fields(platform: str) -> dict[str, Any]:
    system, architecture, *variant = platform.split("/")
    fields = {"architecture": architecture, "os": system}
    if variant:
        fields["variant"] = variant[0]
    return fields


def _json(fields: Mapping[str, Any]) -> bytes:
    # Indented as most tools write manifests: re-serialising one changes its digest, as it should.
    return json.dumps(fields, indent=2).encode()
