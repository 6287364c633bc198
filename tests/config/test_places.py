from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from airflow_imagesync.config import Overrides, load_config, read_text, yaml_text
from airflow_imagesync.domain.check import check_document
from airflow_imagesync.errors import ConfigError, Problem


@pytest.fixture(params=["libyaml", "python"])
def either_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: the one in C is not there on every machine."""
    if request.param == "python":
        monkeypatch.setattr(yaml_text, "_Loader", yaml.SafeLoader)


def places(text: str, overrides: Overrides | None = None) -> list[str]:
    problems = read_text(text, name="rules", overrides=overrides, environ={}).problems
    return [str(problem).partition(": ")[0] for problem in problems]


NATIVE = """\
# a comment
registries:
  q.io:
    username: me
    passwd: x

  "bad registry": {}
defaults:
  retries: 99
  timeouts:
    connect: 1
    read: 0
rules:
- source: a.io/a
  destination:
  - b.io/b
- destination: b.io/b
  source: a.io/A
-
  source: a.io/a
- text
- {source: a.io/a, destination: b.io/c,
   platforms: [x]}
- source: a.io/a
  destination: b.io/d
  typo: 1
foo: 1
"""


@pytest.mark.usefixtures("either_loader")
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["Unix", "Windows"])
def test_every_part_of_a_configuration_knows_its_line(end: str) -> None:
    assert places(NATIVE.replace("\n", end)) == [
        "rules, line 5, registries.q.io.passwd",
        "rules, line 7, registries.bad registry",
        "rules, line 9, defaults.retries",
        "rules, line 12, defaults.timeouts.read",
        "rules, line 18, rule 1, source",
        "rules, line 20, rule 2, destination",
        "rules, line 21, rule 3",
        "rules, line 23, rule 4, platforms",
        "rules, line 26, rule 5, typo",
        "rules, line 27, foo",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a.io/a: b.io/b\n\na.io/A: b.io/b", ["rules, line 3, rule 1, source"], id="images"),
        pytest.param(
            "auth: {}\nimages:\n  a.io/a: b.io/b\n  a.io/A: b.io/b", ["rules, line 4, rule 1, source"], id="one file"
        ),
        pytest.param(
            "x-a: 1\ndefaults:\n  retries: x\na.io/a: b.io/B",
            ["rules, line 3, defaults.retries", "rules, line 4, rule 0, destination"],
            id="images with defaults",
        ),
        pytest.param(
            "- [a.io/a, b.io/b]\n- a.io/c\n- - a.io/A\n  - b.io/b\n- {source: A,\n   destination: b.io/b}",
            ["rules, line 2, rule 1", "rules, line 3, rule 2, source", "rules, line 5, rule 3, source"],
            id="list",
        ),
        pytest.param(
            "-\n  - source: A\n    destination: b.io/b\n-\n  - source: a.io/a\n    destination: B",
            ["rules, line 2, rule 0, source", "rules, line 6, rule 1, destination"],
            id="list of lists",
        ),
        pytest.param("source: a.io/a\ndestination: B", ["rules, line 2, rule 0, destination"], id="one rule"),
        pytest.param(
            "x-r: &r\n  source: A\nrules:\n- <<: *r\n  destination: b.io/b",
            ["rules, line 2, rule 0, source"],
            id="merged",
        ),
        pytest.param(
            "rules:\n- {source: a.io/a, destination: b.io/b,\n   source: a.io/b}",
            ["rules, line 3, rule 0, source"],
            id="twice",
        ),
        pytest.param(
            "a.io/a:1: b.io/b:1\na.io/b:1: b.io/b:1", ["rules, line 2, rule 1, destination"], id="two for one tag"
        ),
        pytest.param(
            '{\n\t"rules": [ // x\n\t{"source": "a.io/a", /* y\n*/ "destination": "b.io/B"},],\n"x": 1}',
            ["rules, line 4, rule 0, destination", "rules, line 5, x"],
            id="JSON",
        ),
        pytest.param('[\n"a.io/a b.io/b",\n"a.io/a"\n]', ["rules, line 3, rule 1"], id="JSON list"),
        pytest.param(
            '{"a.io/a": "b.io/b",\n"a.io/A": "\\ud83d\\ude00"}',
            ["rules, rule 1, source", "rules, rule 1, destination"],
            id="JSON that is no YAML",
        ),
        pytest.param("{a.io/A: b.io/b}", ["rules, rule 0, source"], id="all on one line"),
        pytest.param("rules: []\nregistries: {}", ["rules, line 1, rules"], id="no rules"),
    ],
)
def test_shapes(text: str, expected: list[str]) -> None:
    assert places(text) == expected


def test_what_is_said_on_top_of_a_text_has_no_line_in_it() -> None:
    """Not even where an image is called like the argument."""
    assert places("retries:1: b.io/b\nretries: b.io/c", Overrides(retries=99)) == ["retries"]


def test_problems_of_files_are_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("rules:\n- source: A\n  destination: b.io/b\n")
    with pytest.raises(ConfigError, match=rf"^{path}, rule 0, source: 'A' is not a repository"):
        load_config(path, environ={})


def test_check_does_not_show_lines() -> None:
    result = read_text("a.io/a: b.io/b\na.io/A: b.io/b", name="rules", environ={})
    assert [list(one) for one in check_document(result.config, result.problems)["errors"]] == [
        ["file", "rule", "field", "message"]
    ]


def test_the_place_of_a_problem() -> None:
    assert str(Problem("x", "f", 1, "source", 3)) == "f, line 3, rule 1, source: x"
    assert str(Problem("x", line=3)) == "line 3: x"
    assert Problem("x", line=3) == Problem("x", line=4)
