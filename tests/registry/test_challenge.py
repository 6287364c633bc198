from __future__ import annotations

import pytest

from airflow_imagesync.registry.challenge import Challenge, parse_challenges

BEARER = {"realm": "https://auth.docker.io/token", "service": "registry.docker.io"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param(
            [
                (
                    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                    'scope="repository:library/nginx:pull"'
                )
            ],
            [("bearer", {**BEARER, "scope": "repository:library/nginx:pull"})],
            id="docker-hub",
        ),
        pytest.param(
            ['Bearer realm="https://r/t",scope="repository:a/b:pull,push",error="insufficient_scope"'],
            [
                (
                    "bearer",
                    {"realm": "https://r/t", "scope": "repository:a/b:pull,push", "error": "insufficient_scope"},
                )
            ],
            id="commas-within-a-scope",
        ),
        pytest.param(
            ['Bearer realm="https://r/t",scope="repository:a:pull repository:b:pull"'],
            [("bearer", {"realm": "https://r/t", "scope": "repository:a:pull repository:b:pull"})],
            id="several-scopes-in-one",
        ),
        pytest.param(
            ['Basic realm="https://123.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"'],
            [
                (
                    "basic",
                    {"realm": "https://123.dkr.ecr.eu-west-1.amazonaws.com/", "service": "ecr.amazonaws.com"},
                )
            ],
            id="ecr",
        ),
        pytest.param(
            ["Negotiate", 'Basic realm="x"', 'Bearer realm="https://r/t"'],
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "https://r/t"})],
            id="one-header-each",
        ),
        pytest.param(
            ['Negotiate, Basic realm="x", Bearer realm="https://r/t", service="s"'],
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "https://r/t", "service": "s"})],
            id="all-in-one-header",
        ),
        pytest.param(
            ['BEARER Realm="https://r/t",SERVICE="s"'],
            [("bearer", {"realm": "https://r/t", "service": "s"})],
            id="any-case",
        ),
        pytest.param(
            ["Bearer realm=https://r/t,service=s"],
            [("bearer", {"realm": "https://r/t", "service": "s"})],
            id="unquoted",
        ),
        pytest.param(
            ['Bearer realm = "https://r/t" , service = "s"'],
            [("bearer", {"realm": "https://r/t", "service": "s"})],
            id="spaces-around-equals",
        ),
        pytest.param(
            [r'Basic realm="a \"quoted\" \\ name"'],
            [("basic", {"realm": r'a "quoted" \ name'})],
            id="escapes",
        ),
        pytest.param(
            ['Bearer realm="https://art.example.com/artifactory/api/docker/r/v2/token?x=1&y=2",service="a"'],
            [
                (
                    "bearer",
                    {
                        "realm": "https://art.example.com/artifactory/api/docker/r/v2/token?x=1&y=2",
                        "service": "a",
                    },
                )
            ],
            id="realm-with-a-query",
        ),
        pytest.param(
            ['Bearer realm="/token",service=""'], [("bearer", {"realm": "/token", "service": ""})], id="relative-realm"
        ),
        pytest.param(
            ['NTLM TlRMTVNTUAAC==, Basic realm="x"'],
            [("ntlm", {}), ("basic", {"realm": "x"})],
            id="data-after-a-scheme",
        ),
        pytest.param(['Bearer realm="a",realm="b"'], [("bearer", {"realm": "a"})], id="the-first-of-two-values-counts"),
        pytest.param(["Bearer"], [("bearer", {})], id="a-scheme-alone"),
        pytest.param([""], [], id="empty"),
        pytest.param([], [], id="none"),
        pytest.param(['realm="x"'], [], id="no-scheme"),
        pytest.param(['Bearer realm="never closed'], [("bearer", {"realm": ""})], id="quote-never-closed"),
        pytest.param([", ,, Basic realm=x,,"], [("basic", {"realm": "x"})], id="empty-elements"),
    ],
)
def test_a_header_of_the_real_world_is_understood(
    headers: list[str], expected: list[tuple[str, dict[str, str]]]
) -> None:
    assert parse_challenges(headers) == [Challenge(*one) for one in expected]


@pytest.mark.parametrize(
    "text", ['Bearer realm="' + "\\" * 60_000, "a=" * 30_000, "a," * 30_000, '"' * 60_000], ids=lambda text: text[:9]
)
@pytest.mark.timeout(5)
def test_a_hostile_header_costs_no_time(text: str) -> None:
    parse_challenges([text] * 10)
