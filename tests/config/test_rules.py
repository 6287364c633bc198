from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_imagesync.config import Overrides, ReadResult, read_text
from airflow_imagesync.domain.platform import Platform

DIGEST = "sha256:" + "0a" * 32
AMD64, ARM64, ARM = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm")
ENVIRON = {"HOST": "h.io", "TAGS": "1,2", "ALL": "h.io/all:3", "EMPTY": ""}
PLACE = {"DEFAULT_REGISTRY": "env.io", "DEFAULT_NAMESPACE": "envspace"}


def read(*rules: dict[str, Any], environ: dict[str, str] | None = None, **top: Any) -> ReadResult:
    overrides = top.pop("overrides", None)
    text = json.dumps({"rules": rules, **top})
    return read_text(text, environ=ENVIRON if environ is None else environ, overrides=overrides)


def labels(result: ReadResult) -> list[str]:
    """Return the pairs of all rules whose tags are known, else source and destinations."""
    assert result.problems == ()
    return [
        f"{source} {destination}"
        for rule in result.config.rules
        for source, destination in (rule.pairs() or [(rule, one.repository) for one in rule.destinations])
    ]


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        pytest.param("a.io/a", "b.io/b", ["a.io/a b.io/b"], id="all tags"),
        pytest.param("a.io/a:/^1/", "b.io/b", ["a.io/a:/^1/ b.io/b"], id="pattern"),
        pytest.param("a.io/a:1", "b.io/b", ["a.io/a:1 b.io/b:1"], id="tag"),
        pytest.param("a.io/a:1,2", "b.io/b:x,y", ["a.io/a:1 b.io/b:x", "a.io/a:2 b.io/b:y"], id="renamed"),
        pytest.param("a.io/a:1,1", "b.io/b:x,x", ["a.io/a:1 b.io/b:x"], id="same pair once"),
        pytest.param("a.io/a:1", ["b.io/b", "c.io/c:2"], ["a.io/a:1 b.io/b:1", "a.io/a:1 c.io/c:2"], id="list"),
        pytest.param("a.io/a:1", ["b.io/b", "b.io/b"], ["a.io/a:1 b.io/b:1"], id="list with one twice"),
        pytest.param(
            "a.io/a", ["x/b", "docker.io/x/b", "index.docker.io/x/b"], ["a.io/a docker.io/x/b"], id="one name twice"
        ),
        pytest.param(f"a.io/a@{DIGEST}", "b.io/b", [f"a.io/a@{DIGEST} b.io/b@{DIGEST}"], id="digest"),
        pytest.param(f"a.io/a:1@{DIGEST}", "b.io/b", [f"a.io/a@{DIGEST} b.io/b:1"], id="tag and digest"),
        pytest.param("nginx", "foo/bar", ["docker.io/library/nginx docker.io/foo/bar"], id="Docker Hub"),
        pytest.param("$HOST/a:$TAGS", "${HOST}/b", ["h.io/a:1 h.io/b:1", "h.io/a:2 h.io/b:2"], id="variables"),
        pytest.param("$ALL", "b.io/b$EMPTY", ["h.io/all:3 b.io/b:3"], id="variable for all of it"),
        pytest.param("$HOST/a:/^$TAGS$/", "b.io/b", ["h.io/a:/^$TAGS$/ b.io/b"], id="no variables in patterns"),
        pytest.param("a.io/a:1", ["$HOST/b", "h.io/b"], ["a.io/a:1 h.io/b:1"], id="same once filled in"),
    ],
)
def test_rule(source: str, destination: object, expected: list[str]) -> None:
    assert labels(read({"source": source, "destination": destination})) == expected


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ({"destination": "b.io/b"}, "source", "found no source, expected registry/repository"),
        ({"source": None, "destination": "b.io/b"}, "source", "found no source"),
        ({"source": "", "destination": "b.io/b"}, "source", "the source is empty"),
        ({"source": 1, "destination": "b.io/b"}, "source", "found the number 1, expected a text; put it in quotes"),
        ({"source": ["a"], "destination": "b.io/b"}, "source", "found a list, expected a text"),
        ({"source": "a.io/a"}, "destination", 'found no destination, expected one, a list, or ""'),
        ({"source": "a.io/a", "destination": None}, "destination", "found no destination"),
        ({"source": "a.io/a", "destination": []}, "destination", "found an empty list, expected at least one text"),
        ({"source": "a.io/a", "destination": {}}, "destination", "found a mapping, expected a text or a list of texts"),
        ({"source": "a.io/a", "destination": 1.5}, "destination", "found the number 1.5, expected a text or a list"),
        ({"source": "a.io/a", "destination": ["b.io/b", 2]}, "destination", "found the number 2 at position 1"),
        ({"source": "a.io/a", "destination": ["b.io/b", None]}, "destination", "found nothing at position 1"),
        ({"source": "a.io/A", "destination": "b.io/b"}, "source", "is not a repository"),
        ({"source": "a.io/a:/(/", "destination": "b.io/b"}, "source", "is not a regular expression in RE2"),
        ({"source": "https://a.io/a", "destination": "b.io/b"}, "source", "write it without: 'a.io/a'"),
        ({"source": "a.io/a", "destination": "b.io/b:1"}, "destination", "expected no tag"),
        ({"source": "a.io/a:1,2", "destination": "b.io/b:1"}, "destination", "has 1 tag, but the source has 2"),
        (
            {"source": "a.io/a:1", "destination": f"b.io/b@{DIGEST}"},
            "destination",
            "only a source with the same digest",
        ),
        ({"source": "$NO/a", "destination": "b.io/b"}, "source", "the environment variable 'NO' is not set"),
        ({"source": "a.io/a", "destination": ["$NO/b"]}, "destination", "the environment variable 'NO' is not set"),
        ({"source": "a.io/a:$1", "destination": "b.io/b"}, "source", "'$1' is not a tag"),
        ({"source": "a", "destination": "b.io/b", "platforms": "linux/amd64"}, "platforms", "expected a list of texts"),
        ({"source": "a", "destination": "b.io/b", "platforms": ["amd64"]}, "platforms", "'amd64' is not a platform"),
        ({"source": "a", "destination": "b.io/b", "platforms": [1]}, "platforms", "found the number 1 at position 0"),
        ({"source": "a", "destination": "b.io/b", "force": "yes"}, "force", "found the text 'yes', expected true or"),
        (
            {"source": "a", "destination": "b.io/b", "allow_empty": 1},
            "allow_empty",
            "found the number 1, expected true",
        ),
        ({"source": "a", "destination": "b.io/b", "platform": []}, "platform", "did you mean 'platforms'?"),
        ({"source": "a", "destination": "b.io/b", "allow-empty": True}, "allow-empty", "did you mean 'allow_empty'?"),
        (
            {"source": "a", "destination": "b.io/b", "qq": 1},
            "qq",
            "expected source, destination, platforms, allow_empty",
        ),
    ],
)
def test_bad_rule(rule: dict[str, Any], field: str, message: str) -> None:
    good = {"source": "a.io/a", "destination": "b.io/good"}
    result = read(good, rule, good)
    ((problem),) = result.problems
    assert (problem.rule, problem.field) == (1, field)
    assert message in problem.message
    assert [one.index for one in result.config.rules] == [0, 2]


