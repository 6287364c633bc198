from __future__ import annotations

import pytest

from airflow_imagesync.config import parse_config, read_text
from airflow_imagesync.config.line_text import looks_like_lines
from airflow_imagesync.domain.rules import Destination
from airflow_imagesync.errors import ConfigError

DIGEST = "sha256:" + "0123456789abcdef" * 4
NO_DEFAULT = "the destination is empty and there is no default registry"
ONE_WORD = 'found one word, expected source and destination with a blank between them ("" for the default destination)'
COLON = "found a colon behind the first word, expected nothing but a blank behind the source"
COMMA = (
    "found a comma behind the first word, expected nothing but a blank behind the source; several tags have a comma "
    "and no blank between them"
)
NO_SLASH = (
    "found a further destination without a slash, expected registry/repository; several tags have a comma and no "
    "blank between them"
)
SIGN = "found a sign that no name begins with, expected source and destination"


def labels(text: str, **variables: str) -> list[str]:
    """Return the rules, their destinations with tags where these are not the source's."""
    return [
        f"{rule} -> " + ", ".join(f"{one.repository}{_tags(one)}" for one in rule.destinations)
        for rule in parse_config(text, environ=variables).rules
    ]


def _tags(destination: Destination) -> str:
    return ":" + ",".join(destination.tags) if destination.tags else ""


def told(text: str, name: str | None = None) -> list[str]:
    return [str(problem) for problem in read_text(text, name=name, environ={}).problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a.io/a b.io/b", ["a.io/a -> b.io/b"], id="one line"),
        pytest.param("nginx foo/bar", ["docker.io/library/nginx -> docker.io/foo/bar"], id="names of Docker Hub"),
        pytest.param("10.0.0.5:5000/a b.io/b:1", None, id="tag for a whole repository"),
        pytest.param("a.io:5000/a:1 b.io/b:1", ["a.io:5000/a:1 -> b.io/b:1"], id="port and tag"),
        pytest.param("a.io/a:1,2\tb.io/b:3,4\t ", ["a.io/a:1,2 -> b.io/b:3,4"], id="tabs"),
        pytest.param("a.io/a\u00a0b.io/b", ["a.io/a -> b.io/b"], id="blank of a web page"),
        pytest.param(f"a.io/a@{DIGEST} b.io/b", [f"a.io/a@{DIGEST} -> b.io/b"], id="digest"),
        pytest.param(f"a.io/a:1@{DIGEST} b.io/b", [f"a.io/a:1@{DIGEST} -> b.io/b:1"], id="tag and digest"),
        pytest.param(
            "\n# what\n \n  a.io/a b.io/b # why\n\t# and\nc.io/c d.io/d #\n",
            ["a.io/a -> b.io/b", "c.io/c -> d.io/d"],
            id="comments and blank lines",
        ),
        pytest.param("a.io/a b.io/b\r\nc.io/c d.io/d\r\n", ["a.io/a -> b.io/b", "c.io/c -> d.io/d"], id="Windows"),
        pytest.param("a.io/a b.io/b\rc.io/c d.io/d", ["a.io/a -> b.io/b", "c.io/c -> d.io/d"], id="old Mac"),
        pytest.param("\ufeffa.io/a b.io/b", ["a.io/a -> b.io/b"], id="byte order mark"),
        pytest.param("a.io/a b.io/b c.io/c", ["a.io/a -> b.io/b, c.io/c"], id="two destinations"),
        pytest.param("a.io/a b.io/b, c.io/c , d.io/d", ["a.io/a -> b.io/b, c.io/c, d.io/d"], id="commas"),
        pytest.param(r"a.io/a:/^v[0-9]{1,2}$/ b.io/b", [r"a.io/a:/^v[0-9]{1,2}$/ -> b.io/b"], id="braces"),
        pytest.param("a.io/a:/a: b #c/d, {/ b.io/b # e", ["a.io/a:/a: b #c/d, {/ -> b.io/b"], id="signs of YAML"),
        pytest.param("a.io/a:// b.io/b", ["a.io/a:// -> b.io/b"], id="empty expression"),
        pytest.param("$A/a ${B}/b", ["h.io/a -> r.io/b"], id="variables"),
        pytest.param('a.io/a ""', ["a.io/a -> d.io/n/a"], id="default destination"),
        pytest.param("a.io/a b.io/b ''", ["a.io/a -> b.io/b, d.io/n/a"], id="default destination among others"),
    ],
)
def test_one_rule_a_line(text: str, expected: list[str] | None) -> None:
    variables = {"A": "h.io", "B": "r.io", "DEFAULT_REGISTRY": "d.io", "DEFAULT_NAMESPACE": "n"}
    assert looks_like_lines(text.removeprefix("\ufeff"))
    if expected is not None:
        assert labels(text, **variables) == expected
    else:
        with pytest.raises(ConfigError, match=r"^line 1, destination: 'b.io/b:1' has a tag"):
            labels(text, **variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a/b:v1: c/d", ["docker.io/a/b:v1 -> docker.io/c/d"], id="images with a tag"),
        pytest.param("# x\n\na.io/a: b.io/b\n", ["a.io/a -> b.io/b"], id="images behind a comment"),
        pytest.param("a.io/a : b.io/b", ["a.io/a -> b.io/b"], id="blank before the colon"),
        pytest.param("a.io/a:\n- b.io/b\n- c.io/c", ["a.io/a -> b.io/b, c.io/c"], id="list behind a key"),
        pytest.param("a.io/a:/^v/: b.io/b", ["a.io/a:/^v/ -> b.io/b"], id="expression"),
        pytest.param("a.io/a:/^v 1/: b.io/b", ["a.io/a:/^v 1/ -> b.io/b"], id="expression with a blank"),
        pytest.param("'a.io/a': b.io/b", ["a.io/a -> b.io/b"], id="quotes"),
        pytest.param('"a.io/a": b.io/b', ["a.io/a -> b.io/b"], id="double quotes"),
        pytest.param("---\na.io/a: b.io/b", ["a.io/a -> b.io/b"], id="document"),
        pytest.param("{a.io/a: b.io/b}", ["a.io/a -> b.io/b"], id="flow"),
        pytest.param("? a.io/a\n: b.io/b", ["a.io/a -> b.io/b"], id="question mark"),
        pytest.param("rules:\n- source: a.io/a\n  destination: b.io/b", ["a.io/a -> b.io/b"], id="rules"),
        pytest.param('{"a.io/a": "b.io/b"}', ["a.io/a -> b.io/b"], id="JSON"),
        pytest.param('// x y\n{"a.io/a": "b.io/b"}', ["a.io/a -> b.io/b"], id="JSON behind a comment"),
        pytest.param("- a.io/a b.io/b\n- c.io/c d.io/d", ["a.io/a -> b.io/b", "c.io/c -> d.io/d"], id="list"),
    ],
)
def test_yaml_and_json_stay_what_they_are(text: str, expected: list[str]) -> None:
    assert not looks_like_lines(text)
    assert labels(text) == expected


