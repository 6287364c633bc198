from __future__ import annotations

import pytest

from airflow_imagesync.domain.notation import (
    check_destination,
    parse_destination,
    parse_source,
    split_pattern,
    without_repetition,
)
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, ByDigest, Destination, Select, TagPattern, Tags
from airflow_imagesync.errors import InvalidReference

DIGEST = "sha256:" + "0a" * 32
OTHER = "sha256:" + "0b" * 32
X = Repository("x.io", "x")


@pytest.mark.parametrize(
    ("text", "repository", "select"),
    [
        pytest.param("quay.io/a/b", "quay.io/a/b", AllTags(), id="all tags"),
        pytest.param("quay.io/a/b:1", "quay.io/a/b", Tags(("1",)), id="one tag"),
        pytest.param("quay.io/a/b:2,1", "quay.io/a/b", Tags(("2", "1")), id="tags in the order written"),
        pytest.param("quay.io/a/b:1,1", "quay.io/a/b", Tags(("1", "1")), id="a tag twice"),
        pytest.param("quay.io/a/b:/^v1/", "quay.io/a/b", TagPattern("^v1"), id="pattern"),
        pytest.param("quay.io/a/b:/a,b:/c/d@e/", "quay.io/a/b", TagPattern("a,b:/c/d@e"), id="pattern with all signs"),
        pytest.param("quay.io/a/b://", "quay.io/a/b", TagPattern(""), id="empty pattern"),
        pytest.param("nginx:/1/", "docker.io/library/nginx", TagPattern("1"), id="Docker Hub pattern"),
        pytest.param("nginx://", "docker.io/library/nginx", TagPattern(""), id="Docker Hub empty pattern"),
        pytest.param("nginx", "docker.io/library/nginx", AllTags(), id="Docker Hub library"),
        pytest.param("foo/bar", "docker.io/foo/bar", AllTags(), id="Docker Hub name"),
        pytest.param("foo/bar:/x/", "docker.io/foo/bar", TagPattern("x"), id="Docker Hub name with pattern"),
        pytest.param("localhost:5000/a:1", "localhost:5000/a", Tags(("1",)), id="port and tag"),
        pytest.param("localhost:5000/a:/1/", "localhost:5000/a", TagPattern("1"), id="port and pattern"),
        pytest.param("[::1]:5000/a:1,2", "[::1]:5000/a", Tags(("1", "2")), id="IPv6"),
        pytest.param(f"quay.io/a@{DIGEST}", "quay.io/a", ByDigest(DIGEST), id="digest"),
        pytest.param(f"quay.io/a:1@{DIGEST}", "quay.io/a", ByDigest(DIGEST, "1"), id="tag and digest"),
    ],
)
def test_source(text: str, repository: str, select: Select) -> None:
    found, found_select = parse_source(text)
    assert (str(found), found_select) == (repository, select)
    assert parse_source(f"{found}{found_select}")[0] == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the source is empty"),
        (":/x/", "the source is empty"),
        ("https://quay.io/a", "begins with 'https://'"),
        ("quay.io/a:", "'' is not a tag"),
        ("quay.io/a:1,", "'' is not a tag"),
        ("quay.io/a:1, 2", "' 2' is not a tag"),
        (f"quay.io/a:1,{DIGEST}", "is not a tag"),
        ("quay.io/a:/x", "without an end; expected repository:/regex/"),
        ("quay.io/a:/", "without an end"),
        ("quay.io/a:/(/", r"'\(' is not a regular expression"),
        ("quay.io/a:/x/,y", "without an end"),
        ("quay.io/A:/x/", "is not a repository"),
        ("quay.io/a@sha256:1", "is not a digest"),
        ("quay.io/a@", "is not a digest"),
        (f"quay.io/a:1,2@{DIGEST}", "several tags and a digest"),
        (f"quay.io/a:@{DIGEST}", "'' is not a tag"),
        ("user:s3cret@quay.io/a", "a login is written under auth or registries"),
        ("user:s3cret@quay.io/a:/x/", "a login is written under auth or registries"),
        (" quay.io/a", "is not a reg"),
    ],
)
def test_bad_source(text: str, message: str) -> None:
    with pytest.raises(InvalidReference, match=message) as caught:
        parse_source(text)
    assert "s3cret" not in str(caught.value)


TAG, TWO = Tags(("1",)), Tags(("1", "2"))
BY_DIGEST, TAGGED_DIGEST = ByDigest(DIGEST), ByDigest(DIGEST, "1")


