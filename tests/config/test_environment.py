from __future__ import annotations

import pytest

from airflow_imagesync.config.environment import Environment, Filled, unset_message

VARIABLES = {"HOST": "quay.io", "TAG": "v1", "EMPTY": "", "DOLLAR": "$HOST", "_x1": "low"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$HOST/a", "quay.io/a"),
        ("${HOST}/a", "quay.io/a"),
        ("$HOST/a:$TAG,${TAG}b", "quay.io/a:v1,v1b"),
        ("a/$_x1", "a/low"),
        ("a$EMPTY", "a"),
        ("$DOLLAR", "$HOST"),
        ("a:$", "a:$"),
        ("a:$1", "a:$1"),
        ("a:${}", "a:${}"),
        ("a:${1}", "a:${1}"),
        ("a:${HOST", "a:${HOST"),
        ("a:$$", "a:$$"),
        ("a:$-HOST", "a:$-HOST"),
        ("$HOST/a:/^v$TAG$/", "quay.io/a:/^v$TAG$/"),
        ("a:/${HOST}/", "a:/${HOST}/"),
    ],
)
def test_names_are_filled_anywhere_but_in_patterns(text: str, expected: str) -> None:
    assert Environment(VARIABLES).fill_name(text) == Filled(expected)


@pytest.mark.parametrize(
    ("text", "unset"),
    [("$A/b", ("A",)), ("${A}${B}$A$HOST", ("A", "B")), ("$HOSTa", ("HOSTa",)), ("$B/a:/$A/", ("B",))],
)
def test_unset_variables_are_named(text: str, unset: tuple[str, ...]) -> None:
    assert Environment(VARIABLES).fill_name(text) == Filled(None, unset)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$TAG", Filled("v1")),
        ("${TAG}", Filled("v1")),
        ("$DOLLAR", Filled("$HOST")),
        ("pa$TAG", Filled("pa$TAG")),
        ("$TAG!", Filled("$TAG!")),
        ("${TAG}x", Filled("${TAG}x")),
        ("$TAG$TAG", Filled("$TAG$TAG")),
        ("$", Filled("$")),
        ("$1", Filled("$1")),
        ("$$TAG", Filled("$$TAG")),
        ("$NOT_SET", Filled(None, ("NOT_SET",))),
    ],
)
def test_credentials_are_filled_only_as_a_whole(text: str, expected: Filled) -> None:
    assert Environment(VARIABLES).fill_credential(text) == expected


def test_without_an_environment_nothing_is_unset() -> None:
    environment = Environment(None)
    assert not environment.known
    assert environment.get("HOST") is None
    assert environment.fill_name("$HOST/a") == Filled(None)
    assert environment.fill_name("a:/$HOST/") == Filled("a:/$HOST/")
    assert environment.fill_credential("$HOST") == Filled(None)


def test_empty_settings_count_as_not_set() -> None:
    assert Environment({"DEFAULT_REGISTRY": ""}).get("DEFAULT_REGISTRY") is None


def test_message() -> None:
    assert unset_message(("A",)) == "the environment variable 'A' is not set"
    assert unset_message(("A", "B")) == "the environment variables 'A', 'B' are not set"
