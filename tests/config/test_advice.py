from __future__ import annotations

import json

import pytest

from airflow_imagesync.config import parse_config, read_text


def warnings(registries: dict[str, object], *pairs: tuple[str, str]) -> tuple[str, ...]:
    text = json.dumps({"registries": registries, "rules": [{"source": a, "destination": b} for a, b in pairs]})
    return parse_config(text, environ={}).warnings


PAIR = ("a.io/team/a", "b.io/team/b")


@pytest.mark.parametrize(
    ("registries", "unused"),
    [
        pytest.param({"a.io": {}, "b.io": {}}, [], id="both sides"),
        pytest.param({"a.io": {}, "c.io": {}}, ["c.io"], id="another registry"),
        pytest.param({"a.io:443": {}, "a.io": {}}, ["a.io:443"], id="another port"),
        pytest.param({"a.io/team": {}, "b.io/other": {}}, ["b.io/other"], id="another namespace"),
        pytest.param({"a.io/team": {}, "a.io": {}}, ["a.io"], id="covered by a longer key"),
        pytest.param({"a.io/team": {}, "a.io": {"insecure": True}}, [], id="longer key inherits from it"),
    ],
)
def test_login_that_no_rule_uses(registries: dict[str, object], unused: list[str]) -> None:
    assert list(warnings(registries, PAIR)) == [f"registries.{key}: no rule uses this entry" for key in unused]


def test_the_key_that_holds_the_logins_is_named() -> None:
    found = parse_config('{"auth": {"c.io": {}}, "images": {"a.io/a": "b.io/b"}}', environ={}).warnings
    assert found == ("auth.c.io: no rule uses this entry",)


@pytest.mark.parametrize(
    ("key", "registry", "reason"),
    [
        ("r.example.com:5000", "r.example.com", "which differs in the port"),
        ("r.example.com", "r.example.com:5000", "which differs in the port"),
        ("r.example.com:5000", "r.example.com:5001", "which differs in the port"),
        ("[::1]", "[::1]:5000", "which differs in the port"),
        ("r.exmaple.com", "r.example.com", "which is spelled almost alike"),
        ("r.example.com", "r.exampl.com", "which is spelled almost alike"),
        ("r.example.com", "rr.example.com", "which is spelled almost alike"),
        ("r.example.com/team", "r.example.com", "which is spelled almost alike"),
        ("hub.docker.com", "docker.io", "which is another spelling of Docker Hub"),
        ("registry.hub.docker.io", "docker.io", "which is another spelling of Docker Hub"),
        ("docker.io", "registry.docker.com", "which is another spelling of Docker Hub"),
    ],
)
def test_near_miss(key: str, registry: str, reason: str) -> None:
    source = f"{registry}/teams/a"
    assert warnings({key: {}}, (source, "z.org/z"), ("z.org/z", "other.org/x"), (source, "y.org/y")) == (
        f"registries.{key}: no rule uses this entry",
        f"rules 0 and 2: {registry} is used without a login, but there is one for {key}, {reason}",
    )


@pytest.mark.parametrize("key", ["foo", "foo:5000"])
def test_a_registry_without_a_port_is_a_namespace_of_docker_hub(key: str) -> None:
    assert warnings({key: {}}, ("z.org/z", "foo/bar"))[1] == (
        f"rule 0: docker.io is used without a login, but there is one for {key}, and foo/... without a port is a "
        "Docker Hub name"
    )


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "gcr.io"),
        ("gcr.io", "ghcr.io"),
        ("registry1.example.com", "registry2.example.com"),
        ("registry1.example.com", "registry12.example.com"),
        ("registry12.example.com", "registry21.example.com"),
        ("10.0.0.15", "10.0.0.51"),
        ("registry-a.example.com", "registry-b.example.com"),
        ("eu.gcr.io", "us.gcr.io"),
        ("a.io", "b.io"),
        ("docker.io", "quay.io"),
        ("r.example.com/sales", "r.example.com"),
    ],
)
def test_names_that_are_meant_to_differ(key: str, registry: str) -> None:
    assert warnings({key: {}}, (f"{registry}/team/a", "z.org/z")) == (f"registries.{key}: no rule uses this entry",)


def test_other_names_of_docker_hub_are_told() -> None:
    found = warnings(
        {},
        ("registry.hub.docker.com/library/nginx", "b.io/b"),
        ("a.io/a", "Index.Docker.io/me/a"),
        ("docker.io/library/nginx", "b.io/c"),
        ("registry.hub.docker.com/library/redis:1", "registry.hub.docker.com/me/redis"),
    )
    assert found == (
        "rules 0 and 3: registry.hub.docker.com is taken for docker.io",
        "rule 1: index.docker.io is taken for docker.io",
    )


def test_many_rules_are_counted() -> None:
    pairs = [("index.docker.io/library/nginx", f"b.io/b{number}") for number in range(100)]
    assert warnings({}, *pairs) == ("rules 0, 1, 2, 3, 4 and 95 more: index.docker.io is taken for docker.io",)


@pytest.mark.parametrize(
    ("source", "destination", "told"),
    [
        ("a.io/a", "a.io/a", True),
        ("a.io/a:1", "a.io/a", True),
        ("a.io/a:1", "a.io/a:1", True),
        ("a.io/a:/1/", "a.io/a", True),
        ("a.io/a:1", "a.io/a:2", False),
        ("a.io/a", "a.io/b", False),
    ],
)
def test_copy_to_itself(source: str, destination: str, told: bool) -> None:
    assert warnings({}, (source, destination)) == (("rule 0: a.io/a is copied to itself",) if told else ())


def test_no_guesses_while_rules_are_missing() -> None:
    result = read_text("auth: {a.io: {}}\nimages: {a.io/A: b.io/b}", environ={})
    assert result.problems
    assert result.config.warnings == ()
