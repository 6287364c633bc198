from __future__ import annotations

import pytest

from airflow_imagesync.domain.reference import (
    ImageReference,
    Repository,
    check_tag,
    is_tag,
    normalise_registry,
    quoted,
    split_reference,
)
from airflow_imagesync.errors import InvalidReference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("foo/bar", "docker.io/foo/bar"),
        ("foo/bar/baz", "docker.io/foo/bar/baz"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/foo/bar", "docker.io/foo/bar"),
        ("registry-1.docker.io/library/nginx", "docker.io/library/nginx"),
        ("registry.hub.docker.com/nginx", "docker.io/library/nginx"),
        ("Docker.IO/nginx", "docker.io/library/nginx"),
        ("quay.io/coreos/etcd", "quay.io/coreos/etcd"),
        ("QUAY.io/coreos/etcd", "quay.io/coreos/etcd"),
        ("quay.io/etcd", "quay.io/etcd"),
        ("localhost/etcd", "localhost/etcd"),
        ("localhost:5000/etcd", "localhost:5000/etcd"),
        ("registry:5000/a/b/c/d", "registry:5000/a/b/c/d"),
        ("10.0.0.5:5000/x", "10.0.0.5:5000/x"),
        ("[::1]:5000/x/y", "[::1]:5000/x/y"),
        ("[FE80::1]/x", "[fe80::1]/x"),
        ("gcr.io/a.b/c_d/e__f/g-h/i--j", "gcr.io/a.b/c_d/e__f/g-h/i--j"),
    ],
)
def test_repository_is_normalised(text: str, expected: str) -> None:
    repository = Repository.parse(text)
    assert str(repository) == expected
    assert Repository.parse(str(repository)) == repository


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a repository"),
        ("quay.io/", "is not a repository"),
        ("quay.io//etcd", "is not a repository"),
        ("/etcd", "is not a repository"),
        ("quay.io/Coreos/etcd", "lower case"),
        ("quay.io/a..b", "is not a repository"),
        ("quay.io/a___b", "is not a repository"),
        ("quay.io/-a", "is not a repository"),
        ("quay.io/a b", "is not a repository"),
        ("quay.io/é", "is not a repository"),
        ("quay.io/a:tag", "is not a repository"),
        ("quay.io/../etc", "is not a repository"),
        ("quay.io:0/a", "is not a registry"),
        ("quay.io:65536/a", "is not a registry"),
        ("quay.io:port/a", "is not a registry"),
        ("-quay.io/a", "is not a registry"),
        ("quay..io/a", "is not a registry"),
        ("[::1/a", "is not a registry"),
        ("[:::]:5000/a", "is not a registry"),
        ("[1.2.3.4]/a", "is not a registry"),
        ("https://quay.io/a", "begins with 'https://'; write it without: 'quay.io/a'"),
        ("docker://nginx", "begins with 'docker://'"),
        ("quay.io/" + "a" * 250, "is longer than the 255 characters"),
    ],
)
def test_other_repositories_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidReference, match=message):
        Repository.parse(text)


def test_name_is_the_last_part() -> None:
    assert Repository.parse("quay.io/a/b/c").name == "c"
    assert Repository.parse("nginx").name == "nginx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("QUAY.io:443", "quay.io:443"), ("registry", "registry"), ("index.docker.io", "docker.io")],
)
def test_registry_is_normalised(text: str, expected: str) -> None:
    assert normalise_registry(text) == expected


@pytest.mark.parametrize("text", ["1", "v1.2.3", "latest", "_x", "A-b_c.d", "a" * 128])
def test_tags(text: str) -> None:
    assert is_tag(text)
    assert check_tag(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "a b", "a:b", "a" * 129, "ä", "a\n"])
def test_what_is_no_tag(text: str) -> None:
    assert not is_tag(text)
    with pytest.raises(InvalidReference, match="is not a tag; expected up to 128"):
        check_tag(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nginx", ("nginx", None, None)),
        ("nginx:1", ("nginx", "1", None)),
        ("host:5000/a", ("host:5000/a", None, None)),
        ("host:5000/a:1,2", ("host:5000/a", "1,2", None)),
        ("[::1]:5000/a:1", ("[::1]:5000/a", "1", None)),
        ("a:1@sha256:0", ("a", "1", "sha256:0")),
        ("a@", ("a", None, "")),
        ("a:", ("a", "", None)),
    ],
)
def test_split_reference(text: str, parts: tuple[str, str | None, str | None]) -> None:
    assert split_reference(text) == parts


@pytest.mark.parametrize(
    ("text", "expected", "reference"),
    [
        ("nginx:1.25", "docker.io/library/nginx:1.25", "1.25"),
        (f"quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}", DIGEST),
        (f"quay.io/a/b:1@{DIGEST}", f"quay.io/a/b:1@{DIGEST}", DIGEST),
    ],
    ids=["tag", "digest", "both"],
)
def test_image_reference(text: str, expected: str, reference: str) -> None:
    image = ImageReference.parse(text)
    assert (str(image), image.reference) == (expected, reference)
    assert ImageReference.parse(str(image)) == image


@pytest.mark.parametrize("text", ["nginx", "nginx:", "nginx@", "nginx@sha256:1", "nginx:a,b"])
def test_image_reference_needs_one_tag_or_digest(text: str) -> None:
    with pytest.raises(InvalidReference):
        ImageReference.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b:1", "'a/b:1'"),
        ("a\nb", r"'a\nb'"),
        ("https://user:s3cret@host/a", "'***@host/a'"),
        ("user:s3/cret@host/a", "'***@host/a'"),
        (f"a:1@{DIGEST}", f"'a:1@{DIGEST}'"),
        (f"user:s3cret@host/a@{DIGEST}", f"'***@host/a@{DIGEST}'"),
        ("x" * 1000, "'" + "x" * 120 + "'..."),
    ],
)
def test_quoted_is_one_short_line_without_password(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_messages_show_no_password() -> None:
    for text in ("https://user:s3cret@host/a", "user:s3cret@host.io/a"):
        with pytest.raises(InvalidReference) as caught:
            Repository.parse(text)
        assert "s3cret" not in str(caught.value)