def test_rule_that_is_no_mapping() -> None:
    (problem,) = read_text("rules: [a.io/a]", environ={}).problems
    assert (problem.rule, problem.field) == (0, None)
    assert problem.message.startswith("found the text 'a.io/a', expected a mapping with source, destination")


def test_every_mistake_of_every_rule_is_told_in_order() -> None:
    result = read(
        {"source": "A", "destination": ["B", "b.io/b:x", "C"], "platforms": ["x"], "typo": 1},
        {"source": "a.io/a"},
        {"source": "a.io/a", "destination": ""},
    )
    assert [(problem.rule, problem.field) for problem in result.problems] == [
        (0, "typo"),
        (0, "source"),
        (0, "destination"),
        (0, "destination"),
        (0, "platforms"),
        (1, "destination"),
        (2, "destination"),
    ]


def test_extension_keys_are_left_out() -> None:
    assert labels(read({"source": "a.io/a", "destination": "b.io/b", "x-owner": {"any": ["thing"]}})) == [
        "a.io/a b.io/b"
    ]


@pytest.mark.parametrize(
    ("top", "overrides", "environ", "expected"),
    [
        pytest.param({}, Overrides(), PLACE, "env.io/envspace", id="environment"),
        pytest.param({"registry": "file.io"}, Overrides(), PLACE, "file.io/envspace", id="file over environment"),
        pytest.param({"namespace": "a/b"}, Overrides(), PLACE, "env.io/a/b", id="namespace of two parts"),
        pytest.param(
            {"registry": "file.io", "namespace": "fs"}, Overrides("flag.io", "ns"), PLACE, "flag.io/ns", id="flag first"
        ),
        pytest.param(
            {"registry": "file.io", "namespace": "fs"}, Overrides("flag.io"), {}, "flag.io/fs", id="each part"
        ),
        pytest.param({"registry": "HUB:5000", "namespace": "fs"}, Overrides(), {}, "hub:5000/fs", id="normalised"),
        pytest.param({"registry": "index.docker.io", "namespace": "me"}, Overrides(), {}, "docker.io/me", id="hub"),
    ],
)
def test_empty_destination(top: dict[str, str], overrides: Overrides, environ: dict[str, str], expected: str) -> None:
    rules = [
        {"source": source, "destination": ["", f"x.io/x{number}"]}
        for number, source in enumerate(("q.io/a/b/etcd:1,2", "nginx:1", f"q.io/a/c@{DIGEST}", f"q.io/a/d:9@{DIGEST}"))
    ]
    found = labels(read(*rules, defaults=top, overrides=overrides, environ=environ))
    assert [pair for pair in found if " x.io" not in pair] == [
        f"q.io/a/b/etcd:1 {expected}/etcd:1",
        f"q.io/a/b/etcd:2 {expected}/etcd:2",
        f"docker.io/library/nginx:1 {expected}/nginx:1",
        f"q.io/a/c@{DIGEST} {expected}/c@{DIGEST}",
        f"q.io/a/d@{DIGEST} {expected}/d:9",
    ]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "there is no default registry; expected a destination, or defaults.registry, --default-registry or"),
        ({"DEFAULT_REGISTRY": ""}, "there is no default registry"),
        ({"DEFAULT_REGISTRY": "a.io"}, "there is no default namespace; expected a destination, or defaults.namespace"),
        ({"DEFAULT_NAMESPACE": "a"}, "there is no default registry"),
        ({"DEFAULT_REGISTRY": "https://a.io", "DEFAULT_NAMESPACE": "a"}, "its default is wrong: 'https://a.io' begins"),
        ({"DEFAULT_REGISTRY": "a.io", "DEFAULT_NAMESPACE": "A"}, "its default is wrong: 'A' is not a namespace"),
        ({"DEFAULT_REGISTRY": "hub", "DEFAULT_NAMESPACE": "a"}, "'hub' would be read as a namespace of Docker Hub"),
    ],
)
def test_empty_destination_without_default(environ: dict[str, str], message: str) -> None:
    result = read(
        {"source": "a.io/a", "destination": "b.io/b"}, {"source": "a.io/a", "destination": ""}, environ=environ
    )
    (problem,) = result.problems
    assert (problem.rule, problem.field) == (1, "destination")
    assert message in problem.message


