from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_imagesync.domain.allowed import AllowedHosts
from airflow_imagesync.domain.digest import check_digest, contradicts, is_digest
from airflow_imagesync.domain.notation import parse_destination, parse_source
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import ImageReference, Repository, check_tag, normalise_registry, quoted
from airflow_imagesync.domain.rules import AllTags, ByDigest, TagPattern, Tags, compile_pattern
from airflow_imagesync.errors import ConfigError, InvalidReference
from tests.fuzz.strategies import DIGEST, fuzz, texts

PARTS = (
    *("registry.example.com", "localhost", "127.0.0.1", "[::1]", "[", "]", "docker.io", "index.docker.io", "nginx"),
    *(":5000", ":0", ":65536", ":", "/", "//", "..", ".", "a", "A", "-", "_", "__", "___", "@", DIGEST, "sha256:"),
    *("v1", ",", "/^v/", "(", "https://", "user:pw@", "\\", "%2f", "?", "#", "\n", "\r\n", " ", "\u0430", "\u0665"),
    *("\ud800", "\0", "x" * 300),
)
NAMES = texts(*PARTS)

word = st.text("abcz0189", min_size=1, max_size=8)
host = st.builds(lambda first, port: f"{first}.example{port}", word, st.sampled_from(["", ":5000", ":1"]))
path = st.builds(
    lambda first, rest: first + "".join(mark + one for mark, one in rest),
    word,
    st.lists(st.tuples(st.sampled_from([".", "_", "__", "-", "---", "/"]), word), max_size=4),
)
tag = st.builds(str.__add__, st.sampled_from("aZ0_"), st.text("aZ0._-", max_size=20))
digest = st.sampled_from([DIGEST, "sha512:" + "0f" * 64])


@fuzz(300)
@given(NAMES)
@example("0:\ud800/a")
def test_any_text_is_a_name_or_an_invalid_reference(text: str) -> None:
    for parse in (normalise_registry, check_tag, check_digest, Repository.parse, ImageReference.parse, Platform.parse):
        try:
            parse(text)
        except InvalidReference as error:
            assert str(error).isprintable()
            assert len(str(error)) < 800


@fuzz(200)
@given(NAMES)
def test_any_text_is_a_source_and_a_destination_or_an_invalid_reference(text: str) -> None:
    try:
        repository, select = parse_source(text)
    except InvalidReference as error:
        assert str(error).isprintable()
    else:
        assert parse_source(f"{repository}{select}") == (repository, select)
    for wanted in (AllTags(), Tags(("v1",)), Tags(("v1", "v2")), TagPattern("x"), ByDigest(DIGEST)):
        try:
            parse_destination(text, wanted)
        except InvalidReference as error:
            assert str(error).isprintable()


@fuzz(300)
@given(NAMES)
def test_a_name_that_is_taken_means_the_same_to_every_parser_of_addresses(text: str) -> None:
    try:
        repository = Repository.parse(text)
    except InvalidReference:
        return
    url = f"https://{repository.registry}/v2/{repository.path}/tags/list"
    one, other = urlsplit(url), urllib3.util.parse_url(url)
    assert one.netloc == other.netloc == repository.registry
    assert one.path == other.path == f"/v2/{repository.path}/tags/list"
    assert ".." not in one.path.split("/")
    assert url.isascii()
    assert url.isprintable()


@fuzz(100)
@given(host, path, tag, digest)
def test_names_are_read_as_they_are_written(host: str, path: str, tag: str, digest: str) -> None:
    name = f"{host}/{path}"
    assert str(Repository.parse(name)) == name
    for text in (f"{name}:{tag}", f"{name}@{digest}", f"{name}:{tag}@{digest}"):
        assert str(ImageReference.parse(text)) == text
    assert parse_source(f"{name}:{tag},{tag}x") == (Repository(host, path), Tags((tag, f"{tag}x")))
    assert normalise_registry(normalise_registry(host)) == normalise_registry(host)


@fuzz(150)
@given(st.text(max_size=30) | texts("(", ")", "[", "]", "*", "+", "{1000}", "\\", "a", "|", "(?i)", "(?=x)", "$"))
def test_any_text_is_a_pattern_or_an_invalid_reference(pattern: str) -> None:
    try:
        compile_pattern(pattern).search("v1.2.3" * 20)
    except InvalidReference as error:
        assert str(error).isprintable()


@fuzz(150)
@given(st.lists(texts("*.", "example.com", ":5000", "[::1]", "*", ".", "docker.io"), max_size=3) | NAMES)
def test_any_list_is_of_hosts_or_a_config_error(hosts: Any) -> None:
    try:
        allowed = AllowedHosts.parse(hosts)
    except ConfigError as error:
        assert str(error).isprintable()
    else:
        assert not allowed.allow(Repository("evil.invalid", "a"))


@fuzz(100)
@given(NAMES, NAMES)
def test_digests_are_compared_whatever_they_are(one: str, other: str) -> None:
    assert contradicts(one, other) == contradicts(other, one)
    assert not (contradicts(one, other) and not (is_digest(one) and is_digest(other)))


@fuzz(100)
@given(NAMES)
def test_what_is_quoted_is_on_one_short_line(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) < 700


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", ["a", "a-", "a.", "a__", "a/", "@", ":", "-", ":/", ",", "[:", "a@sha256:", "1."])
def test_a_long_name_costs_no_time(unit: str) -> None:
    text = unit * 100_000
    for parse in (normalise_registry, check_tag, Repository.parse, ImageReference.parse, parse_source, Platform.parse):
        for one in (text, f"registry.example.com/{text}!", f"registry.example.com/a:{text}!"):
            with contextlib.suppress(InvalidReference):
                parse(one)  # type: ignore[operator]
