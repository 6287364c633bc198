from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, overload

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.config import Overrides
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.operators.arguments import said
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.open_rules import parse_open_rules
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.task import Run

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")


class Lazy(Sequence[Any]):
    """What a mapped task returned, as Airflow hands it on: a sequence that is no list."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)


def labels(value: object) -> list[str]:
    return [rule.label for rule in parse_open_rules(said(value) or "", "rules", Overrides()).rules]


def told(value: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        labels(value)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.io/a b.io/b\n", ["a.io/a -> b.io/b"]),
        ("a.io/a: b.io/b", ["a.io/a -> b.io/b"]),
        ([{"source": "a.io/a", "destination": "b.io/b"}], ["a.io/a -> b.io/b"]),
        ([("a.io/a", "b.io/b")], ["a.io/a -> b.io/b"]),
        ((("a.io/a", ("b.io/b", "c.io/c")),), ["a.io/a -> b.io/b, c.io/c"]),
        (["a.io/a:/^v{1}: #/ b.io/b"], ["a.io/a:/^v{1}: #/ -> b.io/b"]),
        ({"a.io/a": ["b.io/b"]}, ["a.io/a -> b.io/b"]),
        (MappingProxyType({"a.io/a": ("b.io/b",)}), ["a.io/a -> b.io/b"]),
        ({"rules": [{"source": "a.io/a", "destination": "b.io/b"}]}, ["a.io/a -> b.io/b"]),
        (
            Lazy(Lazy({"source": "a.io/a", "destination": "b.io/b"}), [], ("c.io/c", "d.io/d"), "e.io/e f.io/f"),
            ["a.io/a -> b.io/b", "c.io/c -> d.io/d", "e.io/e -> f.io/f"],
        ),
        ([], []),
        ({}, []),
        (Lazy([], []), []),
        ({"images": {}}, []),
    ],
)
def test_rules_come_as_text_or_as_what_a_task_returned(value: object, expected: list[str]) -> None:
    assert labels(value) == expected


def test_all_mistakes_of_a_text_are_told_with_their_lines() -> None:
    text = "\n# mine\na.io/A b.io/b\nc.io/c\r\n$HOME/d d.io/d\nregistries: x\n"
    assert [one.partition(" ")[0] + one[one.index(" ") : 50] for one in told(text)] == [
        "rules, line 3, source: 'a.io/A' is not a repositor",
        "rules, line 4: found one word, expected source and",
        "rules, line 5, source: the environment variable 'H",
        "rules, line 6: found a colon behind the first word",
    ]
    assert told(text)[2].endswith("rules given as text don't see the worker's environment")


def test_all_mistakes_of_yaml_are_told_with_their_lines() -> None:
    text = (
        "registries:\n  q.io: {max_concurrent: 0}\nrules:\n- source: q.io/a\n- {source: q.io/A, destination: b.io/b}\n"
    )
    assert [one.partition(": ")[0] for one in told(text)] == [
        "rules, line 2, registries.q.io.max_concurrent",
        "rules, line 4, rule 0, destination",
        "rules, line 5, rule 1, source",
    ]


@pytest.mark.parametrize(
    "value", [{"q.io": {"username": "u", "password": "hunter22"}}, {"q.io": {"password": "hunter22"}}]
)
@pytest.mark.parametrize("write", [json.dumps, dict])
def test_credentials_are_refused_and_not_shown(value: dict[str, Any], write: Any) -> None:
    (message,) = told(write({"registries": value, "rules": []}))
    assert message.startswith("rules: the entry q.io holds credentials, which would be stored in plain text")
    assert "hunter22" not in message


@pytest.mark.parametrize("value", [None, "", "  \n", " None "])
def test_nothing_is_said(value: object) -> None:
    assert said(value) is None


@pytest.mark.parametrize("text", ["# only a comment", "\ufeff", "~", "rules:"])
def test_a_text_without_rules_is_a_mistake(text: str) -> None:
    (message,) = told(text)
    assert "found no" in message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{1, 2}], "found a set in a list or mapping, expected texts, numbers, lists, mappings"),
        ({"a.io/a": b"b.io/b"}, "found a bytes in a list or mapping"),
        ({("a", "b"): "c"}, "found a key that is no text in a mapping"),
    ],
)
def test_what_json_can_not_say_is_a_mistake(value: object, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        said(value)


def test_a_list_inside_of_itself_is_a_mistake() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="inside of itself"):
        said(endless)


def test_what_else_an_argument_may_be() -> None:
    assert [said(one) for one in (3, True, PurePosixPath("a/b"), [PurePosixPath("a/b")])] == [
        "3",
        "True",
        "a/b",
        '["a/b"]',
    ]


@pytest.mark.parametrize("rules", [[], {}, "[]", {"rules": []}, Lazy()])
def test_an_empty_list_of_rules_is_an_empty_plan(rules: object) -> None:
    run = Run()
    assert run.execute(ImageSyncPlanOperator(task_id="plan", rules=rules)) == []
    assert run.xcom("plan", "plan")["totals"] == {"new": 0, "changed": 0, "same": 0, "failed": 0}
    assert run.xcom("plan", "unchanged") == []


@pytest.mark.parametrize("rules", ["", "# nothing", "rules:"])
def test_an_empty_text_is_a_mistake(rules: str) -> None:
    run = Run()
    with pytest.raises(AirflowFailException, match=r"nothing says what to sync|found nothing|found no rules"):
        run.execute(ImageSyncPlanOperator(task_id="plan", rules=rules))
    assert run.xcom("plan", "plan")["error"]


def test_a_mistake_is_the_tasks_message_and_no_registry_is_asked(
    source_registry: DistributionRegistry, repository_prefix: str
) -> None:
    source = f"{source_registry.host}/{repository_prefix}/app"
    run = Run()
    before = len(source_registry.requests_log())
    with pytest.raises(AirflowFailException) as caught:
        run.execute(ImageSyncPlanOperator(task_id="plan", rules=f"{source} b.io/b\n{source}\n{source} b.io/B"))
    assert [line[:60] for line in str(caught.value).splitlines()] == [
        "rules, line 2: found one word, expected source and destinati",
        "rules, line 3, destination: 'b.io/B' is not a repository; ex",
    ]
    assert run.xcom("plan", "plan")["error"] == str(caught.value)
    assert len(source_registry.requests_log()) == before


@pytest.mark.parametrize("form", ["lines", "rules", "pairs", "texts", "images"])
def test_rules_of_every_form_copy(
    form: str,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
    connections: Any,
) -> None:
    images.push(source_registry.url, f"{repository_prefix}/app", ONE, ["v1", "v2", "latest"])
    connections(
        source={"host": source_registry.host, "extra": {"insecure": True}},
        destination={"host": destination_registry.host, "extra": {"insecure": True}},
    )
    source = f"{source_registry.host}/{repository_prefix}/app:/^v[0-9]{{1,2}}$/"
    destination = f"{destination_registry.host}/{repository_prefix}/{form}"
    rules: dict[str, str | Mapping[str, str] | Sequence[object]] = {
        "lines": f"# what to copy\r\n{source}\t{destination} # all versions\r\n",
        "rules": [{"source": source, "destination": destination}],
        "pairs": [(source, [destination])],
        "texts": [f"{source} {destination}"],
        "images": {source: destination},
    }
    sides = {"source_conn_id": "source", "destination_conn_id": "destination", "rules": rules[form]}
    run = Run()
    (unit,) = run.execute(ImageSyncPlanOperator(task_id="plan", **sides))
    result = run.execute(ImageSyncOperator(task_id="sync", unit=unit, **sides), map_index=0)
    assert result["copied"] == 2
    assert run.execute(ImageSyncPlanOperator(task_id="plan", **sides)) == []
    assert [row[4] for row in run.xcom("plan", "unchanged")] == [ONE.digest] * 2
