from __future__ import annotations

import json
import time

import pytest
import yaml

from airflow_imagesync.kubernetes import yaml_nodes
from airflow_imagesync.kubernetes.yaml_nodes import (
    MAX_DEPTH,
    MalformedText,
    Mapping,
    Scalar,
    Sequence,
    content_span,
    read_nodes,
)


def value_of(text: str, key: str = "a", **options: bool) -> Scalar:
    document = read_nodes(text, **options)[0]
    assert isinstance(document, Mapping)
    found = document.find(key)
    assert isinstance(found, Scalar)
    return found


@pytest.fixture(params=["c", "python"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """PyYAML is there with and without its half that is written in C."""
    if request.param == "python":
        monkeypatch.setattr(yaml_nodes, "_Loader", yaml.SafeLoader)
    return str(request.param)


@pytest.mark.parametrize(
    ("written", "content"),
    [
        ("nginx:1", "nginx:1"),
        ("nginx:1   # comment", "nginx:1"),
        ("'nginx:1' # comment", "'nginx:1'"),
        ('"nginx\\x3a1"', '"nginx\\x3a1"'),
        ("&anchor nginx:1", "nginx:1"),
        ("!!str &anchor  nginx:1", "nginx:1"),
        ("&anchor !<tag:yaml.org,2002:str> 'nginx:1'", "'nginx:1'"),
        ("! nginx:1", "nginx:1"),
        ("&anchor # & !not a: tag\n  nginx:1\n", "nginx:1"),
        ("\n  nginx:1\n", "nginx:1"),
        (">- # nginx:1\n\n   nginx:1\n\n# more", "nginx:1"),
        ("|2\r\n   nginx:1\r\n", "nginx:1"),
        ("&a |\n  nginx:1\n", "nginx:1"),
        ("nginx:1 \r\nb: é😀\r\n", "nginx:1"),
    ],
)
@pytest.mark.parametrize("before", ["", "é: 😀\n", '# comment\r\nx: "\u2028\x85\\\n  y"\r\n---\r\n'])
def test_a_value_knows_its_own_characters(before: str, written: str, content: str) -> None:
    text = f"{before}a: {written}"
    (*_, document) = read_nodes(text)
    assert isinstance(document, Mapping)
    node = document.find("a")
    assert isinstance(node, Scalar)
    assert (node.value.strip(), node.is_text) == ("nginx:1", True)
    span = content_span(text, node)
    assert span is not None
    assert text[slice(*span)] == content


@pytest.mark.parametrize("written", ["ngi\n  nx", ">\n  ngi\n  nx\n"])
def test_a_value_over_several_lines_has_no_place(written: str) -> None:
    text = f"a: {written}"
    assert content_span(text, value_of(text)) is None


@pytest.mark.parametrize(
    ("written", "is_text", "is_null"),
    [
        ("x", True, False),
        ("1", False, False),
        ("true", False, False),
        ("~", False, True),
        ("", False, True),
        ("'1'", True, False),
    ],
)
def test_what_is_no_text_is_known(written: str, is_text: bool, is_null: bool) -> None:
    node = value_of(f"a: {written}")
    assert (node.is_text, node.is_null) == (is_text, is_null)


def test_json_is_read_with_what_only_json_allows() -> None:
    text = json.dumps({"smile": "😀", "slash": "a\\", "path": "\\ud83d", "a": "nginx:1"}, indent="\t")
    text = text.replace("nginx", "x\\/nginx")
    node = value_of(text, is_json=True)
    assert node.value == "x/nginx:1"
    assert text[slice(*content_span(text, node) or ())] == '"x\\/nginx:1"'


def test_aliases_are_the_same_node() -> None:
    (document,) = read_nodes("a: &x [1]\nb: *x\n")
    assert isinstance(document, Mapping)
    assert document.find("a") is document.find("b")
    assert isinstance(document.find("a"), Sequence)


def test_merged_keys_are_found_behind_own_ones() -> None:
    (document,) = read_nodes("x: &x {a: merged, b: 1}\ny: &y {a: other, c: 2}\nz: {<<: [*x, *y], b: own}\n")
    assert isinstance(document, Mapping)
    merged = document.find("z")
    assert isinstance(merged, Mapping)
    assert [merged.text(key) for key in ("a", "b", "d")] == ["merged", "own", None]
    assert merged.find("c") is not None


def test_what_grows_without_end_does_not() -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    merges = "b0: &b0 {x: z}\n" + "".join(
        f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, 40)
    )
    started = time.monotonic()
    (document,) = read_nodes(laughs + merges)
    assert isinstance(document, Mapping)
    last = document.find("b39")
    assert isinstance(last, Mapping)
    assert last.text("x") == "z"
    assert last.find("nothing") is None
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: b\nc: [d\n", 3, "while parsing a flow sequence"),
        ("a: b\nc: *d\n", 2, "an alias without its anchor"),
        ("a:\n  - &b [*b]\n", 2, "an alias inside of what it repeats"),
        (f"a: b\nc: {'[' * (MAX_DEPTH + 1)}", 2, "nested more than"),
        ("a: b\n\x00", 2, "a character that YAML does not allow"),
        ("a: {{ x }}\n{{- if y }}\nb: c\n", 3, "expected ':'|<block end>|expected key"),
    ],
)
def test_a_mistake_has_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(MalformedText, match=problem) as caught:
        read_nodes(text)
    assert caught.value.line == line


def test_deep_nesting_does_not_end_the_process() -> None:
    with pytest.raises(MalformedText):
        read_nodes("[" * 200_000)


def test_documents_are_separate() -> None:
    assert len(read_nodes("a: 1\n---\n---\nb: 2\n...\n")) == 3
    assert read_nodes("# nothing\n") == []
    with pytest.raises(MalformedText):
        read_nodes("a: &x 1\n---\nb: *x\n")
