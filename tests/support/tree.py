"""What a repository really has: asked at the registry itself, and without the package's own code."""

from __future__ import annotations

import hashlib
from typing import Any

import requests

from devtools import images

_ACCEPT = ", ".join((images.OCI_INDEX, images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST))


def whole_tree(url: str, repository: str, reference: str, auth: images.Auth = None) -> str | None:
    """Return the digest that a tag or digest of a repository names, or None where it names nothing.

    Raises AssertionError when anything below it is missing or is not what its digest says.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.auth = auth
        return _walk(session, f"{url}/v2/{repository}", reference)


def _walk(session: requests.Session, base: str, reference: str) -> str | None:
    answer = session.get(f"{base}/manifests/{reference}", headers={"Accept": _ACCEPT}, timeout=10)
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, f"{answer.url}: {answer.status_code}"
    digest = _digest(answer.content)
    assert reference == digest or ":" not in reference, f"{base}@{reference} has other content"
    manifest: dict[str, Any] = answer.json()
    for child in manifest.get("manifests", ()):
        assert _walk(session, base, child["digest"]) is not None, f"{base}@{child['digest']} is missing"
    for blob in (*manifest.get("layers", ()), *([manifest["config"]] if "config" in manifest else ())):
        content = session.get(f"{base}/blobs/{blob['digest']}", timeout=10)
        assert content.status_code == 200, f"{content.url}: {content.status_code}"
        assert _digest(content.content) == blob["digest"], f"{content.url} has other content"
    return digest


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