@pytest.mark.parametrize(
    ("top", "field", "message"),
    [
        ({"registry": "https://a.io"}, "registry", "write it without: 'a.io'"),
        ({"registry": "a.io/team"}, "registry", "'a.io/team' is not a registry"),
        ({"registry": "hub"}, "registry", "like hub:443"),
        ({"namespace": "A"}, "namespace", "'A' is not a namespace"),
        ({"namespace": "a/"}, "namespace", "'a/' is not a namespace"),
        ({"platforms": ["x"]}, "platforms", "'x' is not a platform"),
        ({"platforms": "linux/amd64"}, "platforms", "found the text 'linux/amd64', expected a list of texts"),
        ({"concurrency": 0}, "concurrency", "found the number 0, expected a whole number from 1 to 256"),
        ({"concurrency": 257}, "concurrency", "found the number 257, expected a whole number from 1 to 256"),
        ({"concurrency": "8"}, "concurrency", "found the text '8', expected a whole number from 1 to 256"),
        ({"retries": -1}, "retries", "found the number -1, expected a whole number from 0 to 20"),
        ({"retries": 21}, "retries", "expected a whole number from 0 to 20"),
        ({"retry": 2}, "retry", "unknown key 'retry'; did you mean 'retries'?"),
        ({"trust_records": 1}, "trust_records", "found the number 1, expected true or false"),
        ({"full_check_every": 0}, "full_check_every", "found the number 0, expected a whole number of at least 1"),
        ({"full_check_every": 2.5}, "full_check_every", "expected a whole number of at least 1"),
        ({"full_check_every": True}, "full_check_every", "found the truth value true, expected a whole number"),
        ({"trust_record": True}, "trust_record", "did you mean 'trust_records'?"),
        ([], None, "found an empty list, expected a mapping with registry, namespace, platforms"),
    ],
)
def test_bad_defaults(top: object, field: str | None, message: str) -> None:
    result = read({"source": "a.io/a", "destination": ["b.io/b", ""]}, defaults=top, environ=PLACE)
    (problem,) = result.problems
    assert (problem.rule, problem.field) == (None, f"defaults.{field}" if field else "defaults")
    assert message in problem.message


