from __future__ import annotations

import hashlib

import pytest

from airflow_imagesync.domain import digest
from airflow_imagesync.errors import DigestMismatch, InvalidReference

SHA256 = "sha256:" + hashlib.sha256(b"content").hexdigest()
SHA512 = "sha512:" + hashlib.sha512(b"content").hexdigest()


@pytest.mark.parametrize("text", [SHA256, SHA512], ids=["sha256", "sha512"])
def test_registered_algorithms_are_digests(text: str) -> None:
    assert digest.check_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("sha256:", id="no hex"),
        pytest.param("sha256:" + "a" * 63, id="too short"),
        pytest.param("sha256:" + "a" * 65, id="too long"),
        pytest.param("sha256:" + "A" * 64, id="upper case"),
        pytest.param("sha256:" + "g" * 64, id="not hex"),
        pytest.param("sha512:" + "a" * 64, id="length of another algorithm"),
        pytest.param("md5:" + "a" * 32, id="another algorithm"),
        pytest.param("sha256:../../" + "a" * 58, id="path"),
        pytest.param(SHA256 + "\n", id="line end"),
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert not digest.is_digest(text)
    with pytest.raises(InvalidReference, match="is not a digest; expected sha256:"):
        digest.check_digest(text)


def test_digest_of_takes_the_algorithm_of_another() -> None:
    assert digest.digest_of(b"content") == SHA256
    assert digest.digest_of(b"content", SHA512) == SHA512
    hashing = digest.hasher(SHA512)
    hashing.update(b"content")
    assert f"{digest.algorithm(SHA512)}:{hashing.hexdigest()}" == SHA512


@pytest.mark.parametrize("expected", [SHA256, SHA512], ids=["sha256", "sha512"])
def test_verify_refuses_other_content(expected: str) -> None:
    digest.verify(b"content", expected, "the blob")
    with pytest.raises(DigestMismatch, match=f"the blob hashes to sha.*not to {expected}"):
        digest.verify(b"c0ntent", expected, "the blob")
