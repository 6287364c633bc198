from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import (
    AllTags,
    ByDigest,
    Destination,
    Rule,
    Select,
    SyncConfig,
    TagPattern,
    Tags,
    compile_pattern,
)
from airflow_imagesync.errors import InvalidReference

DIGEST = "sha256:" + "0a" * 32
SOURCE = Repository("quay.io", "a/b")
X, Y = Repository("x.io", "x"), Repository("y.io", "y")


@pytest.mark.parametrize(
    ("select", "destinations", "listed", "expected"),
    [
        pytest.param(
            AllTags(),
            [Destination(X), Destination(Y)],
            ["1", "2"],
            ["b:1 x:1", "b:1 y:1", "b:2 x:2", "b:2 y:2"],
            id="tags first, destinations next",
        ),
        pytest.param(TagPattern("1"), [Destination(X)], ["1"], ["b:1 x:1"], id="pattern"),
        pytest.param(AllTags(), [Destination(X)], [], [], id="nothing listed"),
        pytest.param(Tags(("2", "1")), [Destination(X)], [], ["b:2 x:2", "b:1 x:1"], id="order as written"),
        pytest.param(
            Tags(("1", "2")), [Destination(X, ("a", "b"))], [], ["b:1 x:a", "b:2 x:b"], id="renamed by position"
        ),
        pytest.param(
            Tags(("1", "1")), [Destination(X, ("a", "b"))], [], ["b:1 x:a", "b:1 x:b"], id="one tag, two names"
        ),
        pytest.param(
            Tags(("1", "1")), [Destination(X), Destination(X, ("1", "1"))], [], ["b:1 x:1"], id="same pair once"
        ),
        pytest.param(ByDigest(DIGEST), [Destination(X, ())], [], [f"b@{DIGEST} x@{DIGEST}"], id="digest only"),
        pytest.param(ByDigest(DIGEST, "1"), [Destination(X, ("t",))], [], [f"b@{DIGEST} x:t"], id="digest under a tag"),
    ],
)
def test_pairs(select: Select, destinations: list[Destination], listed: list[str], expected: list[str]) -> None:
    rule = Rule(0, SOURCE, select, tuple(destinations))
    found = [f"{source} {destination}" for source, destination in rule.pairs(listed)]
    assert [pair.replace("quay.io/a/", "").replace("x.io/", "").replace("y.io/", "") for pair in found] == expected


@pytest.mark.parametrize(
    ("select", "text"),
    [
        (AllTags(), "quay.io/a/b"),
        (Tags(("1", "2", "1")), "quay.io/a/b:1,2"),
        (TagPattern("^v"), "quay.io/a/b:/^v/"),
        (ByDigest(DIGEST), f"quay.io/a/b@{DIGEST}"),
        (ByDigest(DIGEST, "1"), f"quay.io/a/b:1@{DIGEST}"),
    ],
    ids=["all", "tags", "pattern", "digest", "tag and digest"],
)
def test_a_rule_reads_as_it_is_written(select: Select, text: str) -> None:
    rule = Rule(0, SOURCE, select, (Destination(X), Destination(Y)))
    assert (str(rule), rule.label) == (text, f"{text} -> x.io/x, y.io/y")


@pytest.mark.parametrize(
    ("pattern", "tag", "found"),
    [
        ("1", "v1.2", True),
        ("^1", "v1.2", False),
        (r"^v\d+\.\d+$", "v1.25", True),
        ("(?i)RC", "1.0-rc1", True),
        ("a|b", "cb", True),
        ("", "anything", True),
    ],
)
def test_pattern_is_searched_anywhere(pattern: str, tag: str, found: bool) -> None:
    assert (compile_pattern(pattern).search(tag) is not None) is found


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", r"missing \)"),
        ("[a", "missing ]"),
        ("a{2,1}", "invalid repetition size"),
        ("a**", "bad repetition operator"),
        ("(?=a)", "no look-around"),
        (r"(a)\1", "invalid escape sequence"),
    ],
)
def test_bad_pattern_is_refused_quietly(pattern: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidReference, match=f"is not a regular expression in RE2 syntax: .*{reason}"):
        compile_pattern(pattern)
    assert capfd.readouterr() == ("", "")


def test_login_for_takes_the_longest_key() -> None:
    logins = [Login(key, *key.partition("/")[::2]) for key in ("quay.io", "quay.io/a/b", "quay.io/a")]
    config = SyncConfig(logins=tuple(logins))
    found = {
        name: config.login_for(Repository.parse(name))
        for name in ("quay.io/a/b", "quay.io/a/bc", "quay.io/ab", "x.io/a")
    }
    assert {name: login and login.key for name, login in found.items()} == {
        "quay.io/a/b": "quay.io/a/b",
        "quay.io/a/bc": "quay.io/a",
        "quay.io/ab": "quay.io",
        "x.io/a": None,
    }


def test_with_connections_fills_only_those_that_name_one() -> None:
    config = SyncConfig(logins=(Login("a.io", "a.io", conn_id="c"), Login("b.io", "b.io")))
    filled = config.with_connections(lambda login: replace(login, username=f"of {login.conn_id}"))
    assert [login.username for login in filled.logins] == ["of c", None]
    assert filled.login_for(Repository("a.io", "x")) == filled.logins[0]


def test_records_name_a_filter_whatever_its_order() -> None:
    platforms = tuple(Platform.parse(one) for one in ("linux/arm/v7", "linux/amd64", "linux/arm/v7"))
    rule = Rule(0, SOURCE, AllTags(), (Destination(X),), platforms)
    assert rule.filter_text == "linux/amd64,linux/arm/v7"
    assert replace(rule, platforms=()).filter_text == ""