@pytest.mark.parametrize(
    ("overrides", "field", "message"),
    [
        (Overrides(registry="https://a.io"), "registry", "write it without: 'a.io'"),
        (Overrides(namespace="A"), "namespace", "'A' is not a namespace"),
        (Overrides(concurrency=0), "concurrency", "found the number 0, expected a whole number from 1 to 256"),
        (Overrides(concurrency=257), "concurrency", "expected a whole number from 1 to 256"),
        (Overrides(retries=21), "retries", "expected a whole number from 0 to 20"),
    ],
)
def test_bad_overrides(overrides: Overrides, field: str, message: str) -> None:
    (problem,) = read({"source": "a.io/a", "destination": "b.io/b"}, overrides=overrides).problems
    assert (problem.file, problem.rule, problem.field) == (None, None, field)
    assert message in problem.message


def test_numbers_of_overrides_win_over_the_file_and_the_file_over_ours() -> None:
    rule = {"source": "a.io/a", "destination": "b.io/b"}
    cases = (
        ({}, Overrides(), (8, 3)),
        ({"concurrency": 1, "retries": 0}, Overrides(), (1, 0)),
        ({"concurrency": 256, "retries": 20}, Overrides(concurrency=2, retries=0), (2, 0)),
        ({"concurrency": None}, Overrides(), (8, 3)),
    )
    for defaults, overrides, expected in cases:
        config = read(rule, defaults=defaults, overrides=overrides).checked()
        assert (config.concurrency, config.retries) == expected


@pytest.mark.parametrize(
    ("rule", "overrides", "expected"),
    [
        pytest.param({}, (), (AMD64, ARM64), id="defaults"),
        pytest.param({"platforms": ["linux/arm", "linux/arm"]}, (), (ARM,), id="rule over defaults"),
        pytest.param({"platforms": []}, (), (), id="rule asks for all"),
        pytest.param({"platforms": None}, (), (AMD64, ARM64), id="rule says nothing"),
        pytest.param({"platforms": ["linux/arm"]}, (AMD64,), (AMD64,), id="override over rule"),
        pytest.param({"platforms": []}, (AMD64,), (AMD64,), id="override over all"),
    ],
)
def test_platforms(rule: dict[str, Any], overrides: tuple[Platform, ...], expected: tuple[Platform, ...]) -> None:
    config = read(
        {"source": "a.io/a", "destination": "b.io/b", **rule},
        defaults={"platforms": ["linux/amd64", "linux/arm64"]},
        overrides=Overrides(platforms=overrides),
    ).checked()
    assert config.rules[0].platforms == expected


def test_flags_of_a_rule() -> None:
    rules = [
        {"source": "a.io/a", "destination": "b.io/b"},
        {"source": "a.io/a", "destination": "b.io/c", "force": True, "allow_empty": True},
    ]
    assert [(rule.force, rule.allow_empty) for rule in read(*rules).checked().rules] == [(False, False), (True, True)]
    forced = read(*rules, overrides=Overrides(force=True)).checked()
    assert [rule.force for rule in forced.rules] == [True, True]


def test_a_rule_says_for_itself_whether_records_are_trusted() -> None:
    written = [
        {"source": "a.io/a", "destination": f"b.io/{number}", **more}
        for number, more in enumerate(({}, {"trust_records": None}, {"trust_records": True}, {"trust_records": False}))
    ]

    def found(defaults: dict[str, Any]) -> list[tuple[bool, int]]:
        read_rules = read(*written, defaults=defaults).checked().rules
        return [(rule.trust_records, rule.full_check_every) for rule in read_rules]

    assert found({}) == [(False, 10), (False, 10), (True, 10), (False, 10)]
    assert found({"trust_records": True, "full_check_every": 1}) == [(True, 1), (True, 1), (True, 1), (False, 1)]


def test_the_defaults_of_image_syncers_spelling_may_trust_records() -> None:
    (rule,) = read_text("defaults: {trust_records: true, full_check_every: 7}\nq.io/a: b.io/b").checked().rules
    assert (rule.trust_records, rule.full_check_every) == (True, 7)


