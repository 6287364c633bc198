"""Content digests: their grammar, and hashing against them.

OCI image spec, descriptor.md "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from airflow_imagesync.errors import DigestMismatch, InvalidReference

if TYPE_CHECKING:
    from hashlib import _Hash

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of a registered algorithm (sha256 or sha512)."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return `text` when it is a digest; raise InvalidReference when it is not.

    Digests come from other machines and end up in URLs, so nothing unchecked may pass (CVE-2024-3727).
    """
    if not is_digest(text):
        raise InvalidReference(
            f"{text[:160]!r} is not a digest; expected sha256: and 64, or sha512: and 128 lower-case hex digits"
        )
    return text


def algorithm(digest: str) -> str:
    """Return the algorithm of a digest: ``sha256`` or ``sha512``."""
    return digest.partition(":")[0]


def contradicts(one: str, other: str) -> bool:
    """Whether two digests can't be of the same content; a text that is no digest contradicts nothing.

    Digests of different algorithms can't be compared.
    """
    return is_digest(one) and is_digest(other) and algorithm(one) == algorithm(other) and one != other


def digest_of(content: bytes, like: str = "sha256") -> str:
    """Return the digest of `content`, with the algorithm of `like` (a digest or the name of an algorithm)."""
    name = algorithm(like)
    return f"{name}:{hashlib.new(name, content).hexdigest()}"


def hasher(digest: str) -> _Hash:
    """Return an empty hash object of the algorithm of `digest`."""
    return hashlib.new(algorithm(digest))


def verify(content: bytes, digest: str, what: str) -> None:
    """Raise DigestMismatch unless `content` hashes to `digest`; `what` names the content in the message."""
    actual = digest_of(content, digest)
    if actual != digest:
        raise DigestMismatch(f"{what} hashes to {actual}, not to {digest}: the content was altered on its way")
