from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_imagesync.config import parse_config
from airflow_imagesync.domain.check import check_document
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.errors import Problem

DIGEST = "sha256:" + "0a" * 32


def destination(tags: list[str] | None = None, digest: str | None = None) -> dict[str, Any]:
    return {"repository": "x.io/x", "tags": tags, "digest": digest, "auth": None}


@pytest.mark.parametrize(
    ("source", "to", "select", "expected"),
    [
        pytest.param("a.io/a", "x.io/x", {"all": True}, destination(), id="all tags"),
        pytest.param("a.io/a:/^1/", "x.io/x", {"regex": "^1"}, destination(), id="pattern"),
        pytest.param("a.io/a:1", "x.io/x", {"tags": ["1"]}, destination(), id="tag kept"),
        pytest.param("a.io/a:1", "x.io/x:2", {"tags": ["1"]}, destination(["2"]), id="tag renamed"),
        pytest.param("a.io/a:2,1,2", "x.io/x", {"tags": ["2", "1"]}, destination(), id="tag twice"),
        pytest.param("a.io/a:1,1", "x.io/x:a,b", {"tags": ["1"]}, destination(["a", "b"]), id="tag to two"),
        pytest.param(f"a.io/a@{DIGEST}", "x.io/x", {"digest": DIGEST}, destination(digest=DIGEST), id="digest"),
        pytest.param(
            f"a.io/a@{DIGEST}", f"x.io/x@{DIGEST}", {"digest": DIGEST}, destination(digest=DIGEST), id="own digest"
        ),
        pytest.param(f"a.io/a@{DIGEST}", "x.io/x:1", {"digest": DIGEST}, destination(["1"]), id="digest to tag"),
        pytest.param(f"a.io/a:1@{DIGEST}", "x.io/x", {"digest": DIGEST}, destination(["1"]), id="tag and digest"),
    ],
)
def test_rule(source: str, to: str, select: dict[str, Any], expected: dict[str, Any]) -> None:
    document = check_document(parse_config(f'"{source}": "{to}"', environ={}))
    assert document == {
        "rules": [
            {"rule": 0, "source": "a.io/a", "select": select, "destinations": [expected], "source_auth": None},
        ],
        "warnings": [],
        "errors": [],
    }
    json.dumps(document)


def test_logins_are_named_by_their_keys_as_written() -> None:
    config = parse_config(
        """
        auth: {Index.Docker.io: {username: u, password: p}, x.io: {}, x.io/team/: {insecure: true}}
        images: {nginx: [x.io/team/nginx, x.io/nginx, y.io/nginx]}
        """,
        environ={},
    )
    (rule,) = check_document(config)["rules"]
    assert rule["source"] == "docker.io/library/nginx"
    assert rule["source_auth"] == "Index.Docker.io"
    assert [one["auth"] for one in rule["destinations"]] == ["x.io/team/", "x.io", None]


def test_warnings_and_errors() -> None:
    problem = Problem("found x, expected y", file="c.yaml", rule=3, field="source")
    document = check_document(SyncConfig(warnings=("look at this",)), [problem, Problem("all wrong")])
    assert document == {
        "rules": [],
        "warnings": ["look at this"],
        "errors": [
            {"file": "c.yaml", "rule": 3, "field": "source", "message": "found x, expected y"},
            {"file": None, "rule": None, "field": None, "message": "all wrong"},
        ],
    }