def test_records_that_are_trusted_by_something_else_than_yes_or_no_are_a_mistake() -> None:
    (problem,) = read({"source": "a.io/a", "destination": "b.io/b", "trust_records": "yes"}).problems
    assert (problem.rule, problem.field) == (0, "trust_records")
    assert "found the text 'yes', expected true or false" in problem.message


def rules(*pairs: tuple[str, object]) -> list[dict[str, Any]]:
    return [{"source": source, "destination": destination} for source, destination in pairs]


@pytest.mark.parametrize(
    ("pairs", "rule", "message"),
    [
        pytest.param(
            [("a.io/a:1", "x.io/x:t"), ("b.io/b", "x.io/y"), ("a.io/a:2", "x.io/x:t")],
            2,
            "rule 0 and rule 2 differ: a.io/a:1 and a.io/a:2 both go to x.io/x:t; expected one source",
            id="two tags",
        ),
        pytest.param([("a.io/a:1", "x.io/x"), ("b.io/b:1", "x.io/x")], 1, "rule 0 and rule 1 differ", id="kept tags"),
        pytest.param([("a.io/a:1", "x.io/x"), ("a.io/a:2", "x.io/x:1")], 1, "both go to x.io/x:1", id="kept and given"),
        pytest.param(
            [("a.io/a:1,2", "x.io/x:t,t")], 0, "a.io/a:1 and a.io/a:2 both go to x.io/x:t; expected", id="one rule"
        ),
        pytest.param(
            [("a.io/a:1,2", ["x.io/x:a,b", "x.io/x:b,a"])],
            0,
            "a.io/a:1 and a.io/a:2 both go to x",
            id="two destinations",
        ),
        pytest.param(
            [("a.io/a:1", "x.io/x:t"), (f"a.io/a@{DIGEST}", "x.io/x:t")], 1, f"a.io/a@{DIGEST} both go", id="digest"
        ),
        pytest.param(
            [("a.io/a:t", "x/x"), (f"a.io/a:t@{DIGEST}", "docker.io/x/x")], 1, "docker.io/x/x:t", id="names normalised"
        ),
    ],
)
def test_different_sources_for_one_tag(pairs: list[tuple[str, object]], rule: int, message: str) -> None:
    result = read(*rules(*pairs))
    (problem,) = result.problems
    assert (problem.rule, problem.field) == (rule, "destination")
    assert message in problem.message
    assert rule not in [one.index for one in result.config.rules]


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([("a.io/a:1", "x.io/x:t"), ("a.io/a:1", "x.io/x:t")], id="same pair"),
        pytest.param([("a.io/a:1,2", "x.io/x"), ("a.io/a:2,3", "x.io/x")], id="overlap"),
        pytest.param([("a.io/a:1", "x.io/x:t"), ("a.io/a:1", "x.io/x:u")], id="two tags of one source"),
        pytest.param([("a.io/a", "x.io/x"), ("b.io/b:1", "x.io/x")], id="not known before listing"),
        pytest.param([("a.io/a:/1/", "x.io/x"), ("b.io/b:1", "x.io/x")], id="not known before matching"),
        pytest.param([(f"a.io/a@{DIGEST}", "x.io/x"), (f"b.io/b@{DIGEST}", "x.io/x")], id="one digest from two places"),
    ],
)
def test_what_is_no_conflict(pairs: list[tuple[str, object]]) -> None:
    result = read(*rules(*pairs))
    assert result.problems == ()
    assert len(result.config.rules) == 2


def test_same_pair_with_different_platforms() -> None:
    first, second = rules(("a.io/a:1", "x.io/x"), ("a.io/a:1", "x.io/x"))
    platforms = ["linux/amd64", "linux/arm"]
    assert read(first | {"platforms": platforms}, second | {"platforms": platforms[::-1]}).problems == ()
    (problem,) = read(first | {"platforms": platforms}, second).problems
    assert (problem.rule, problem.field) == (1, "platforms")
    assert problem.message == (
        "rule 0 and rule 1 copy a.io/a:1 to x.io/x:1 with different platforms; expected the same"
    )


def test_two_rules_that_differ_in_many_tags_are_told_once() -> None:
    tags = ",".join(str(number) for number in range(100))
    assert len(read(*rules((f"a.io/a:{tags}", "x.io/x"), (f"b.io/b:{tags}", "x.io/x"))).problems) == 1
