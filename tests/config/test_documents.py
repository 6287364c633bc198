from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from airflow_imagesync.config import yaml_text
from airflow_imagesync.config.documents import parse_document, read_document
from airflow_imagesync.config.plain import Odd, Table
from airflow_imagesync.errors import ConfigError


def plain(value: object) -> object:
    """Return tables as lists of pairs, to compare them."""
    if isinstance(value, Table):
        return [(key, plain(item)) for key, item in value.pairs]
    if isinstance(value, list):
        return ["list", *map(plain, value)]
    return value


@pytest.fixture(params=["libyaml", "python"])
def either_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: the one in C is not there on every machine."""
    if request.param == "python":
        monkeypatch.setattr(yaml_text, "_Loader", yaml.SafeLoader)


@pytest.mark.usefixtures("either_loader")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: b\na: c", [("a", "b"), ("a", "c")], id="repeated key"),
        pytest.param(
            "{a: [1, 1.5, true, no, null, ~, '1', x]}",
            [("a", ["list", 1, 1.5, True, False, None, None, "1", "x"])],
            id="scalars",
        ),
        pytest.param("a: &x {b: 1}\nc: *x", [("a", [("b", 1)]), ("c", [("b", 1)])], id="alias"),
        pytest.param("a: &x b\nc: [*x, *x]", [("a", "b"), ("c", ["list", "b", "b"])], id="alias of a text"),
        pytest.param(
            "x: &x {b: 1, c: 2}\na: {<<: *x, c: 3}",
            [("x", [("b", 1), ("c", 2)]), ("a", [("b", 1), ("c", 3)])],
            id="merge",
        ),
        pytest.param(
            "a: {c: 3, <<: [{c: 1, d: 1}, {d: 2, e: 2}]}", [("a", [("d", 1), ("e", 2), ("c", 3)])], id="merge of a list"
        ),
        pytest.param("a: {<<: {b: 1, b: 2}}", [("a", [("b", 1), ("b", 2)])], id="merge keeps repeated keys"),
        pytest.param("'<<': b\nc: <<", [("<<", "b"), ("c", "<<")], id="merge sign as a text"),
        pytest.param("a: !!str 1.10", [("a", "1.10")], id="text by tag"),
        pytest.param("a: =", [("a", "=")], id="value sign"),
        pytest.param("a: 2024-01-31", [("a", Odd("a date"))], id="date"),
        pytest.param("a: 2024-13-45", [("a", Odd("a date"))], id="impossible date"),
        pytest.param("a: !!int x", [("a", Odd("a number"))], id="impossible number"),
        pytest.param("a: !!bool x", [("a", Odd("a truth value"))], id="impossible truth value"),
        pytest.param("a: !secret x", [("a", Odd("a value with a YAML tag (!name)"))], id="own tag"),
        pytest.param(
            "a: !!python/object/apply:os.system [x]", [("a", Odd("a value with a YAML tag (!name)"))], id="code"
        ),
        pytest.param("[a]: b", [(Odd("a list or mapping"), "b")], id="list as key"),
        pytest.param("1: b\n~: c", [(1, "b"), (None, "c")], id="other keys"),
        pytest.param("10.0.0.5:5000: x", [("10.0.0.5:5000", "x")], id="host and port"),
        pytest.param("--- \na: b\n...\n", [("a", "b")], id="one document with marks"),
        pytest.param("{}", [], id="nothing"),
    ],
)
def test_yaml(text: str, expected: object) -> None:
    assert plain(parse_document(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"a": "b", "a": "c"}', [("a", "b"), ("a", "c")], id="repeated key"),
        pytest.param(
            '{"a": [1, 1.5, true, null, {"b": []}]}',
            [("a", ["list", 1, 1.5, True, None, [("b", ["list"])]])],
            id="values",
        ),
        pytest.param('// x\n{"a": /* y\n */ "b" // z\n}', [("a", "b")], id="comments"),
        pytest.param('/* x */ {"a": "b"} // z', [("a", "b")], id="comment at the end"),
        pytest.param(
            '{"a": "// b", "c": "/* d */"} //', [("a", "// b"), ("c", "/* d */")], id="comment signs in texts"
        ),
        pytest.param(r'{"a\"//": "b\\"} // c', [('a"//', "b\\")], id="escapes"),
        pytest.param('{"a": ["b",], }', [("a", ["list", "b"])], id="last comma"),
        pytest.param('{"a": "b,]"} //', [("a", "b,]")], id="comma in a text"),
        pytest.param('{"a": NaN}', [("a", Odd("the number NaN"))], id="not a number"),
        pytest.param('{"a": %s}' % ("9" * 5000), [("a", Odd("a number without end"))], id="huge number"),
        pytest.param('\ufeff{"a": 1}', [("a", 1)], id="byte order mark"),
    ],
)
def test_json(text: str, expected: object) -> None:
    assert plain(parse_document(text, suffix=".json")) == expected
    assert plain(parse_document(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "line 2, column 1: not YAML", id="open list"),
        pytest.param("a: b\n c: d", "line 2, column 3: not YAML", id="indentation"),
        pytest.param("a: b: c", "line 1, column 5: not YAML", id="two colons"),
        pytest.param("a: b\nc d\ne: f", "line 2, column 1: not YAML: a key without a colon behind it", id="no colon"),
        pytest.param("a: b\n\tc: d", "line 2, column 1: not YAML", id="tab"),
        pytest.param("a: *b", r"line 1, column 4: an alias \(\*name\) without its anchor", id="alias without anchor"),
        pytest.param("a: &x [*x]", "line 1, column 8: an alias stands inside of what it repeats", id="endless alias"),
        pytest.param("a: {<<: b}", "'<<' takes a mapping", id="merge of a text"),
        pytest.param("a: {<<: [{}, b]}", "'<<' takes a mapping", id="merge of a list of texts"),
        pytest.param("a: b\n---\nc: d", "line 2, column 1: a second document begins", id="two documents"),
        pytest.param("a: \x00", "near line 1: a character that YAML does not allow", id="control character"),
        pytest.param("a: \ud800", "half a character", id="lone surrogate"),
        pytest.param('{"a": "\ud800"}', "half a character", id="lone surrogate in JSON"),
        pytest.param('{"a": [["\\ud800"]]}', "half a character", id="lone surrogate as an escape"),
        pytest.param('{"\\udfff": 1}', "half a character", id="lone surrogate as an escape in a key"),
        pytest.param("[" * 100_000, "line 1, column 65: values are nested more than 64 deep", id="deep flow"),
        pytest.param("- " * 100_000 + "a", "values are nested more than 64 deep", id="deep block"),
        pytest.param('{"a": 1', "line 1, column 8: not JSON: Expecting", id="open object"),
        pytest.param(
            '{"a":\n  // x\n  /* y\n  z */\n b}',
            "line 5, column 2: not JSON: Expecting value",
            id="position behind comments",
        ),
        pytest.param(
            '{"a": [1,],\n"b": }', "line 2, column 6: not JSON: Expecting value", id="position behind last commas"
        ),
        pytest.param('{"a": 1} x', "line 1, column 10: not JSON: Extra data", id="text behind the end"),
        pytest.param('{"a":' * 100_000, "values are nested more than 64 deep", id="deep object"),
        pytest.param(
            '// x\n{"a":' * 100_000, "values are nested more than 64 deep|not JSON", id="deep object with comment"
        ),
        pytest.param("", "found nothing, expected a configuration", id="empty"),
        pytest.param(" \n\t", "found nothing", id="blank"),
        pytest.param("# comment\n", "found nothing", id="comment only"),
        pytest.param("null", "found nothing", id="null"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_document(text, name="rules")
    (problem,) = caught.value.problems
    assert (problem.file, problem.rule, problem.field) == ("rules", None, None)
    assert "\n" not in problem.message


@pytest.mark.usefixtures("either_loader")
@pytest.mark.parametrize(
    "text",
    [
        "password: *s3cret",
        "password: @s3cret",
        "password: %s3cret",
        "password: s3cret: x",
        "password: [s3cret",
        'password: "s3cret',
        "password: 's3cret' s3cret",
        "password: !!python/none s3cret\n---\na",
        '{"password": s3cret}',
        '{"password": "s3cret}',
    ],
)
def test_mistakes_show_nothing_of_the_text(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text)
    assert "s3cret" not in str(caught.value)


def test_aliases_can_not_be_used_to_exhaust_memory() -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 5000000 values, counting each time what aliases repeat"):
        parse_document("\n".join(lines))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.yaml", "a: b", [("a", "b")]),
        ("a.YML", "a: b", [("a", "b")]),
        ("a.json", '{"a": "b"}', [("a", "b")]),
        ("a.yaml", '{"a": "b"}', [("a", "b")]),
        ("a.conf", "a: b", [("a", "b")]),
        ("a.conf", '// x\n{"a": "b"}', [("a", "b")]),
        ("a", "\ufeffa: b", [("a", "b")]),
        ("a", "{a: b}", [("a", "b")]),
        ("a", "{'a': 'b'}", [("a", "b")]),
        ("a", '/**/ { // x\n"a": "b"}', [("a", "b")]),
        ("a", "{ /**/ }", []),
        ("a", "[ /**/ ]", ["list"]),
        ("a", '[{ // x\n"a": "b"}]', ["list", [("a", "b")]]),
        ("a", "[{'a': 'b'}, a]", ["list", [("a", "b")], "a"]),
    ],
)
def test_suffix_or_text_decides_the_format(tmp_path: Path, name: str, content: str, expected: object) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert plain(read_document(path)) == expected


def test_yaml_in_a_json_file_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("a: b")
    with pytest.raises(ConfigError, match="line 1, column 1: not JSON"):
        read_document(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file; check the path, and that it is on this machine"),
        (b"a: b\nc: \xff\xfe", "line 2 is not UTF-8 text"),
        ("a: b".encode("utf-16"), "line 1 is not UTF-8 text"),
        (b"", "found nothing, expected a configuration"),
    ],
    ids=["missing", "latin", "utf-16", "empty"],
)
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}: {message}"


def test_directories_and_impossible_paths(tmp_path: Path) -> None:
    for path, message in (
        (str(tmp_path), "found a directory, expected a file"),
        ("a\0b", "the file can't be read"),
        ("a" * 5000, "the file can't be read: File name too long"),
        (str(tmp_path / "a.yaml" / "b"), "there is no such file; check the path, and that it is on this machine"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_document(path)
    (tmp_path / "a.yaml").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        read_document(tmp_path / "a.yaml" / "b")


def test_endless_files_are_refused() -> None:
    with pytest.raises(ConfigError, match="larger than 64 MiB"):
        read_document("/dev/zero")


def test_rows_of_slashes_take_no_time() -> None:
    assert plain(parse_document("/" * 100_000 + "\n{" + "// " * 100_000 + '\n"a": "b"}')) == [("a", "b")]
