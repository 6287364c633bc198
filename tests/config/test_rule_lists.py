from __future__ import annotations

import json

import pytest

from airflow_imagesync.config import parse_config, read_text

EXPECTED = "expected a mapping with source and destination, a pair [source, destination] or a text 'source destination'"
RULE = {"source": "a.io/a", "destination": "b.io/b"}


def told(value: object) -> list[str]:
    return [str(problem) for problem in read_text(json.dumps(value), environ={}).problems]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param([RULE], ["a.io/a -> b.io/b"], id="rules"),
        pytest.param([{**RULE, "destination": ["b.io/b", "c.io/c"]}], ["a.io/a -> b.io/b, c.io/c"], id="destinations"),
        pytest.param(
            [["a.io/a:/^v{1}/", "b.io/b"], ["c.io/c", ["d.io/d", "e.io/e"]]],
            ["a.io/a:/^v{1}/ -> b.io/b", "c.io/c -> d.io/d, e.io/e"],
            id="pairs",
        ),
        pytest.param(
            ["a.io/a b.io/b", "c.io/c:/a: b/ d.io/d"], ["a.io/a -> b.io/b", "c.io/c:/a: b/ -> d.io/d"], id="texts"
        ),
        pytest.param(
            [RULE, ["c.io/c", "d.io/d"], "e.io/e f.io/f"],
            ["a.io/a -> b.io/b", "c.io/c -> d.io/d", "e.io/e -> f.io/f"],
            id="mixed",
        ),
        pytest.param([[RULE, RULE], [], [RULE]], ["a.io/a -> b.io/b"] * 3, id="lists of a mapped task"),
        pytest.param({"a.io/a": "b.io/b", "c.io/c": ["d.io/d"]}, ["a.io/a -> b.io/b", "c.io/c -> d.io/d"], id="images"),
        pytest.param(RULE, ["a.io/a -> b.io/b"], id="one rule"),
        pytest.param({"rules": [RULE]}, ["a.io/a -> b.io/b"], id="configuration"),
        pytest.param({"auth": {}, "images": {"a.io/a": "b.io/b"}}, ["a.io/a -> b.io/b"], id="image-syncer's"),
    ],
)
@pytest.mark.parametrize("write", [json.dumps, repr], ids=["JSON", "Python"])
def test_what_a_task_returns(value: object, expected: list[str], write: object) -> None:
    """A template that does not give native objects makes what Python prints of it, which YAML understands."""
    assert callable(write)
    assert [rule.label for rule in parse_config(write(value), environ={}).rules] == expected


def test_rules_in_a_list_may_say_everything_that_a_rule_can() -> None:
    (rule,) = parse_config(json.dumps([{**RULE, "platforms": ["linux/amd64"], "force": True}]), environ={}).rules
    assert ([str(one) for one in rule.platforms], rule.force) == (["linux/amd64"], True)


def test_settings_stand_beside_image_syncers_images() -> None:
    config = parse_config(json.dumps({"defaults": {"retries": 7}, "a.io/a": "b.io/b"}), environ={})
    assert (config.retries, len(config.rules)) == (7, 1)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (5, f": found the number 5, {EXPECTED}"),
        (None, f": found nothing, {EXPECTED}"),
        ("", f": found an empty text, {EXPECTED}"),
        (["a.io/a"], f": found a list of 1, {EXPECTED}"),
        (["a.io/a", "b.io/b", "c.io/c"], f": found a list of 3, {EXPECTED}"),
        (["a.io/a", None], ', destination: found no destination, expected one, a list, or "" for the default'),
        ([1, "b.io/b"], ", source: found the number 1, expected a text; put it in quotes"),
        ("a.io/a", ": found one word, expected source and destination with a blank between them"),
        ({"source": "a.io/a"}, ", destination: found no destination"),
        ({**RULE, "destinations": "x"}, ", destinations: unknown key 'destinations'; did you mean 'destination'?"),
        ({**RULE, "password": "s3cret"}, ", password: unknown key 'password'; expected source, destination,"),
    ],
)
def test_a_mistake_is_told_with_its_rule(item: object, expected: str) -> None:
    (problem,) = told([RULE, item, ["a.io/x", "b.io/x"]])
    assert problem.startswith(f"rule 1{expected}")
    assert "s3cret" not in problem


def test_all_mistakes_are_told_at_once() -> None:
    assert [one.partition(":")[0] for one in told([1, RULE, ["a"], {"source": "A", "destination": "B"}])] == [
        "rule 0",
        "rule 2",
        "rule 3, source",
        "rule 3, destination",
    ]


@pytest.mark.parametrize("value", [[], {}, [[], []], {"rules": []}, {"images": {}}, {"registries": {}, "rules": []}])
def test_what_is_empty_is_a_mistake_unless_it_may_be(value: object) -> None:
    (problem,) = told(value)
    assert problem.endswith("found no rules, expected at least one")
    result = read_text(json.dumps(value), environ={}, may_be_empty=True)
    assert (result.problems, result.config.rules) == ((), ())


@pytest.mark.parametrize(
    "text", ["", "# x", "rules:", "images:", "registries: {}", "auth: {}", "defaults: {}", "x-a: 1"]
)
def test_what_says_nothing_of_rules_is_always_a_mistake(text: str) -> None:
    (problem,) = read_text(text, environ={}, may_be_empty=True).problems
    assert "expected a configuration" in problem.message or "expected at least one" in problem.message
