from __future__ import annotations

import pytest

from airflow_imagesync.domain.allowed import AllowedHosts
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, Destination, Rule
from airflow_imagesync.errors import ConfigError


@pytest.mark.parametrize(
    ("hosts", "name", "expected"),
    [
        (["quay.io"], "quay.io/a/b", True),
        (["Quay.IO"], "quay.io/a/b", True),
        (["quay.io"], "evil-quay.io/a/b", False),
        (["quay.io"], "quay.io.evil.example/a/b", False),
        (["quay.io"], "quay.io:8443/a/b", False),
        (["quay.io:8443"], "quay.io:8443/a/b", True),
        (["quay.io:8443"], "quay.io/a/b", False),
        (["docker.io"], "nginx", True),
        (["index.docker.io"], "registry-1.docker.io/library/nginx", True),
        (["quay.io"], "nginx", False),
        (["*.example.com"], "registry.example.com/a", True),
        (["*.example.com"], "a.b.example.com/a", True),
        (["*.example.com"], "example.com/a", False),
        (["*.example.com"], "evilexample.com/a", False),
        (["*.example.com"], "registry.example.com:5000/a", False),
        (["*.example.com:5000"], "registry.example.com:5000/a", True),
        (["*.example.com"], "registry.example.com.evil.example/a", False),
        ("quay.io, *.example.com", "registry.example.com/a", True),
        ("quay.io registry.example.com", "registry.example.com/a", True),
        (["127.0.0.1:5000"], "127.0.0.1:5000/a", True),
        (["[::1]:5000"], "[::1]:5000/a", True),
        (["127.0.0.1:5000"], "2130706433:5000/a", False),
    ],
)
def test_a_registry_is_allowed_by_its_exact_name_or_a_domain_above(
    hosts: list[str] | str, name: str, expected: bool
) -> None:
    assert AllowedHosts.parse(hosts).allow(Repository.parse(name)) is expected


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (["https://quay.io"], "found 'https://quay.io', expected host, host:port or"),
        (["*"], r"found '\*'"),
        (["*."], r"found '\*\.'"),
        (["**.example.com"], "found"),
        (["a.*.example.com"], "found"),
        (["quay.io/team"], "found 'quay.io/team'"),
        ([""], "found ''"),
        ("", "found ''"),
        ([], "found nothing, expected at least one host; leave it out to allow all"),
    ],
)
def test_what_is_no_list_of_hosts_is_a_mistake_and_allows_nothing(hosts: list[str] | str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AllowedHosts.parse(hosts)


def test_every_registry_that_is_not_allowed_is_told_with_its_place() -> None:
    ok, bad, worse = (Repository.parse(name) for name in ("quay.io/a", "evil.example/b", "10.0.0.1:80/c"))
    rules = [
        Rule(0, ok, AllTags(), (Destination(ok),)),
        Rule(1, bad, AllTags(), (Destination(ok), Destination(worse))),
    ]
    allowed = AllowedHosts.parse(["quay.io"])
    allowed.check([ok], [ok], rules)
    with pytest.raises(ConfigError) as caught:
        allowed.check([ok, bad], [ok, worse], rules)
    assert str(caught.value).splitlines() == [
        "rule 1, source: evil.example/b: the registry evil.example is none that this task may use (allowed_hosts)",
        "rule 1, destination: 10.0.0.1:80/c: the registry 10.0.0.1:80 is none that this task may use (allowed_hosts)",
    ]
