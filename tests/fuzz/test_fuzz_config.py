from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_imagesync.config import parse_config
from airflow_imagesync.config.loader import ReadResult, read_text
from airflow_imagesync.errors import ConfigError
from tests.fuzz.strategies import fuzz, objects, texts, values

SECRET = "hunter22"
ENVIRON = {"REG": "registry.example.com", "PASSWORD": SECRET, "EMPTY": "", "ODD": "a\nb"}

sources = texts(
    "quay.io/a/b", ":v1", ":v1,v2", ":/^v/", ":/(/", "$REG", "${REG}/a", "${NOT_SET}", "/", "@sha256:x", "A"
)
destinations = texts("registry.example.com/m", "$REG/x", ":v1", ":v1,v2", "", "/", "${EMPTY}", "${ODD}")
rules = objects(
    {
        "source": st.one_of(st.just("quay.io/a/b:v1"), sources),
        "destination": st.one_of(destinations, st.lists(destinations, max_size=3)),
        "platforms": st.lists(texts("linux/amd64", "linux", "/", "arm/v7"), max_size=2),
        "allow_empty": st.booleans(),
        "force": st.booleans(),
    }
)
entries = objects(
    {
        "conn_id": st.just("c"),
        "username": st.sampled_from(["mover", "${PASSWORD}", "${NOT_SET}", "$", "$$x"]),
        "password": st.sampled_from([SECRET, "${PASSWORD}", 12345]),
        "identitytoken": st.just(SECRET),
        "insecure": st.booleans(),
        "tls_verify": st.booleans(),
        "ca_file": st.sampled_from(["/nowhere/ca.pem", ""]),
        "proxy": texts("http://", "proxy:1", f"u:{SECRET}@", "environment"),
        "max_concurrent": st.integers(-1, 4),
        "requests_per_second": st.floats(),
        "min_remaining": st.integers(),
        "token_realm_hosts": st.lists(texts("a.example", "/"), max_size=2),
        "docker_config": st.booleans(),
    }
)
registries = st.dictionaries(
    texts("quay.io", "/a", "docker.io", "index.docker.io", ":5000", "x-y"), entries, max_size=3
)
defaults = objects(
    {
        "registry": texts("registry.example.com", "/"),
        "namespace": texts("m", "/", ".."),
        "platforms": st.lists(texts("linux/amd64", "x"), max_size=2),
        "concurrency": st.integers(-1, 300),
        "retries": st.integers(-1, 30),
        "timeouts": objects(
            {"connect": st.floats(), "read": st.integers(), "slow": st.floats(), "min_rate": st.floats()}
        ),
        "docker_config": st.one_of(st.booleans(), texts("/nowhere")),
        "credential_helpers": st.booleans(),
    }
)
images = st.dictionaries(sources, st.one_of(destinations, st.lists(destinations, max_size=2)), max_size=3)
documents = st.one_of(
    objects({"registries": registries, "defaults": defaults, "rules": st.lists(rules, max_size=3)}),
    objects({"auth": registries, "defaults": defaults, "images": images}),
    images,
    values,
)


def read(text: str, *, secret: str = SECRET) -> ReadResult:
    """Read a text; whatever it is, this must not raise."""
    result = read_text(text, name="fuzz.yaml", environ=ENVIRON)
    for problem in result.problems:
        told = str(problem)
        assert told
        assert secret not in told
        assert "\n" not in told
        told.encode()
    return result


@fuzz(200)
@given(documents)
def test_any_document_is_a_configuration_or_has_problems_with_places(document: Any) -> None:
    text = json.dumps(document)
    result = read(text)
    if not result.problems:
        config = parse_config(text, environ=ENVIRON)
        assert config == result.config
        assert SECRET not in repr(config)
        assert config.rules
        assert 1 <= config.concurrency <= 256
    else:
        with pytest.raises(ConfigError):
            parse_config(text, environ=ENVIRON)


TEXTS = texts(
    *("rules:", "registries:", "images:", "auth:", "defaults:", "\n", "\n  ", "- ", "{", "}", "[", "]", ",", ": ", '"'),
    *("'", "&a ", "*a", "<<: ", "!!int ", "!x ", "# ", "//", "/*", "*/", "|", ">", "---", "...", "%YAML", "? ", "\t"),
    *("source: quay.io/a", "destination: x.io/b", "password: hunter22", "null", "1e999", "0x", "2001-01-01", "\\ud800"),
    longest=20,
)


@fuzz(300)
@given(TEXTS)
@example('{"rules": [{"source": "a.io/b:/\\ud800/", "destination": "c.io/d"}]}')
@example("&a [*a]")
@example("a: &a {<<: *a}")
@example("\ufeff{}")
@example("? [a]: b")
@example("!!float x")
@example("!!int _")
@example("1:" * 5000 + "1")
@example("a: !!bool maybe")
@example("2001-99-99: 1")
def test_any_text_is_a_configuration_or_has_problems(text: str) -> None:
    read(text, secret="not there")  # a password that stands where an image is expected is taken for one


name = st.text("abcz09", min_size=1, max_size=6)
simple = st.fixed_dictionaries(
    {
        "source": st.builds(lambda host, path, tag: f"{host}.io/{path}:{tag}", name, name, name),
        "destination": st.builds(
            lambda host, paths: [f"{host}.com/{one}" for one in paths], name, st.lists(name, min_size=1, max_size=3)
        ),
    },
    optional={"platforms": st.lists(st.sampled_from(["linux/amd64", "linux/arm64"])), "force": st.booleans()},
)


@fuzz(50)
@given(st.lists(simple, min_size=1, max_size=4))
def test_a_configuration_means_the_same_in_yaml_and_json(wanted: list[dict[str, Any]]) -> None:
    document = {"rules": wanted}
    one = read(json.dumps(document))
    other = read(yaml.safe_dump(document))
    assert one == other
    if not one.problems:
        assert [str(rule) for rule in one.config.rules] == [rule["source"] for rule in wanted]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 100_000,
        "- " * 100_000,
        "a: " * 100_000,
        "/*" * 100_000,
        "//" * 100_000,
        "/**/" * 100_000 + '{"',
        '"' * 100_001,
        "\\" * 100_000,
        "a: &a [" + "x, " * 100_000 + "]",
        "&a " * 50_000,
        "x: |\n" + " " * 100_000,
        "\n" * 100_000,
        "a.io/b: c.io/d\n" * 20_000,
        "${A}" * 100_000,
        'a: "' + "$" * 100_000 + '"',
        "9" * 100_000,
        "1_" * 100_000,
        "1:" * 50_000 + "1",
        "'a.io/b:/" + "(" * 1000 + "a" + ")" * 1000 + "/': c.io/d",
        "a: [&b x, " + "*b, " * 100_000 + "]",
        "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
    ],
    ids=lambda text: text[:10],
)
def test_a_text_made_to_cost_costs_no_time(text: str) -> None:
    read(text)