@pytest.mark.parametrize("text", ["", " \n\t", "# comment\n", "\ufeff"])
def test_a_text_that_says_nothing(text: str) -> None:
    assert told(text, "rules") == ["rules: found nothing, expected a configuration"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("c.io/c", f": {ONE_WORD}"),
        ("c.io/c # d.io/d", f": {ONE_WORD}"),
        ("rules:", f": {COLON}"),
        ("c.io/c: d.io/d", f": {COLON}"),
        ("c.io/c : d.io/d", f": {COLON}"),
        ("- source: c.io/c", f": {SIGN}"),
        ('"c.io/c" "d.io/d"', f": {SIGN}"),
        ("c.io/c:1, 2 d.io/d", f": {COMMA}"),
        ("c.io/c , d.io/d", f": {COMMA}"),
        ("c.io/c:1,2 d.io/d:1, 2", f": {NO_SLASH}"),
        ("c.io/c d.io/d,", ": found a comma at the end of the line, expected another destination behind it"),
        ("c.io/c d.io/d, # e", ": found a comma at the end of the line, expected another destination behind it"),
        ("c.io/c:/^v d.io/d", ", source: 'c.io/c:/^v' has a regular expression without an end"),
        ("http://c.io/c d.io/d", ", source: 'http://c.io/c' begins with 'http://'"),
        ("u:p4ss@c.io/c d.io/d", ", source: the source has an '@' before its name; a login is written under auth"),
        ("c.io/C d.io/d", ", source: 'c.io/C' is not a repository"),
        ("c.io/c d.io/D", ", destination: 'd.io/D' is not a repository"),
        ("c.io/c -> d.io/d", ", destination: '->' is not a repository"),
        ('c.io/c ""', f", destination: {NO_DEFAULT}"),
        ("$NOPE/c d.io/d", ", source: the environment variable 'NOPE' is not set"),
        ("c.io/c:1 b.io/b:1", ", destination: line 2 and line 5 differ: a.io/a:1 and c.io/c:1 both go to b.io/b:1"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "Mac"])
def test_a_mistake_is_told_with_its_line(line: str, expected: str, end: str) -> None:
    text = end.join(["# rules", "a.io/a:1 b.io/b:1", "", "e.io/e f.io/f # fine", line, "g.io/g h.io/h"])
    (problem,) = told(text, "rules")
    assert problem.startswith(f"rules, line 5{expected}")
    assert "\n" not in problem
    assert "p4ss" not in problem


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    text = "a.io/A b.io/b\nc.io/c\n\nd.io/d e.io/E, f.io/F\ng.io/g h.io/h\n"
    result = read_text(text, name="rules", environ={})
    assert [(one.line, one.rule, one.field) for one in result.problems] == [
        (1, None, "source"),
        (2, None, None),
        (4, None, "destination"),
        (4, None, "destination"),
    ]
    assert [rule.label for rule in result.config.rules] == ["g.io/g -> h.io/h"]
    with pytest.raises(ConfigError) as caught:
        result.checked()
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "rules, line 1, source",
        "rules, line 2",
        "rules, line 4, destination",
        "rules, line 4, destination",
    ]


def test_half_a_character_is_a_mistake() -> None:
    assert told("a.io/a \ud800", "rules") == ["rules: a text has half a character (a lone surrogate)"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "a:/" * 100_000,
        "a:/" + "/ " * 100_000,
        "a" + " " * 100_000 + "b",
        "a b" + " ," * 100_000,
        "a b" + " #" * 100_000,
        "a b\n" * 50_000,
        "a b\r" * 50_000,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_lines_made_to_cost_cost_no_time(text: str) -> None:
    read_text(text, environ={})