@pytest.mark.parametrize(
    ("text", "select", "tags"),
    [
        pytest.param("x.io/x", AllTags(), None, id="all tags"),
        pytest.param("x.io/x", TagPattern("1"), None, id="pattern"),
        pytest.param("x.io/x", TAG, None, id="tag kept"),
        pytest.param("x.io/x:a", TAG, ("a",), id="tag renamed"),
        pytest.param("x.io/x:1", TAG, ("1",), id="tag repeated"),
        pytest.param("x.io/x", TWO, None, id="tags kept"),
        pytest.param("x.io/x:a,b", TWO, ("a", "b"), id="tags renamed"),
        pytest.param("x.io/x", BY_DIGEST, (), id="digest"),
        pytest.param(f"x.io/x@{DIGEST}", BY_DIGEST, (), id="digest to its own"),
        pytest.param("x.io/x:a", BY_DIGEST, ("a",), id="digest to tag"),
        pytest.param(f"x.io/x:a@{DIGEST}", BY_DIGEST, ("a",), id="digest to tag and its own"),
        pytest.param("x.io/x", TAGGED_DIGEST, ("1",), id="tagged digest keeps its tag"),
        pytest.param("x.io/x:a", TAGGED_DIGEST, ("a",), id="tagged digest renamed"),
        pytest.param(f"x.io/x@{DIGEST}", TAGGED_DIGEST, (), id="tagged digest by digest only"),
    ],
)
def test_destination(text: str, select: Select, tags: tuple[str, ...] | None) -> None:
    assert parse_destination(text, select) == Destination(X, tags)


@pytest.mark.parametrize(
    ("text", "select", "message"),
    [
        pytest.param("x.io/x:a", AllTags(), "has a tag, but the source means all tags", id="all tags to a tag"),
        pytest.param(
            "x.io/x:a", TagPattern("1"), "has a tag, but the source means the tags that match", id="pattern to a tag"
        ),
        pytest.param("x.io/x:/1/", TagPattern("1"), "has a regular expression", id="pattern to pattern"),
        pytest.param("x.io/x:/1/", TAG, "has a regular expression; expected tags", id="tag to pattern"),
        pytest.param("x.io/x:a", TWO, "has 1 tag, but the source has 2 tags; expected as many", id="too few"),
        pytest.param("x.io/x:a,b", TAG, "has 2 tags, but the source has 1 tag; expected as many", id="too many"),
        pytest.param("x.io/x:a", Tags(("1", "1")), "has 1 tag, but the source has 2", id="counted as written"),
        pytest.param(f"x.io/x@{DIGEST}", TAG, "has a digest, which only a source", id="tag to digest"),
        pytest.param(f"x.io/x@{DIGEST}", AllTags(), "has a digest, which only a source", id="all tags to digest"),
        pytest.param(
            f"x.io/x@{OTHER}", BY_DIGEST, f"another digest than the source; expected {DIGEST}", id="other digest"
        ),
        pytest.param(f"x.io/x:a@{OTHER}", TAGGED_DIGEST, "another digest than the source", id="tag and other digest"),
        pytest.param("x.io/x:a,b", BY_DIGEST, "has 2 tags, but the source is one digest", id="digest to two tags"),
        pytest.param("", TAG, "the destination is empty", id="empty"),
        pytest.param("http://x.io/x", TAG, "begins with 'http://'", id="scheme"),
        pytest.param("x.io/x:a,", TWO, "'' is not a tag", id="empty tag"),
        pytest.param("u:s3cret@x.io/x", TAG, "a login is written under", id="login"),
    ],
)
def test_bad_destination(text: str, select: Select, message: str) -> None:
    with pytest.raises(InvalidReference, match=message) as caught:
        parse_destination(text, select)
    assert "s3cret" not in str(caught.value)


def test_a_destination_can_be_checked_before_its_source_is_known() -> None:
    check_destination("x.io/x:a,b")
    check_destination(f"x.io/x@{DIGEST}")
    with pytest.raises(InvalidReference, match="is not a repository"):
        check_destination("x.io/X")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a:/b/", ("a", "/b/")),
        ("a://", ("a", "//")),
        ("a:/", ("a", "/")),
        ("a:/b:/c/", ("a", "/b:/c/")),
        ("a:1", ("a:1", None)),
        ("https://a/b", ("https://a/b", None)),
    ],
)
def test_split_pattern(text: str, parts: tuple[str, str | None]) -> None:
    assert split_pattern(text) == parts


@pytest.mark.parametrize(
    ("select", "destinations", "expected_select", "expected"),
    [
        pytest.param(Tags(("1", "2", "1")), [None], Tags(("1", "2")), [None], id="tag twice"),
        pytest.param(Tags(("1", "1")), [("a", "b")], Tags(("1", "1")), [("a", "b")], id="twice to two names"),
        pytest.param(Tags(("1", "1")), [("a", "a")], Tags(("1",)), [("a",)], id="twice to one name"),
        pytest.param(Tags(("1", "1")), [None, ("a", "b")], Tags(("1", "1")), [None, ("a", "b")], id="both"),
        pytest.param(Tags(("1",)), [None, None], Tags(("1",)), [None], id="destination twice"),
        pytest.param(AllTags(), [None, None], AllTags(), [None], id="all tags"),
    ],
)
def test_repetition_is_taken_out(
    select: Select,
    destinations: list[tuple[str, ...] | None],
    expected_select: Select,
    expected: list[tuple[str, ...] | None],
) -> None:
    found = without_repetition(select, tuple(Destination(X, tags) for tags in destinations))
    assert found == (expected_select, tuple(Destination(X, tags) for tags in expected))
